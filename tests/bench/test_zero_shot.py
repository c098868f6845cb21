"""Policies and untuned schedulers in a run: reported on the same seeds as all entries, never tuned."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from ganno_bench.bench.plan import jobs_of
from ganno_bench.core.errors import ResumeError
from ganno_bench.core.records import RunRecord, read_records
from ganno_bench.core.seeding import run_seeds
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from ganno_bench.schedulers.drive import drive
from ganno_bench.scoring.standings import standings
from ganno_bench.workloads.suite import Budget
from tests.helpers.tiny_suite import (
    SMALL,
    WORKLOADS,
    Started,
    keep,
    results,
    run_tiny,
    snapshot,
    write_plugin,
    write_suite,
)

ZERO_SHOT = ("policy:mine", "cosine@default")
ENTRIES = ("cosine", *ZERO_SHOT)
OF_WORKLOAD = {"cosine": 15, "policy:mine": 3, "cosine@default": 3}
"""Records of each entry on a workload, in the order of a run."""
DEFAULTS = {
    "sgd-mlp": {"base_lr": 0.01, "weight_decay": 1e-4},
    "adam-mlp": {"base_lr": 0.001, "weight_decay": 1e-4},
}

Population = tuple[str, str, str]
"""Workload, entry and role."""


def write_policy(folder: Path, seed: int = 0) -> str:
    """Write a policy with random weights, which decides every other update, and return a reference to it."""
    policy = Policy(
        PolicyCard(
            name="mine",
            interval=2,
            observation=("progress", "relative-depth", "log-grad-norm", "loss-change"),
            action=ActionSpec(multipliers=(0.5, 1.0, 2.0)),
            actor=ActorSpec(hidden=(8,)),
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    policy.save(folder)
    return f"policy:{folder}"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def schedulers(policy: str) -> list[str]:
    return ["cosine", policy, "default:cosine"]


@pytest.fixture(scope="module")
def mixed(schedulers: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run of a tuned and two zero-shot entries; not to be written to."""
    folder = tmp_path_factory.mktemp("mixed")
    run_tiny(write_suite(folder), folder / "out", schedulers=schedulers)
    return folder / "out"


@pytest.fixture
def broken(mixed: Path, tmp_path: Path) -> Path:
    """A copy of the whole run, to be broken; its suite is that of the `suite` fixture."""
    return Path(shutil.copytree(mixed, tmp_path / "broken"))


@pytest.fixture(scope="module")
def records(mixed: Path) -> list[RunRecord]:
    return read_records([mixed])


def of(records: list[RunRecord], workload: str, entry: str, role: str = "report") -> list[RunRecord]:
    return [r for r in records if (r.workload, r.scheduler, r.role) == (workload, entry, role)]


EVERY = pytest.mark.parametrize(
    ("workload", "entry"), [(workload, entry) for workload in WORKLOADS for entry in ZERO_SHOT]
)


# What is recorded


@EVERY
def test_a_zero_shot_entry_gets_report_runs_only(records: list[RunRecord], workload: str, entry: str) -> None:
    assert of(records, workload, entry, "tuning") == []
    found = of(records, workload, entry)
    assert [r.seed for r in found] == [0, 1, 2]
    for r in found:
        assert (r.ruleset, r.trial, r.study, r.custom) == ("zero-shot", 0, 0, False)
        assert (r.cost.updates, r.cost.tuning_updates) == (6, 0)
        assert (r.status, r.diverged_at) == ("completed", None)
        assert None not in r.metrics.model_dump().values()


def test_it_makes_no_difference_to_tuned_entries(mixed: Path, unbroken: Path) -> None:
    own = [[r for r in results(path) if r["scheduler"] == "cosine"] for path in (mixed, unbroken)]
    assert own[0] == own[1]
    assert {r["ruleset"] for r in own[0]} == {"tuned"}
    assert {r["cost"]["tuning_updates"] for r in own[0] if r["role"] == "report"} == {6 * 2 * 6}


@EVERY
def test_its_base_learning_rate_is_the_optimizers_default(records: list[RunRecord], workload: str, entry: str) -> None:
    assert [r.config for r in of(records, workload, entry)] == [DEFAULTS[workload]] * 3


@EVERY
def test_it_is_reported_on_the_seeds_of_the_tuned(records: list[RunRecord], workload: str, entry: str) -> None:
    # The loss of the first batch is measured before anything is updated.
    losses, tuned = ([r.curve.train_loss[0] for r in of(records, workload, name)] for name in (entry, "cosine"))
    assert losses == tuned
    assert len(set(losses)) == 3


