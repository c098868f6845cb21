"""The budget curve: how good a scheduler is expected to be after n tuning trials.

Dodge et al. 2019, Sivaprasad et al. 2020. All trials of a study are taken in random order, which is why the curve of
an adaptive sampler begins somewhat too well: a random trial is better than the first ones were. The best trial's
objective is also its luck on the tuning seeds. Both flatter tuning, none of it a zero-shot entry beside it.
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
    """What tuning a scheduler on a workload is worth.

    Attributes:
        entry: The scheduler.
        workload: The workload.
        loss: Expected best objective, nats, after 1, 2, ... N trials, shape (N,); mean over the tuning studies.
    """

    entry: str
    workload: str
    loss: FloatArray


def expected_best(objectives: Sequence[float]) -> FloatArray:
    """Return the expected minimum of n of N objectives, drawn without replacement, for n = 1 ... N.

    Exact: the i-th smallest is the minimum of C(N - i, n - 1) of the C(N, n) subsets.

    Args:
        objectives: One per trial, nats.

    Returns:
        Shape (N,); the first is the mean, the last the minimum.
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
    """Return the budget curve of every scheduler and workload that was tuned, sorted by both.

    A trial's objective is the mean over the tuning seeds of the final validation loss, at worst chance. Trials that
    lack a seed that others of their study have are left out. Of studies of unequal length, the common part counts.

    Args:
        records: Tuning runs; others are ignored.
        studies: Tuning studies that there are no records of.
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
    """Return expected best scores of validation losses, on the workloads that tuned cosine has a budget curve on.

    0 is what cosine is expected to have after all its trials.

    Args:
        records: Tuning runs, and the report runs of zero-shot entries.
        studies: Tuning studies that there are no records of.

    Returns:
        (ruleset, entry) -> workload -> scores after 1, 2, ... N trials, shape (N,). A zero-shot entry has shape (1,):
        the mean over its report runs, whatever the number of trials.
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
    """Return how many trials it takes until the expected best score reaches `level`; None: more than there are.

    Args:
        scores: After 1, 2, ... N trials, shape (N,).
        level: Score to reach.
    """
    reached = np.flatnonzero(scores >= level)
    return int(reached[0]) + 1 if reached.size else None


def _objectives(trials: dict[int, dict[int, float]]) -> list[float]:
    seeds = {seed for losses in trials.values() for seed in losses}
    return [math.fsum(losses.values()) / len(losses) for losses in trials.values() if losses.keys() == seeds]
