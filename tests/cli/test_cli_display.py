"""What a run says on standard error while it trains, where there is no terminal."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ganno_bench.bench.plan import Job
from ganno_bench.bench.progress import Scope
from ganno_bench.bench.runner import Settings, run_suite
from ganno_bench.cli.display import RunDisplay
from ganno_bench.workloads.suite import Budget
from tests.helpers.fake_records import make_record
from tests.helpers.tiny_suite import SMALL, write_suite

BUDGET = Budget(trials=8, tuning_seeds=2, report_seeds=3, batch=4, startup_trials=4)


def scope(n_done: int = 0) -> Scope:
    return Scope("ladder", ["a", "b", "c"], ["cosine", "wsd"], ["policy:ganno"], BUDGET, 123, n_done)


def lines(display: RunDisplay, capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that sets the time, which is 0 at first."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, seconds)


def test_the_first_line_comes_before_pytorch() -> None:
    code = (
        "import sys\n"
        "class Stop:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise SystemExit(7)\n"
        "sys.meta_path.insert(0, Stop())\nsys.argv = ['ganno-bench', 'run', 'quickstart']\n"
        "from ganno_bench.cli.main import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (7, "suite quickstart: loading PyTorch and the data of 5 workloads\n")


def test_what_will_be_trained(capsys: pytest.CaptureFixture[str]) -> None:
    display = RunDisplay()
    display.planned(scope())
    display.planned(scope(n_done=23))
    assert lines(display, capsys) == [
        "suite ladder: 2 tuned entries on 3 workloads, for each: 8 trials with 2 tuning seeds, then 3 report seeds",
        "suite ladder: 1 zero-shot entry on 3 workloads, for each: 3 report seeds",
        "123 training runs in total",
        "suite ladder: 2 tuned entries on 3 workloads, for each: 8 trials with 2 tuning seeds, then 3 report seeds",
        "suite ladder: 1 zero-shot entry on 3 workloads, for each: 3 report seeds",
        "123 training runs in total, 23 of them already recorded",
    ]


def test_an_estimate_follows_soon_and_then_now_and_then(
    capsys: pytest.CaptureFixture[str], clock: Callable[[float], None]
) -> None:
    display = RunDisplay()
    display.planned(scope())
    display.started("suite ladder", 1000.0, 200.0)
    display.job_started(Job("b", "wsd", "tuning", 0, range(4), 2), 8)
    lines(display, capsys)
    for seconds, cost in ((1, 2), (3, 3), (4, 35), (10, 20), (34, 280), (100, 400)):
        clock(seconds)
        display.advanced(cost)
    assert lines(display, capsys) == [
        "24% done, about 1 min left",  # 40 of 800 in 4 seconds
        "54% done, about 46 s left",  # 340 of 800 in 34 seconds
        "94% done, about 8 s left",
    ]


def test_the_first_workload_has_a_table_and_later_ones_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        make_record(scheduler=name, workload="b", test_loss=loss) for name, loss in (("cosine", 0.5), ("wsd", 0.4))
    ]
    display = RunDisplay(standings=True)
    display.planned(scope())
    lines(display, capsys)
    display.workload_finished("a", records, resumed=True)
    assert lines(display, capsys) == []
    display.workload_finished("b", records, resumed=False)
    assert lines(display, capsys) == [
        "Preliminary, workload 2 of 3: b, median test loss over 1 report seed",
        "        Test loss  Against",
        "Entry      (nats)   cosine",
        "──────────────────────────",
        "wsd        0.4000  -20.0 %",
        "cosine     0.5000   +0.0 %",
        "scores and ranks follow when all workloads have finished",
    ]
    display.workload_finished("b", records, resumed=False)
    assert lines(display, capsys) == [
        "workload 2 of 3 has finished: b; lowest median test loss: wsd, 0.4000 nats, -20.0 % against cosine"
    ]
    display.workload_finished("c", records, resumed=False)  # the final tables follow at once
    assert lines(display, capsys) == []


def test_an_evaluation_shows_no_test_loss(capsys: pytest.CaptureFixture[str]) -> None:
    display = RunDisplay()
    display.planned(scope())
    lines(display, capsys)
    display.workload_finished("a", [make_record(workload="a")], resumed=False)
    assert lines(display, capsys) == []


def test_a_run_and_its_resumption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = write_suite(tmp_path)
    settings = Settings(suite=str(suite), schedulers=["constant"], out=tmp_path / "out", **SMALL)
    display = RunDisplay(standings=True)
    run_suite(settings, display)
    first = lines(display, capsys)
    assert any(line.startswith("Preliminary, workload 1 of 2: sgd-mlp") for line in first)
    files = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    assert not any(b"Preliminary" in content for content in files.values())
    display = RunDisplay(standings=True)
    run_suite(settings, display)
    again = lines(display, capsys)
    assert again[1] == "8 training runs in total, 8 of them already recorded"
    assert not any("Preliminary" in line or "workload 1" in line for line in again)


@pytest.mark.parametrize(
    ("compiler", "names", "expected"),
    [
        ("g++: 13", {"a": "compiled", "b": "compiled"}, []),
        (
            "g++: 13",
            {"a": "compiled", "b": "vmap", "c": "loop"},
            [
                "compiled code: 1 of 3 workloads (the others do not repay compiling yet; --backend compiled "
                "compiles all)"
            ],
        ),
        (None, {"a": "vmap"}, ["compiled code: 0 of 1 workload (there is no C++ compiler, such as g++)"]),
    ],
)
def test_one_line_says_why_code_is_not_compiled(
    compiler: str | None,
    names: dict[str, str],
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ganno_bench.training.packages.compiler", lambda: compiler)
    display = RunDisplay()
    display.backends(names)
    assert lines(display, capsys) == expected


def test_names_and_errors_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    RunDisplay().failed("w", "[red]", "mine.py:100: no :x: here")
    assert lines(RunDisplay(), capsys) == ["failed: [red] on w: mine.py:100: no :x: here"]


def test_the_progress_bar_takes_a_name_for_no_markup() -> None:
    display = RunDisplay()
    display.planned(scope())
    display.job_started(Job("a", "a(mode='[/b]')", "report", 0, range(0), 2), 2)
    Console(file=io.StringIO(), width=80).print(display._live)
