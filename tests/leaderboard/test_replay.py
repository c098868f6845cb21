"""Replayed studies: trials that the sampler did not propose are found, and no others."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from ganno_bench.baselines.files import BaselineFolder, read_lines
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.replay import can_replay, replay_fault
from ganno_bench.leaderboard.search_spaces import FloatRange, IntRange, Range
from ganno_bench.leaderboard.validate import check_leaderboard
from ganno_bench.workloads.suite import load_suite
from tests.helpers.resealed import resealed
from tests.helpers.submission_cases import World, edit_line

SUITE = load_suite("graph")


def committed(name: str) -> list[tuple[StudyRecord, dict[str, Any]]]:
    """Return the studies of a baseline on `graph`, each with its search space."""
    folder = BaselineFolder()
    content = folder.read_toml(folder.toml(name))
    if not can_replay(content.value[0].versions):
        pytest.skip("the baselines were made with another version of Optuna")
    spaces = TypeAdapter(dict[str, dict[str, Range]]).validate_json(json.dumps(content.search_space))
    studies = read_lines(StudyRecord, folder.studies("graph", name))
    return [(study, spaces[SUITE.find_workload(study.workload).optimizer.name]) for study in studies]


def changed(study: StudyRecord, index: int, **values: Any) -> StudyRecord:
    """Return a study with another trial."""
    trials = list(study.trials)
    trials[index] = trials[index].model_copy(update=values)
    return study.model_copy(update={"trials": tuple(trials)})


@pytest.mark.parametrize(
    "name",
    [
        "plateau",
        *(
            pytest.param(name, marks=pytest.mark.slow(group="pages"))
            for name in ("cosine", "hypergradient", "one-cycle")
        ),
    ],
)
def test_committed_studies_are_what_the_sampler_proposes(name: str) -> None:
    studies = committed(name)
    assert len(studies) >= len(SUITE.workload)
    assert {replay_fault(study, space, SUITE.budget) for study, space in studies} == {None}


def test_another_configuration_is_found() -> None:
    (study, space), *_ = committed("cosine")
    there = study.trials[20].config
    fault = replay_fault(changed(study, 20, config={**there, "base_lr": 0.02}), space, SUITE.budget)
    assert fault == (
        f"key 'trials[20].config.base_lr': must be {there['base_lr']!r}, which the sampler proposes after the "
        "trials before it (value: 0.02)"
    )


def test_another_result_is_found_by_the_trials_after_it() -> None:
    (study, space), *_ = committed("cosine")
    worst = max(range(8), key=lambda index: study.trials[index].objective)
    fault = replay_fault(changed(study, worst, values=(0.01, 0.01)), space, SUITE.budget)
    assert fault is not None
    assert int(fault.partition("trials[")[2].partition("]")[0]) >= 8


def test_another_seed_of_the_sampler_is_found() -> None:
    (study, space), *_ = committed("cosine")
    fault = replay_fault(study.model_copy(update={"study": 1}), space, SUITE.budget)
    assert fault is not None
    assert fault.startswith("key 'trials[1].config.")


def test_a_space_that_the_sampler_cannot_use_is_a_fault() -> None:
    (study, space), *_ = committed("cosine")
    wide = FloatRange(distribution="FloatDistribution", low=-1.7e308, high=1.7e308, default=0.0)
    fault = replay_fault(study, {**space, "final_factor": wide}, SUITE.budget)
    assert fault is not None
    assert "\n" not in fault


def test_steps_are_checked_before() -> None:
    fixed: dict[str, Any] = {"distribution": "FloatDistribution", "low": 0.1, "high": 1.0, "default": 0.1}
    assert FloatRange(**fixed, step=0.1).problem is None
    assert FloatRange(**fixed, step=0.0).problem == "must have a step above 0 (value: 0.0)"
    assert (
        FloatRange(**fixed, step=0.1, log=True).problem
        == "must not have a step, because it is logarithmic (value: 0.1)"
    )
    whole = IntRange(distribution="IntDistribution", low=1, high=9, log=True, step=2, default=1)
    assert whole.problem == "must have step 1, because it is logarithmic (value: 2)"
    assert whole.contains(3)
    assert not whole.contains(4)
    assert not whole.contains(3.0)


def test_picked_trials_are_found_in_a_submission(copy: World) -> None:
    before = [json.loads(line) for line in (copy.mine / "studies.jsonl").read_text().splitlines()]
    trials = before[0]["trials"]
    loser = max((1, 2), key=lambda index: sum(trials[index]["values"]))
    edit_line(copy.mine / "studies.jsonl", lambda study: study["trials"][loser]["config"].update(warmup=0.33))
    assert copy.faults() == [
        f"studies.jsonl:1: key 'trials[{loser}].config.warmup': must be "
        f"{trials[loser]['config']['warmup']!r}, which the sampler proposes after the trials before it (value: 0.33)"
    ]
    assert check_leaderboard(copy.root, copy.suites, replay=False).n_faults == 0


def test_another_version_of_the_sampler_is_said(copy: World) -> None:
    for name in ("submission.toml", "records.jsonl"):
        file = copy.mine / name
        text = file.read_text()
        for mark in ('optuna = "', '"optuna":"'):
            text = text.replace(mark, mark + "1")
        file.write_text(resealed(text) if file.suffix == ".jsonl" else text)
    verdict = next(v for v in check_leaderboard(copy.root, copy.suites).verdicts if v.name.endswith("my-entry"))
    assert verdict.faults == []
    assert ", trials not replayed (made with Optuna 1" in verdict.summary
