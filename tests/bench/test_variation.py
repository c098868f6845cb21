"""A suite that varies one factor at a time around the configuration that each entry is reported with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ganno_bench.baselines.files import BaselineFolder, compare_with
from ganno_bench.baselines.retrain import retrain
from ganno_bench.baselines.verify import BaselineSuites, check_files
from ganno_bench.baselines.write import BaselineWriter
from ganno_bench.bench.plan import Change, jobs_of
from ganno_bench.bench.progress import Progress
from ganno_bench.core.files import read_file, replace_file
from ganno_bench.core.records import RunRecord, read_records
from ganno_bench.scoring.robustness import robustness
from ganno_bench.workloads.suite import Budget, Variation
from tests.helpers.resealed import reseal
from tests.helpers.tiny_suite import WORKLOADS, Started, keep, results, run_tiny, snapshot, write_plugin, write_suite

TABLE = """
[variation]
base_lr = [0.5, 2.0]
weight_decay = [0.0]
horizon = [0.5, 2.0]
batch_size = [0.25]
seeds = 2

[dataset.digits]
"""
EDITS = (("\n[dataset.digits]\n", TABLE), ("trials = 6", "trials = 3"))
ENTRIES = ("cosine", "wsd@default")
SETTINGS = [
    ("base_lr", 0.5), ("base_lr", 2.0), ("weight_decay", 0.0), ("horizon", 0.5), ("horizon", 2.0), ("batch_size", 0.25)
]  # fmt: skip
VARIED = [("varied", n) for n in (6, 2, 2, 2)]
"""Populations of varied runs, and how many: three changes of the configuration side by side, then one each."""
POPULATIONS = {"cosine": [("tuning", 6), ("report", 3), *VARIED], "wsd@default": [("report", 3), *VARIED]}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path, *EDITS)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run; not to be written to."""
    folder = tmp_path_factory.mktemp("varied")
    run(write_suite(folder, *EDITS), folder / "out")
    return folder / "out"


def run(suite: Path, out: Path, progress: Progress | None = None, **settings: Any) -> Any:
    # One network after another: these tests train many populations of a few updates, and recording passes takes longer.
    return run_tiny(suite, out, progress, **{"schedulers": ["cosine", "default:wsd"], "backend": "loop", **settings})


@pytest.fixture(scope="module")
def records(out: Path) -> list[RunRecord]:
    return read_records([out])


def of(records: list[RunRecord], workload: str, entry: str, role: str) -> list[RunRecord]:
    return [r for r in records if (r.workload, r.scheduler, r.role) == (workload, entry, role)]


EVERY = pytest.mark.parametrize(
    ("workload", "entry"), [(workload, entry) for workload in WORKLOADS for entry in ENTRIES]
)


# What is recorded


@EVERY
def test_every_setting_is_run_on_the_first_report_seeds(records: list[RunRecord], workload: str, entry: str) -> None:
    found = of(records, workload, entry, "varied")
    assert [(r.factor, r.multiple, r.seed) for r in found] == [(*s, seed) for s in SETTINGS for seed in (0, 1)]
    for r in found:
        assert r.status == "completed"
        assert None not in r.metrics.model_dump().values()  # evaluated on test data


@EVERY
def test_one_thing_is_changed_and_nothing_else(records: list[RunRecord], workload: str, entry: str) -> None:
    own, *_ = of(records, workload, entry, "report")
    for r in of(records, workload, entry, "varied"):
        assert r.multiple is not None
        expected = dict(own.config)
        if r.factor in ("base_lr", "weight_decay"):
            expected[r.factor] = float(expected[r.factor]) * r.multiple
        assert (r.trial, r.config) == (own.trial, expected)
        updates = round(6 * (r.multiple if r.factor == "horizon" else 1))
        assert (r.cost.updates, r.curve.updates[-1], r.lr_trace.updates[-1]) == (updates, updates, updates - 1)
        assert r.cost.tuning_updates == own.cost.tuning_updates
    others = [r for r in records if r.role != "varied"]
    assert {(r.factor, r.multiple) for r in others} == {(None, None)}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_scheduler_is_told_the_horizon(records: list[RunRecord], workload: str) -> None:
    for r in of(records, workload, "cosine", "varied"):
        base_lr, end = float(r.config["base_lr"]), float(r.config["final_factor"])
        shape = [(1 + math.cos(math.pi * update / r.cost.updates)) / 2 for update in range(r.cost.updates)]
        expected = [base_lr * (end + (1 - end) * factor) for factor in shape]
        assert [row[0] for row in r.lr_trace.lr] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_seeds_and_data_are_the_reports(records: list[RunRecord], workload: str) -> None:
    # The loss of the first batch is measured before anything is updated; with another batch it is another one.
    report = {r.seed: r.curve.train_loss[0] for r in of(records, workload, "cosine", "report")}
    for r in of(records, workload, "cosine", "varied"):
        same = r.curve.train_loss[0] == report[r.seed]
        if r.factor != "horizon" or r.multiple == 0.5:  # twice the horizon is evaluated after two updates first
            assert same == (r.factor != "batch_size")


