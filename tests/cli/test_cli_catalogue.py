"""`list`, `show` and `check`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ganno_bench.schedulers.registry import SCHEDULERS
from ganno_bench.workloads.suite import load_suite, suite_names
from tests.helpers.command_line import Call
from tests.helpers.tiny_suite import write_plugin, write_suite


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("suites", suite_names()),
        ("workloads", [workload.id for name in suite_names() for workload in load_suite(name).workload]),
        (
            "schedulers",
            [*SCHEDULERS.entries(), *(f"policy:ganno{kind}" for kind in ("", "-anchored", "-global", "-light"))],
        ),
        ("datasets", ["digits", "stdlib-chars"]),
    ],
)
def test_a_list_is_a_table_that_other_programs_can_read(call: Call, kind: str, names: list[str]) -> None:
    said = call("list", kind)
    assert said.code == 0
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert [row[0] for row in rows] == [kind.removesuffix("s"), *names]
    assert {len(row) for row in rows} == {len(rows[0])}
    assert all(cell.strip() for row in rows for cell in row)


def test_folders_with_datasets_are_listed(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moods").mkdir()
    monkeypatch.setenv("GANNO_BENCH_DATA", str(tmp_path))
    assert f"moods\t{tmp_path}\tfolder in hub layout\n" in call("list", "datasets").out


def test_a_suite_is_shown_as_it_is_written(call: Call) -> None:
    said = call("show", "quickstart")
    assert said.code == 0
    suite = load_suite("quickstart")
    assert tomllib.loads(said.out)["name"] == "quickstart"
    assert suite.hash in said.out


def test_a_suite_of_the_users_own_is_shown(call: Call, tmp_path: Path) -> None:
    path = write_suite(tmp_path)
    said = call("show", str(path))
    assert path.read_text().strip() in said.out
    assert load_suite(str(path)).hash in said.out


def test_a_workload_is_shown_with_its_dataset(call: Call) -> None:
    said = call("show", "digits-mlp-2")
    assert said.code == 0
    for pattern in (
        r"suite +quickstart",
        r"n_updates +\d+",
        r"model +family = mlp, depth = 2",
        r"dataset digits +source",
        r"backend +(compiled from [\d,]+ updates on, .*; )?vmap",
    ):
        assert re.search(rf"^{pattern}", said.out, re.MULTILINE), pattern


def test_the_backend_of_a_workload_without_its_data_is_not_known(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GANNO_BENCH_DATA", raising=False)
    said = call("show", "fashion-cnn-4")
    assert re.search(r"^backend +known with the data, .*GANNO_BENCH_DATA", said.out, re.MULTILINE)
    monkeypatch.setenv("GANNO_BENCH_DATA", str(tmp_path / "missing"))
    said = call("show", "fashion-cnn-4")
    assert said.code == 0
    assert re.search(r"^backend +unknown: GANNO_BENCH_DATA: data folder", said.out, re.MULTILINE)


def test_a_workload_of_several_suites_is_shown_with_each(call: Call) -> None:
    everywhere, one = call("show", "digits-mlp-8"), call("show", "robustness/digits-mlp-8")
    suites = re.findall(r"^suite +(\S+)$", everywhere.out, re.MULTILINE)
    assert len(suites) >= 3
    assert "robustness" in suites
    assert re.findall(r"^suite +(\S+)$", one.out, re.MULTILINE) == ["robustness"]
    assert one.out.strip() in everywhere.out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ganno-anchored", "did you mean 'policy:ganno-anchored'?"),
        ("visoin", "did you mean 'vision'?"),
        ("nothing", "for valid names: ganno-bench list suites, workloads, schedulers or datasets"),
    ],
)
def test_what_is_unknown_gets_a_hint(call: Call, name: str, hint: str) -> None:
    said = call("show", name)
    assert said.code == 2
    assert f"unknown name {name!r}; {hint}" in " ".join(said.err.split())


def test_a_scheduler_is_shown_with_what_is_tuned(call: Call) -> None:
    said = call("show", "wsd")
    assert said.code == 0
    assert said.out.startswith("A linear warmup, a plateau")
    for name in ("base_lr, weight_decay", "warmup", "cooldown", "shape"):
        assert name in said.out
    assert re.search(r"default 1-sqrt", said.out)


def test_what_is_pinned_is_not_shown_as_tuned(call: Call) -> None:
    said = call("show", "wsd(warmup=0.1)")
    assert said.code == 0
    assert re.search(r"^name +wsd\(warmup=0.1\)$", said.out, re.MULTILINE)
    assert not re.search(r"^  warmup +FloatDistribution", said.out, re.MULTILINE)


@pytest.mark.parametrize("kind", ["plugin", "torch:CosineAnnealingLR"])
def test_any_reference_to_a_scheduler_is_shown(call: Call, tmp_path: Path, kind: str) -> None:
    ref = write_plugin(tmp_path) if kind == "plugin" else kind
    said = call("show", ref)
    assert said.code == 0
    assert re.search(rf"^ref +{re.escape(ref)}$", said.out, re.MULTILINE)


def test_a_dataset_is_shown(call: Call) -> None:
    said = call("show", "digits")
    assert said.code == 0
    assert re.search(r"^dataset +digits$", said.out, re.MULTILINE)
    assert "10 classes" in said.out


def test_a_good_scheduler_passes_its_check(call: Call, tmp_path: Path) -> None:
    ref = write_plugin(tmp_path)
    said = call("check", ref)
    assert said.code == 0
    *checks, total = said.out.splitlines()
    assert len(checks) > 5
    assert all(line.startswith("ok ") for line in checks)
    assert total == f"{ref}: {len(checks)} of {len(checks)} checks passed"
    assert said.err == f"Next: ganno-bench run graph --scheduler {ref}\n"


def test_a_bad_scheduler_fails_its_check_and_is_told_why(call: Call, tmp_path: Path) -> None:
    ref = write_plugin(tmp_path, ("return Controls(lr)", "return Controls(-lr)"))
    said = call("check", ref)
    assert said.code == 1
    failed = [line for line in said.out.splitlines() if line.startswith("FAILED")]
    assert any("expected a finite learning rate >= 0" in line for line in failed)
    assert re.search(r": \d+ of \d+ checks passed\n$", said.out)


def test_the_version(call: Call) -> None:
    from ganno_bench import __version__

    assert call("--version").out == f"ganno-bench {__version__}\n"