def test_a_population_has_one_configuration_and_the_report_seeds(
    suite: Path, tmp_path: Path, schedulers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[list[str | None], list[float], list[int]]] = []

    def spy(engine: Any, contestants: Any, seeds: Any, *rest: Any) -> Any:
        seen.append(([c.name for c in contestants], [c.base_lr for c in contestants], list(seeds)))
        return drive(engine, contestants, seeds, *rest)

    monkeypatch.setattr("ganno_bench.bench.runner.drive", spy)
    run_tiny(suite, tmp_path / "out", schedulers=schedulers[1:], report_seeds=4)
    seeds = run_seeds("report", 0, 4)
    assert seen == [([name], [base_lr], seeds) for base_lr in (0.01, 0.001) for name in ZERO_SHOT]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_policy_decides_on_each_layer(records: list[RunRecord], workload: str) -> None:
    steps: list[float] = []
    for r in of(records, workload, "policy:mine"):
        assert r.lr_trace.updates == (0, 1, 2, 3, 4, 5)
        for lr in zip(*r.lr_trace.lr, strict=True):  # of a layer
            assert [lr[1], lr[3], lr[5]] == [lr[0], lr[2], lr[4]]  # decides every other update
            base_lr = float(r.config["base_lr"])
            steps += [lr[0] / base_lr, lr[2] / lr[0], lr[4] / lr[2]]
    assert {round(step, 4) for step in steps} <= {0.5, 1.0, 2.0}
    assert {round(step, 4) for step in steps} != {1.0}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_an_untuned_cosine_is_a_cosine(records: list[RunRecord], workload: str) -> None:
    for r in of(records, workload, "cosine@default"):
        for update, row in enumerate(r.lr_trace.lr):
            factor = 0.5 * (1 + math.cos(math.pi * update / 6))
            assert row == pytest.approx([DEFAULTS[workload]["base_lr"] * factor] * 2, rel=1e-5)


def test_there_are_studies_of_the_tuned_only(mixed: Path) -> None:
    backend = optuna.storages.journal.JournalFileBackend(str(mixed / "studies.journal"))
    names = optuna.get_all_study_names(optuna.storages.JournalStorage(backend))
    assert sorted(name.split("/")[1:3] for name in names) == [["adam-mlp", "cosine"], ["sgd-mlp", "cosine"]]


def test_jobs() -> None:
    (job,) = jobs_of("w", "policy:mine", Budget(trials=7, batch=3, report_seeds=4), zero_shot=True)
    assert (job.role, job.n_runs, len(job.trials)) == ("report", 4, 0)


def test_a_run_may_consist_of_zero_shot_entries_only(suite: Path, tmp_path: Path, policy: str, mixed: Path) -> None:
    run_tiny(suite, tmp_path / "out", schedulers=[policy, "default:cosine"])
    assert results(tmp_path / "out") == [r for r in results(mixed) if r["scheduler"] in ZERO_SHOT]


def test_another_study_gives_the_same_results(suite: Path, tmp_path: Path, policy: str, mixed: Path) -> None:
    run_tiny(suite, tmp_path / "out", schedulers=[policy], study=1)
    found = results(tmp_path / "out")
    assert {r.pop("study") for r in found} == {1}
    assert found == [
        {k: v for k, v in r.items() if k != "study"} for r in results(mixed) if r["scheduler"] == "policy:mine"
    ]


def test_one_that_fails_disturbs_no_other(suite: Path, tmp_path: Path, policy: str) -> None:
    plugin = write_plugin(tmp_path, ("return Controls(lr), state", "raise RuntimeError('not yet')"))
    done = run_tiny(suite, tmp_path / "out", schedulers=[f"default:{plugin}", policy, "cosine"], **SMALL)
    assert [(f.workload, f.scheduler) for f in done.failures] == [(workload, "mine@default") for workload in WORKLOADS]
    assert all("RuntimeError: not yet" in failure.error for failure in done.failures)
    assert {(r.workload, r.scheduler) for r in done.records} == {
        (w, e) for w in WORKLOADS for e in ("policy:mine", "cosine")
    }


# Going on


def populations(records: Sequence[RunRecord]) -> list[Population]:
    """Return the populations in the order of the records; the two batches of a study count once."""
    return list(dict.fromkeys((r.workload, r.scheduler, r.role) for r in records))


def test_a_finished_run_is_left_as_it_is(broken: Path, suite: Path, schedulers: list[str]) -> None:
    before, started = snapshot(broken), Started()
    done = run_tiny(suite, broken, started, schedulers=schedulers)
    assert started.jobs == []
    assert len(done.records) == 2 * sum(OF_WORKLOAD.values())
    # Optuna notes every opening of a study in its journal.
    assert snapshot(broken) | {"studies.journal": before["studies.journal"]} == before


def test_the_order_of_a_run(records: list[RunRecord]) -> None:
    expected = [(w, entry, n) for w in WORKLOADS for entry, n in OF_WORKLOAD.items()]
    assert [(r.workload, r.scheduler) for r in records] == [(w, entry) for w, entry, n in expected for _ in range(n)]