def test_a_setting_is_what_a_suite_with_that_setting_would_give(records: list[RunRecord], tmp_path: Path) -> None:
    for factor, edits in {
        ("horizon", 2.0): [("n_updates = 6", "n_updates = 12")],
        ("batch_size", 0.25): [("batch_size = 8", "batch_size = 2")],
    }.items():
        suite = write_suite(tmp_path, *edits)
        alone = run(suite, tmp_path / factor[0], schedulers=["default:wsd"], report_seeds=2).records
        varied = [r for r in records if (r.scheduler, r.factor, r.multiple) == ("wsd@default", *factor)]
        assert [(r.metrics, r.curve, r.lr_trace) for r in varied] == [(r.metrics, r.curve, r.lr_trace) for r in alone]


def test_tuning_and_report_are_those_of_a_suite_without_variation(out: Path, tmp_path: Path) -> None:
    """Trials differ, because the suite's hash seeds their sampler."""
    plain = tmp_path / "plain"
    run(write_suite(tmp_path, EDITS[1]), plain, schedulers=["default:wsd"])
    own = [r for r in results(out) if r["scheduler"] == "wsd@default" and r["role"] == "report"]
    assert [{**r, "suite_hash": ""} for r in own] == [{**r, "suite_hash": ""} for r in results(plain)]
    assert "factor" not in own[0]


def test_fewer_report_seeds_are_fewer_varied_ones(suite: Path, tmp_path: Path) -> None:
    done = run(suite, tmp_path / "out", schedulers=["default:wsd"], report_seeds=1)
    assert {r.seed for r in done.records} == {0}
    assert {r.custom for r in done.records} == {True}


def test_jobs() -> None:
    variation = Variation(horizon=(2.0,), base_lr=(0.1, 3.0), seeds=4)
    _, report, rates, longer = jobs_of("w", "e", Budget(trials=2), variation)
    assert (report.role, report.n_runs, report.changes) == ("report", 10, ())
    assert (rates.n_runs, rates.changes) == (8, (Change("base_lr", 0.1), Change("base_lr", 3.0)))
    assert (longer.n_runs, longer.changes) == (4, (Change("horizon", 2.0),))
    assert [job.batch for job in (report, rates, longer)] == [1, 2, 3]


class Costs(Progress):
    def __init__(self) -> None:
        self.total = self.done = self.spent = 0.0

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        self.total, self.done = total_cost, done_cost

    def advanced(self, cost: float) -> None:
        self.spent += cost


# Going on


