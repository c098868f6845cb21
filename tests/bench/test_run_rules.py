"""The protocol's rules, checked on the records of a run."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from ganno_bench.bench.plan import jobs_of
from ganno_bench.core.errors import ConfigError
from ganno_bench.core.records import RunRecord, dump_record, parse_record, read_records
from ganno_bench.core.seeding import run_seeds
from ganno_bench.schedulers.drive import drive
from ganno_bench.training.population import Population
from ganno_bench.workloads.suite import Budget, find_suite, load_suite
from tests.helpers.tiny_suite import RECORDS, SCHEDULERS, SMALL, WORKLOADS, results, run_tiny, write_plugin, write_suite

DEFAULTS: dict[tuple[str, str], dict[str, float | str]] = {
    ("sgd-mlp", "cosine"): {"base_lr": 0.01, "weight_decay": 1e-4, "final_factor": 0.0},
    ("adam-mlp", "cosine"): {"base_lr": 0.001, "weight_decay": 1e-4, "final_factor": 0.0},
    ("sgd-mlp", "wsd"): {"base_lr": 0.01, "weight_decay": 1e-4, "warmup": 0.05, "cooldown": 0.2, "shape": "1-sqrt"},
    ("adam-mlp", "wsd"): {"base_lr": 0.001, "weight_decay": 1e-4, "warmup": 0.05, "cooldown": 0.2, "shape": "1-sqrt"},
}


@pytest.fixture(scope="module")
def records(unbroken: Path) -> list[RunRecord]:
    return read_records([unbroken])


def of(records: list[RunRecord], workload: str, scheduler: str, role: str) -> list[RunRecord]:
    return [r for r in records if (r.workload, r.scheduler, r.role) == (workload, scheduler, role)]


PAIRS = pytest.mark.parametrize(("workload", "scheduler"), list(DEFAULTS))


@PAIRS
def test_everyone_gets_the_same_trials_and_seeds(records: list[RunRecord], workload: str, scheduler: str) -> None:
    tuning = of(records, workload, scheduler, "tuning")
    report = of(records, workload, scheduler, "report")
    assert [(r.trial, r.seed) for r in tuning] == [(trial, seed) for trial in range(6) for seed in range(2)]
    assert [r.seed for r in report] == [0, 1, 2]
    assert len(records) == RECORDS


@PAIRS
def test_the_first_trial_is_the_default_configuration(records: list[RunRecord], workload: str, scheduler: str) -> None:
    configs = [r.config for r in of(records, workload, scheduler, "tuning")]
    assert configs[0] == configs[1] == DEFAULTS[workload, scheduler]
    assert len({json.dumps(config) for config in configs}) == 6  # the others were sampled
    assert {tuple(config) for config in configs} == {tuple(DEFAULTS[workload, scheduler])}


@PAIRS
def test_the_winner_has_the_smallest_mean_validation_loss(
    records: list[RunRecord], workload: str, scheduler: str
) -> None:
    losses: dict[int, list[float]] = {}
    configs = {}
    for record in of(records, workload, scheduler, "tuning"):
        loss = record.metrics.val_loss
        losses.setdefault(record.trial, []).append(math.log(10) if loss is None else min(loss, math.log(10)))
        configs[record.trial] = record.config
    means = {trial: sum(values) / 2 for trial, values in losses.items()}
    winner = min(means, key=lambda trial: means[trial])
    report = of(records, workload, scheduler, "report")
    assert {r.trial for r in report} == {winner}
    assert all(r.config == configs[winner] for r in report)


def test_test_metrics_belong_to_reports(records: list[RunRecord]) -> None:
    for record in records:
        tested = record.metrics.test_loss is not None and record.metrics.test_error is not None
        assert tested == (record.role == "report")


def test_test_data_is_evaluated_once_by_each_report_after_its_last_update(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations: list[tuple[bool, int, int]] = []
    evaluate = Population.evaluate

    def spy(self: Population, split: Any) -> Any:
        test: Any = self.engine.workload.dataset.test.to("cpu", torch.float32)
        is_test = torch.equal(split.inputs, test.inputs)
        evaluations.append((is_test, self.n_updates, self.n_runs))
        return evaluate(self, split)

    monkeypatch.setattr(Population, "evaluate", spy)
    run_tiny(suite, tmp_path / "out", **SMALL)
    tests = [(n_updates, n_runs) for is_test, n_updates, n_runs in evaluations if is_test]
    assert tests == [(6, 2)] * 4  # one for each scheduler and workload
    assert any(not is_test for is_test, _, _ in evaluations)


def test_only_reports_carry_the_cost_of_tuning(records: list[RunRecord]) -> None:
    assert {r.cost.updates for r in records} == {6}
    assert {(r.role, r.cost.tuning_updates) for r in records} == {("tuning", 0), ("report", 6 * 2 * 6)}
    assert all(r.cost.wall_seconds > 0 for r in records)


def test_seeds_are_paired_and_those_of_tuning_and_report_disjoint(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    def spy(engine: Any, contestants: Any, seeds: Any, *rest: Any) -> Any:
        seen.append((len(contestants), tuple(seeds)))
        return drive(engine, contestants, seeds, *rest)

    monkeypatch.setattr("ganno_bench.bench.runner.drive", spy)
    run_tiny(suite, tmp_path / "out", trials=2, tuning_seeds=2, report_seeds=3)
    tuning, report = ({seeds for n, seeds in seen if n == size} for size in (2, 1))
    assert len(seen) == 8
    assert len(tuning) == len(report) == 1
    assert not set(*tuning) & set(*report)
    assert len(set(*tuning)) == 2
    assert len(set(*report)) == 3


def test_a_seed_decides_initialisation_and_data_for_every_scheduler_alike(records: list[RunRecord]) -> None:
    # The loss of the first batch is measured before anything is updated.
    losses: dict[tuple[str, str, int], set[float | None]] = {}
    for r in records:
        losses.setdefault((r.workload, r.role, r.seed), set()).add(r.curve.train_loss[0])
    assert len(losses) == 2 * (2 + 3)
    assert all(len(found) == 1 for found in losses.values())
    of_sgd = [loss for (workload, _, _), found in losses.items() if workload == "sgd-mlp" for loss in found]
    assert len(set(of_sgd)) == 5


def test_run_seeds() -> None:
    assert run_seeds("tuning", 0, 2) == run_seeds("tuning", 0, 5)[:2]
    assert run_seeds("report", 0, 3) == run_seeds("report", 1, 3)
    everything = [*run_seeds("tuning", 0, 50), *run_seeds("tuning", 1, 50), *run_seeds("report", 0, 50)]
    assert len(set(everything)) == 150


def test_another_study_has_other_tuning_seeds_and_trials_and_the_same_report_seeds(
    unbroken: Path, suite: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run_tiny(suite, out, schedulers=["cosine"], study=1)
    first = of(read_records([unbroken]), "sgd-mlp", "cosine", "tuning")
    second = of(read_records([out]), "sgd-mlp", "cosine", "tuning")
    assert {r.study for r in second} == {1}
    assert first[0].config == second[0].config
    assert not {json.dumps(r.config) for r in first[2:]} & {json.dumps(r.config) for r in second[2:]}
    assert not {r.curve.train_loss[0] for r in first} & {r.curve.train_loss[0] for r in second}
    reports = [of(read_records([path]), "sgd-mlp", "cosine", "report") for path in (unbroken, out)]
    assert [r.curve.train_loss[0] for r in reports[0]] == [r.curve.train_loss[0] for r in reports[1]]


@pytest.mark.parametrize(
    ("settings", "custom"),
    [
        ({}, False),
        ({"trials": 2, "tuning_seeds": 1, "report_seeds": 1}, False),
        ({"trials": 1}, True),
        ({"tuning_seeds": 2}, True),
        ({"report_seeds": 2}, True),
    ],
)
def test_only_another_budget_than_the_suites_makes_a_run_custom(
    tmp_path: Path, settings: dict[str, Any], custom: bool
) -> None:
    suite = write_suite(
        tmp_path, ("trials = 6", "trials = 2"), ("_seeds = 2", "_seeds = 1"), ("_seeds = 3", "_seeds = 1")
    )
    done = run_tiny(suite, tmp_path / "out", schedulers=["constant"], **settings)
    assert {r.custom for r in done.records} == {custom}
    assert {r.suite_hash for r in done.records} == {load_suite(str(suite)).hash}


def test_curves_and_traces_fit_together(records: list[RunRecord]) -> None:
    for r in records:
        assert r.curve.updates == (1, 2, 3, 4, 5, 6)
        assert len(r.curve.train_loss) == len(r.curve.val_loss) == 6
        assert r.metrics.val_loss == r.curve.val_loss[-1]
        assert r.metrics.train_loss == r.curve.train_loss[-1]
        assert r.lr_trace.updates == (0, 1, 2, 3, 4, 5)
        assert len(r.lr_trace.lr) == 6
        assert {len(row) for row in r.lr_trace.lr} == {len(r.lr_trace.layers)} == {2}


def test_the_trace_is_the_schedule(records: list[RunRecord]) -> None:
    for r in of(records, "sgd-mlp", "cosine", "report"):
        base, final = float(r.config["base_lr"]), float(r.config["final_factor"])
        for update, row in enumerate(r.lr_trace.lr):
            factor = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * update / 6))
            assert row == pytest.approx([base * factor] * 2, rel=1e-5)


def test_what_every_record_says(records: list[RunRecord], unbroken: Path) -> None:
    suite = load_suite(str(unbroken / "suite.toml"))
    for r in records:
        assert (r.suite, r.suite_hash, r.ruleset, r.study, r.custom) == ("tiny", suite.hash, "tuned", 0, False)
        assert r.chance_loss == math.log(10)
        assert (r.provenance.device, r.provenance.threads) == ("cpu", 1)
        assert {"python", "ganno-bench", "torch", "optuna", "numpy", "datasets"} == set(r.provenance.versions)
        assert (r.status, r.diverged_at) == ("completed", None)
        assert parse_record(dump_record(r), "here") == r
    assert [(r.workload, r.scheduler) for r in records[::15]] == [(w, s) for w in WORKLOADS for s in SCHEDULERS]


def test_a_study_knows_what_the_records_say(records: list[RunRecord], unbroken: Path) -> None:
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(unbroken / "studies.journal"))
    )
    studies = {study.study_name.rpartition("@")[0]: study for study in optuna.get_all_study_summaries(storage)}
    assert set(studies) == {f"tiny/{w}/{s}/0" for w in WORKLOADS for s in SCHEDULERS}
    for name, summary in studies.items():
        _, workload, scheduler, _ = name.split("/")
        tuning = of(records, workload, scheduler, "tuning")
        study = optuna.load_study(study_name=summary.study_name, storage=storage)
        assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 6
        for index, trial in enumerate(study.trials):
            runs = [r for r in tuning if r.trial == index]
            assert trial.params == runs[0].config
            assert trial.value == sum(r.objective for r in runs) / 2
            assert 1 <= len(trial.intermediate_values) <= 8
            assert trial.intermediate_values[6] == pytest.approx(trial.value)


DIVERGES = ("lr = state[:, None]", "lr = (state[:, None] * 0 + 1e30)")


def test_divergence_is_an_outcome(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_tiny(suite, out, schedulers=[write_plugin(tmp_path, DIVERGES)])
    records = read_records([out])
    for r in records:
        assert r.status == "diverged"
        assert r.diverged_at is not None
        assert 0 < r.diverged_at <= 6
        assert set(r.metrics.model_dump().values()) == {None}
        assert r.curve.val_loss[-1] is None
        assert len(r.curve.val_loss) == len(r.curve.updates) == 6
        assert len(r.lr_trace.updates) == len(r.lr_trace.lr) >= 1
        assert r.objective == r.chance_loss
    assert len(records) == RECORDS / 2
    assert {r.trial for r in records if r.role == "report"} == {0}  # a tie goes to the first
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "studies.journal")))
    for summary in optuna.get_all_study_summaries(storage):
        trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
        assert {(trial.state.name, trial.value) for trial in trials} == {("COMPLETE", math.log(10))}


def test_what_is_not_finite_is_never_written(suite: Path, tmp_path: Path) -> None:
    run_tiny(suite, tmp_path / "out", schedulers=[write_plugin(tmp_path, DIVERGES)], **SMALL)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refuse)


def test_the_last_update_may_ruin_a_run(suite: Path, tmp_path: Path) -> None:
    late = ("lr = state[:, None]", "lr = (state[:, None] + (1e38 if signals.n_updates == 5 else 0.0))")
    run_tiny(
        suite, tmp_path / "out", schedulers=[write_plugin(tmp_path, late, ("interval = 2", "interval = 1"))], **SMALL
    )
    records = read_records([tmp_path / "out"])
    assert len(records) == 8
    for r in records:  # only the evaluation after it shows that
        assert (r.status, r.diverged_at) == ("diverged", 6)
        assert set(r.metrics.model_dump().values()) == {None}
        assert None not in (*r.curve.train_loss, *r.curve.val_loss[:-1])
        assert r.curve.val_loss[-1] is None


@pytest.mark.slow(group="suites")
def test_a_record_of_the_quickstart_is_small(tmp_path: Path) -> None:
    # As many evaluations, kept learning rates and layers as in the suite, a scheduler that treats each layer apart.
    text, n_workloads = re.subn(r"n_updates = \d+", "n_updates = 40", find_suite("quickstart").read_text())
    path = tmp_path / "quickstart.toml"
    path.write_text(text)
    run_tiny(
        path, tmp_path / "out", schedulers=["trust-ratio"], backend="loop", trials=1, tuning_seeds=1, report_seeds=1
    )
    lines = (tmp_path / "out" / "records.jsonl").read_bytes().splitlines()
    assert len(lines) == 2 * n_workloads
    assert max(map(len, lines)) < 8000


def test_jobs_cover_every_trial_once() -> None:
    budget = Budget(trials=7, batch=3, tuning_seeds=2, report_seeds=4)
    jobs = list(jobs_of("w", "cosine", budget))
    assert [job.trials for job in jobs] == [range(3), range(3, 6), range(6, 7), range(0)]
    assert [job.n_runs for job in jobs] == [6, 6, 2, 4]


def test_two_classes_may_not_share_a_name(suite: Path, tmp_path: Path) -> None:
    refs = [write_plugin(tmp_path, name=name) for name in ("one.py", "two.py")]
    with pytest.raises(ConfigError) as caught:
        run_tiny(suite, tmp_path / "out", schedulers=refs)
    both = f"{refs[0]!r} and {refs[1]!r}"
    assert str(caught.value) == f"two schedulers are named 'mine': {both}; rename one, or leave it out"
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_named_twice_is_run_once(suite: Path, tmp_path: Path) -> None:
    done = run_tiny(suite, tmp_path / "out", schedulers=["cosine", "cosine()", "cosine"], **SMALL)
    assert len(done.records) == 8


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("trials", 0, 1),
        ("tuning_seeds", 0, 1),
        ("report_seeds", -1, 1),
        ("threads", 0, 1),
        ("max_population", 0, 1),
        ("study", -1, 0),
    ],
)
def test_numbers_that_make_no_sense(suite: Path, tmp_path: Path, name: str, value: Any, least: int) -> None:
    message = f"option --{name.replace('_', '-')}: must be at least {least} \\(value: {value}\\)"
    with pytest.raises(ConfigError, match=message):
        run_tiny(suite, tmp_path / "out", **{name: value})
    assert not (tmp_path / "out").exists()


def test_a_repeated_run_gives_the_same_records(unbroken: Path, suite: Path, tmp_path: Path) -> None:
    run_tiny(suite, tmp_path / "again")
    assert results(tmp_path / "again") == results(unbroken)