# Of each workload there are 12 records of cosine's tuning, 3 of its report, 3 of the policy, 3 of the untuned cosine.
@pytest.mark.parametrize(
    ("n_lines", "n_whole", "first"),
    [
        (16, 15, ("sgd-mlp", "policy:mine", "report")),
        (18, 18, ("sgd-mlp", "cosine@default", "report")),
        (20, 18, ("sgd-mlp", "cosine@default", "report")),
        (41, 39, ("adam-mlp", "cosine@default", "report")),
    ],
)
def test_a_torn_population_is_run_again(
    broken: Path, suite: Path, mixed: Path, schedulers: list[str], n_lines: int, n_whole: int, first: Population
) -> None:
    keep(broken, n_lines)
    whole, started = (mixed / "records.jsonl").read_bytes().splitlines(keepends=True), Started()
    run_tiny(suite, broken, started, schedulers=schedulers)
    expected = populations(read_records([mixed]))
    ran = [(workload, entry, role) for workload, entry, role, _ in started.jobs]
    assert list(dict.fromkeys(ran)) == expected[expected.index(first) :]
    assert len([job for job in ran if job[1] in ZERO_SHOT]) == len({job for job in ran if job[1] in ZERO_SHOT})
    assert (broken / "records.jsonl").read_bytes().startswith(b"".join(whole[:n_whole]))
    assert results(broken) == results(mixed)


def test_a_torn_population_is_dropped_even_if_its_entry_takes_no_part(
    broken: Path, suite: Path, mixed: Path, policy: str
) -> None:
    keep(broken, 37)  # one of three reports of the policy on the second workload
    run_tiny(suite, broken, schedulers=["default:cosine"])
    assert [r["seed"] for r in results(broken) if (r["workload"], r["scheduler"]) == ("adam-mlp", "policy:mine")] == []
    run_tiny(suite, broken, schedulers=[policy])
    assert sorted(map(json.dumps, results(broken))) == sorted(map(json.dumps, results(mixed)))


def test_zero_shot_entries_can_be_added(suite: Path, tmp_path: Path, schedulers: list[str], mixed: Path) -> None:
    out, started = tmp_path / "out", Started()
    run_tiny(suite, out, schedulers=["cosine"])
    before = (out / "records.jsonl").read_bytes()
    run_tiny(suite, out, started, schedulers=schedulers)
    assert [job[:3] for job in started.jobs] == [(w, entry, "report") for w in WORKLOADS for entry in ZERO_SHOT]
    assert (out / "records.jsonl").read_bytes().startswith(before)
    assert sorted(map(json.dumps, results(out))) == sorted(map(json.dumps, results(mixed)))


def test_a_policy_with_other_weights_is_refused(broken: Path, suite: Path, tmp_path: Path) -> None:
    before = snapshot(broken)
    with pytest.raises(
        ResumeError, match=r"config.toml: the code of scheduler 'policy:mine' has changed since \(revision 1, policy"
    ):
        run_tiny(suite, broken, schedulers=[write_policy(tmp_path / "other", seed=1)])
    assert snapshot(broken) == before
    run_tiny(suite, broken, schedulers=[write_policy(tmp_path / "same")])  # the same one may lie elsewhere


# Standings


def test_zero_shot_entries_have_a_table_of_their_own(records: list[RunRecord]) -> None:
    found = standings(records, n_resamples=200)
    assert list(found.tables) == ["tuned", "zero-shot"]
    assert [(row.entry, row.kind) for row in found.tables["tuned"]] == [("cosine", "entry")]
    rows = {(row.entry, row.kind): row for row in found.tables["zero-shot"]}
    assert set(rows) == {
        ("policy:mine", "entry"),
        ("cosine@default", "entry"),
        ("cosine", "reference"),
        ("oracle", "oracle"),
    }
    for entry in ZERO_SHOT:
        row = rows[entry, "entry"]
        assert (row.ruleset, row.n_runs, row.n_workloads, row.n_trials) == ("zero-shot", 6, 2, None)
        assert row.rank in (1, 2)
        assert row.improvement is not None
    assert min(rows[entry, "entry"].rank or 0 for entry in ZERO_SHOT) == 1
    reference = rows["cosine", "reference"]
    assert (reference.ruleset, reference.rank, reference.n_trials) == ("tuned", None, 6)


def test_the_standings_of_a_policy_are_those_of_its_records(records: list[RunRecord]) -> None:
    cells = standings(records, n_resamples=200).cells
    for workload in WORKLOADS:
        losses = sorted(float(r.metrics.test_loss or 0.0) for r in of(records, workload, "policy:mine"))
        assert cells["zero-shot", "policy:mine", workload].test_loss == losses[1]
        assert ("tuned", "policy:mine", workload) not in cells