def test_a_finished_run_is_left_as_it_is(out: Path, suite: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    before, costs = snapshot(copy), Costs()
    run(suite, copy, costs)
    assert costs.spent == 0
    assert costs.done == costs.total > 0
    assert snapshot(copy) | {"studies.journal": before["studies.journal"]} == before


ORDER = [(w, entry, role, n) for w in WORKLOADS for entry in ENTRIES for role, n in POPULATIONS[entry]]
STARTS = [sum(n for *_, n in ORDER[:index]) for index in range(len(ORDER))]


@pytest.mark.parametrize(("torn", "n_lines"), [(2, 0), (2, 5), (3, 1), (5, 1), (7, 4), (10, 1), (21, 0)])
def test_a_torn_population_is_run_again(out: Path, suite: Path, tmp_path: Path, torn: int, n_lines: int) -> None:
    copy, costs, started = Path(shutil.copytree(out, tmp_path / "copy")), Costs(), Started()
    lines = (copy / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == sum(n for *_, n in ORDER)
    keep(copy, STARTS[torn] + n_lines)
    run(suite, copy, costs)
    assert costs.done + costs.spent == pytest.approx(costs.total)
    assert results(copy) == results(out)
    assert (copy / "records.jsonl").read_bytes().startswith(b"".join(lines[: STARTS[torn]]))
    run(suite, copy, started)
    assert started.jobs == []


def test_a_torn_population_is_dropped_even_if_its_entry_takes_no_part(out: Path, suite: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    keep(copy, STARTS[2] + 4)  # of six of cosine
    run(suite, copy, schedulers=["default:wsd"])
    assert [r.role for r in read_records([copy]) if r.scheduler == "cosine"] == ["tuning"] * 6 + ["report"] * 3
    run(suite, copy, schedulers=["cosine"])
    assert sorted(map(json.dumps, results(copy))) == sorted(map(json.dumps, results(out)))


def test_what_was_recorded_before_a_scheduler_failed_is_kept(suite: Path, tmp_path: Path) -> None:
    late = ("        lr = ", "        assert signals.total_updates < 7, 'too far'\n        lr = ")
    plugin = write_plugin(tmp_path, late)
    done = run(suite, tmp_path / "out", schedulers=[plugin, "default:wsd"])
    assert [(f.workload, f.scheduler) for f in done.failures] == [(workload, "mine") for workload in WORKLOADS]
    assert "too far" in done.failures[0].error
    for workload in WORKLOADS:
        found = [(r.factor, r.multiple) for r in of(done.records, workload, "mine", "varied")]
        assert list(dict.fromkeys(found)) == SETTINGS[:4]
        assert len(of(done.records, workload, "wsd@default", "varied")) == 12


# Committed baselines


@pytest.fixture
def committed(out: Path, suite: Path, tmp_path: Path) -> BaselineFolder:
    """The finished run as baselines."""
    shutil.copytree(out, tmp_path / "again")
    writer = BaselineWriter(BaselineFolder(tmp_path / "baselines"))
    run(suite, tmp_path / "again", on_finished=writer.write)
    return writer.folder


def test_varied_runs_are_committed_and_verified_too(
    committed: BaselineFolder, suite: Path, records: list[RunRecord]
) -> None:
    for entry in ENTRIES:
        kept = read_records([committed.records("tiny", entry)])
        own = [r for r in records if (r.scheduler, r.role) == (entry, "varied")]
        assert {(r.workload, r.factor, r.multiple, r.seed, r.metrics) for r in kept if r.role == "varied"} == {
            (r.workload, r.factor, r.multiple, r.seed, r.metrics) for r in own
        }
    suites = BaselineSuites(str(suite))
    assert check_files(committed, suites) == []
    outcomes = list(retrain(committed, suites, 12, 0))
    assert {outcome.record.role for outcome in outcomes} == {"report", "varied"}
    assert all(outcome.ok for outcome in outcomes), outcomes
    # One run has another multiple, and one is missing.
    file = committed.records("tiny", "cosine")
    lines = read_file(file).decode().splitlines(keepends=True)
    replace_file(file, "".join(line.replace('"multiple":0.5', '"multiple":0.7') for line in lines[:-1]))
    reseal(file)
    faults = " ".join(check_files(committed, suites))
    assert "horizon x 0.7: has records of seeds [0, 1], expected []" in faults
    assert "weight_decay x 0: has records of seeds [0], expected [0, 1]" in faults


def test_own_varied_runs_are_compared_with_committed_ones(
    committed: BaselineFolder, suite: Path, tmp_path: Path
) -> None:
    mine = run(suite, tmp_path / "mine", schedulers=["default:constant"]).records
    comparison = compare_with(committed, mine)
    varied = robustness(comparison.records, comparison.standings())
    assert varied is not None
    assert {entry.entry for entry in varied.entries} == {"constant@default", *ENTRIES}
