"""The budget curve: the expected result of a scheduler after n tuning trials.

Sources: Dodge et al. 2019, Sivaprasad et al. 2020.

Two effects make tuned entries look better than they are; neither concerns zero-shot entries. The curve takes all trials
of a study in random order, but an adaptive sampler's first trials are worse than a random one of its trials. And the
objective of the best trial includes its luck on the tuning seeds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.scoring.metrics import FloatArray, workload_score
from ganno_bench.scoring.reference import REFERENCE

__all__ = ["BudgetCurve", "budget_curves", "budget_scores", "expected_best", "trials_to_match"]


@dataclass(frozen=True, eq=False)
class BudgetCurve:
    """The budget curve of one scheduler on one workload.

    Attributes:
        entry: Name of the scheduler.
        workload: Id of the workload.
        loss: Expected best objective, nats, after 1, 2, ... N trials, shape (N,); mean over the tuning studies.
    """

    entry: str
    workload: str
    loss: FloatArray


def expected_best(objectives: Sequence[float]) -> FloatArray:
    """Return the expected minimum of n of N objectives, drawn without replacement, for n = 1 ... N.

    It is exact: the i-th smallest value is the minimum of C(N - i, n - 1) of the C(N, n) subsets.

    Args:
        objectives: One per trial, nats.

    Returns:
        Shape (N,). The first value is the mean, the last the minimum.
    """
    ordered, total = sorted(objectives), len(objectives)
    return np.array(
        [
            math.fsum(
                value * (math.comb(total - i, n - 1) / math.comb(total, n)) for i, value in enumerate(ordered, start=1)
            )
            for n in range(1, total + 1)
        ]
    )


def budget_curves(records: Sequence[RunRecord], studies: Sequence[StudyRecord] = ()) -> list[BudgetCurve]:
    """Return the budget curve of every tuned scheduler on every workload, sorted by both.

    The objective of a trial is the mean final validation loss over the tuning seeds, at most chance. A trial is left
    out if it lacks a seed that other trials of its study have. If studies have unequal numbers of trials, N is the
    smallest.

    Args:
        records: Tuning runs; others are ignored.
        studies: Tuning studies without records.
    """
    found: dict[tuple[str, str], dict[int, dict[int, dict[int, float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(dict))
    )
    for record in records:
        if record.role == "tuning":
            found[record.scheduler, record.workload][record.study][record.trial][record.seed] = record.objective
    for known in studies:
        for index, trial in enumerate(known.trials):
            found[known.scheduler, known.workload][known.study][index] = dict(enumerate(trial.values))
    curves = []
    for (entry, workload), by_study in sorted(found.items()):
        losses = [expected_best(_objectives(trials)) for trials in by_study.values()]
        if common := min(map(len, losses)):
            curves.append(BudgetCurve(entry, workload, np.mean([loss[:common] for loss in losses], axis=0)))
    return curves


def budget_scores(
    records: Sequence[RunRecord], studies: Sequence[StudyRecord] = ()
) -> dict[tuple[str, str], dict[str, FloatArray]]:
    """Return expected best scores of validation losses, on the workloads for which tuned cosine has a budget curve.

    Score 0 is the expected best loss of cosine after all its trials.

    Args:
        records: Tuning runs, and the report runs of zero-shot entries.
        studies: Tuning studies without records.

    Returns:
        (ruleset, entry) -> workload -> scores after 1, 2, ... N trials, shape (N,). A zero-shot entry has shape (1,):
        the mean over its report runs, which does not depend on a number of trials.
    """
    chance = {record.workload: record.chance_loss for record in records}
    losses: dict[tuple[str, str, str], FloatArray] = {}
    for curve in budget_curves(records, studies):
        losses["tuned", curve.entry, curve.workload] = curve.loss
    runs: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for record in records:
        if record.ruleset == "zero-shot" and record.role == "report":
            runs[record.ruleset, record.scheduler, record.workload].append(record.objective)
    losses |= {key: np.array([math.fsum(found) / len(found)]) for key, found in runs.items()}
    scores: dict[tuple[str, str], dict[str, FloatArray]] = defaultdict(dict)
    for (ruleset, entry, workload), loss in losses.items():
        if ("tuned", REFERENCE, workload) in losses:
            reference, known = float(losses["tuned", REFERENCE, workload][-1]), chance.get(workload, 0.0)
            scores[ruleset, entry][workload] = workload_score(loss, reference, known)
    return dict(scores)


def trials_to_match(scores: FloatArray, level: float) -> int | None:
    """Return the number of trials after which the expected best score reaches `level`; None if none of them does.

    Args:
        scores: Scores after 1, 2, ... N trials, shape (N,).
        level: The score to reach.
    """
    reached = np.flatnonzero(scores >= level)
    return int(reached[0]) + 1 if reached.size else None


def _objectives(trials: dict[int, dict[int, float]]) -> list[float]:
    seeds = {seed for losses in trials.values() for seed in losses}
    return [math.fsum(losses.values()) / len(losses) for losses in trials.values() if losses.keys() == seeds]
