"""`run`, `table` and `plot`, from a suite to what people look at."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ganno_bench.api import load_records
from ganno_bench.core.records import dump_record
from tests.helpers.command_line import Call
from tests.helpers.fake_records import ENTRIES, fake_benchmark
from tests.helpers.resealed import resealed
from tests.helpers.tiny_suite import SMALL, write_plugin, write_suite
from tests.helpers.varied_records import varied_benchmark

pytestmark = pytest.mark.usefixtures("undrawn")

OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run directory with made-up records: two workloads, three schedulers."""
    entries = {name: ENTRIES[name] for name in ("constant", "cosine", "wsd")}
    records = fake_benchmark(["mlp-depth-2", "mlp-depth-8"], entries, n_seeds=3, n_trials=4)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "records.jsonl").write_text("".join(dump_record(record) + "\n" for record in records))
    return tmp_path / "out"


def test_a_run_ends_with_the_standings_and_where_everything_lies(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    suite = str(write_suite(tmp_path))
    broken = write_plugin(tmp_path, ("return Controls(lr), state", "raise RuntimeError('out of order')"))
    words = [
        "run",
        suite,
        *OPTIONS,
        "--out",
        str(out),
        "--threads",
        "1",
        "--scheduler",
        "cosine",
        "--scheduler",
        broken,
    ]
    said = call(*words)
    assert said.code == 1  # the others went on
    assert re.search(r"^ *1 +cosine", said.out, re.MULTILINE)
    for path in (out / "records.jsonl", out / "standings.md", out / "plots"):
        assert str(path) in said.out
        assert path.exists()
    assert f"2 failed (each: an entry on a workload); see {out / 'failures.jsonl'}\n" in said.out
    first = said.err.splitlines()[:5]
    assert first.pop(3).startswith("compiled code: 0 of 2 workloads (")
    assert first == [
        "suite tiny: loading PyTorch and the data of 2 workloads",
        "suite tiny: 2 tuned entries on 2 workloads, for each: 2 trials with 1 tuning seed, then 2 report seeds",
        "16 training runs in total",
        "workload 1 of 2: sgd-mlp",
    ]
    assert "workload 2 of 2: adam-mlp" in said.err
    assert "Preliminary, workload 1 of 2: sgd-mlp, median test loss over 2 report seeds" in said.err
    assert said.err.rstrip().endswith("training has finished; writing tables and plots")
    assert said.out.index("Only the reference") < said.out.index("Suite tiny@") < said.out.index("Where to go next")
    assert "submit the result" in said.out  # after a scheduler from a file
    assert "write a scheduler" not in said.out
    reason = "failed: mine on adam-mlp: scheduler 'mine': step raised RuntimeError: out of order"
    assert reason in " ".join(said.err.split())
    assert len(json.loads((out / "failures.jsonl").read_text().splitlines()[0])["traceback"].splitlines()) > 5
    frame = load_records(out)
    assert list(frame.groupby(["workload", "role"], sort=False).size()) == [2, 2, 2, 2]
    assert frame["config"][0]["base_lr"] == 0.01
    assert frame["metrics.test_loss"].notna().sum() == 4


def test_a_run_without_a_reference_says_so(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    suite = write_suite(tmp_path)
    said = call("run", str(suite), *OPTIONS, "--out", str(out), "--threads", "1", "--scheduler", "constant")
    assert said.code == 0
    note = "no standings: workload 'adam-mlp' of tiny@a76109be236c71c1 has no reference to score against"
    assert said.out.startswith(note)
    assert "Where to go next" not in said.out  # which speaks of tables
    assert (out / "records.jsonl").exists()


@pytest.fixture
def varied(tmp_path: Path) -> Path:
    """A record file of a suite that varies something."""
    records = varied_benchmark({"cosine": 1.0, "sturdy": 0.5})
    (tmp_path / "varied.jsonl").write_text("".join(dump_record(record) + "\n" for record in records))
    return tmp_path / "varied.jsonl"


@pytest.mark.parametrize(
    ("format_", "mark"), [("rich", "P(better)"), ("markdown", "# Standings"), ("latex", "caption")]
)
def test_what_a_suite_varies_stands_below_the_standings(call: Call, varied: Path, format_: str, mark: str) -> None:
    title = "Robustness: mean scores with one factor changed"
    both = call("table", str(varied), "--format", format_).out
    assert 0 <= both.index(mark) < both.index(title)
    alone = call("table", str(varied), "--format", format_, "--robustness").out
    assert "".join(both.split()).endswith("".join(alone.split()))
    assert "Mean rank" not in alone


def test_as_csv_the_two_are_separate_tables(call: Call, varied: Path, out: Path) -> None:
    plain = list(csv.DictReader(io.StringIO(call("table", str(varied), "--format", "csv").out)))
    assert {row["table"] for row in plain} == {"tuned"}
    rows = list(csv.DictReader(io.StringIO(call("table", str(varied), "--format", "csv", "--robustness").out)))
    assert {row["factor"] for row in rows} == {"", "base_lr", "horizon"}
    said = call("table", str(out), "--robustness")
    assert said.code == 2
    assert said.err == "error: option --robustness: suite 'ladder' has no entry with all of its varied runs\n"


@pytest.mark.slow(group="pages")
def test_a_run_that_varies_something_writes_and_shows_it(call: Call, tmp_path: Path) -> None:
    variation = "[variation]\nhorizon = [0.5]\nseeds = 2\n\n[dataset.digits]\n"
    suite = write_suite(tmp_path, ("[dataset.digits]\n", variation))
    words = ["run", str(suite), *OPTIONS, "--out", str(tmp_path / "out"), "--backend", "loop", "--scheduler", "cosine"]
    said = call(*words)
    assert said.code == 0
    assert "horizon 0.5x" in said.out
    assert str(tmp_path / "out" / "robustness.md") in said.out
    assert (tmp_path / "out" / "plots" / "robustness.png").exists()
    assert list(load_records(tmp_path / "out").groupby("role").size()[["report", "varied"]]) == [4, 4]


def test_a_table_for_people(call: Call, out: Path) -> None:
    said = call("table", str(out))
    assert said.code == 0
    for name in ("constant", "cosine", "wsd", "mlp-depth-8"):
        assert name in said.out


def test_a_table_in_markdown(call: Call, out: Path) -> None:
    said = call("table", str(out), "--format", "markdown")
    rows = [line.split("|")[1:-1] for line in said.out.splitlines() if line.startswith("|")]
    assert {"constant", "cosine", "wsd"} <= {cell.strip(" *") for row in rows for cell in row}
    assert re.search(r"^\|[ :|-]+\|$", said.out, re.MULTILINE)


def test_a_table_for_other_programs(call: Call, out: Path) -> None:
    said = call("table", str(out), "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert {"constant", "cosine", "wsd"} <= {row["entry"] for row in rows}
    assert all(None not in row and None not in row.values() for row in rows)


def test_a_table_for_a_paper(call: Call, out: Path) -> None:
    said = call("table", str(out), "--format", "latex")
    assert said.code == 0
    assert said.out.count(r"\begin{tabular}") == said.out.count(r"\end{tabular}") >= 1
    assert said.out.endswith("\n")


@pytest.mark.slow(group="pages")
def test_plots_are_written_and_named(call: Call, out: Path, tmp_path: Path) -> None:
    said = call("plot", str(out), "--out", str(tmp_path / "pictures"))
    assert said.code == 0
    written = sorted(path for path in (tmp_path / "pictures").rglob("*") if path.is_file())
    assert sorted(map(Path, said.out.split())) == written
    assert {path.suffix for path in written} == {".png", ".svg"}
    assert all(path.stat().st_size > 1000 for path in written)


def test_several_runs_make_one_table(call: Call, out: Path, tmp_path: Path) -> None:
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    for name in ("constant", "cosine", "wsd"):
        (tmp_path / f"{name}.jsonl").write_text("".join(line for line in lines if f'"scheduler":"{name}"' in line))
    files = [str(tmp_path / f"{name}.jsonl") for name in ("wsd", "constant", "cosine")]
    assert call("table", *files, "--format", "csv").out == call("table", str(out), "--format", "csv").out


def test_custom_runs_are_not_mixed_in(call: Call, out: Path, tmp_path: Path) -> None:
    custom = (out / "records.jsonl").read_text().replace('"custom":false', '"custom":true').replace("wsd", "mine")
    (tmp_path / "custom.jsonl").write_text(resealed(custom))
    said = call("table", str(out), str(tmp_path / "custom.jsonl"))
    assert said.code == 2
    assert said.err.startswith("error: custom runs cannot be mixed with runs at the suite's own settings: ")
    assert said.err.count("\n") == 1


def test_an_encoding_without_lines_and_daggers_hides_no_table(out: Path) -> None:
    records = (out / "records.jsonl").read_text(encoding="utf-8").replace('"wsd"', '"w\\u00fcsd"')
    (out / "records.jsonl").write_text(resealed(records), encoding="utf-8")
    words = [sys.executable, "-m", "ganno_bench", "table", str(out), "--no-baselines"]
    done = subprocess.run(words, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii", "COLUMNS": "120"})
    assert done.returncode == 0, done.stderr.decode()
    assert b"\n----------" in done.stdout
    assert b"w\\xfcsd" in done.stdout
