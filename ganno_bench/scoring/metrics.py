"""Measures of runs: clipped losses, scores, interquartile means, ranks, profiles, time to target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from ganno_bench.core.records import RunRecord, significant

__all__ = [
    "NOTHING_LEARNED",
    "SOLVED",
    "FloatArray",
    "clipped_error",
    "clipped_loss",
    "counted",
    "improvements",
    "interquartile_mean",
    "is_diverged",
    "mean_ranks",
    "median_speed_up",
    "performance_profile",
    "score",
    "speed_up",
    "target_of",
    "updates_to_target",
    "validation_curves",
    "workload_score",
]

FloatArray: TypeAlias = NDArray[np.float64]

SOLVED = 1e-3
"""A workload on which the reference's loss is at most so many times the chance loss is solved."""

NOTHING_LEARNED = 0.99
"""A loss that is at least so many times the chance loss is as good as chance."""

_SMALLEST_LOSS = 1e-12
"""Nats. A loss that is rounded to zero would have an infinite score."""


def is_diverged(record: RunRecord) -> bool:
    """Return whether a report run diverged: it says so, or it has no finite test loss."""
    return record.status == "diverged" or record.metrics.test_loss is None


def clipped_loss(record: RunRecord) -> float:
    """Return the final test loss that a report run is scored at, nats: `min(L, L_chance)`; diverged: `L_chance`."""
    loss = record.metrics.test_loss
    return record.chance_loss if is_diverged(record) or loss is None else min(loss, record.chance_loss)


def clipped_error(record: RunRecord) -> float | None:
    """Return the final test error in [0, 1]; diverged: that of guessing a class; None for language modelling."""
    if record.task == "language-modelling":
        return None
    # Chance is ln(classes) for classification, so exp(-chance) is the share that guessing gets right.
    return 1 - math.exp(-record.chance_loss) if is_diverged(record) else record.metrics.test_error


def counted(losses: float | FloatArray, reference: float, chance: float) -> FloatArray:
    """Return what losses count as in scores, comparisons and ranks: themselves, unless the workload is solved.

    Near zero a ratio of losses says nothing of a scheduler: a ten-thousandth of a nat less can be a score of +200. So
    where the reference solves a workload, who solves it as well ties with it, and who does not loses.

    Args:
        losses: Clipped losses, nats, any shape.
        reference: The workload's reference loss, nats.
        chance: Its chance loss, nats.
    """
    solved = SOLVED * chance
    return np.maximum(np.asarray(losses, dtype=np.float64), solved if reference <= solved else _SMALLEST_LOSS)


def workload_score(losses: float | FloatArray, reference: float, chance: float) -> FloatArray:
    """Return the scores of losses on a workload, as they count; see `counted` and `score`."""
    return score(counted(losses, reference, chance), float(counted(reference, reference, chance)))


def score(loss: float | FloatArray, reference: float) -> FloatArray:
    """Return `100 * ln(reference / loss)`: 0 ties with the reference, +10 is a loss about 10 % lower.

    Args:
        loss: Losses as they count, nats, any shape; see `counted`.
        reference: The workload's reference loss, as it counts, nats.
    """
    return 100 * np.log(reference / np.maximum(np.asarray(loss, dtype=np.float64), _SMALLEST_LOSS))


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Return the mean of the middle half along the last axis (Agarwal et al. 2021).

    A quarter of the values, rounded down, is cut off at each end, as `scipy.stats.trim_mean(scores, 0.25)` does. That
    one only partitions, which leaves the order of summation to the machine; tables must be the same on every machine.
    """
    cut = scores.shape[-1] // 4
    middle: FloatArray = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(axis=-1)
    return middle


def improvements(scores: FloatArray, reference: FloatArray) -> FloatArray:
    """Return who wins, seed by seed: 1 where the score is above the reference's, 0.5 for a tie, 0 below.

    Args:
        scores: Of one entry on one workload, shape (studies, seeds).
        reference: Of tuned cosine with the same seeds, shape (studies', seeds).

    Returns:
        Shape (studies, studies', seeds): tuning studies of two entries have nothing in common, seeds do. The mean is
        the probability of improvement on the workload; over workloads these are averaged.
    """
    difference = scores[:, None, :] - reference[None, :, :]
    return (np.sign(difference) + 1) / 2


def mean_ranks(losses: FloatArray) -> FloatArray:
    """Return each entry's mean over workloads of its rank on a workload; tied entries share the middle rank.

    Args:
        losses: Median clipped losses, shape (entries, workloads).

    Returns:
        Shape (entries,); 1 is best.
    """
    ranks: FloatArray = np.mean(rankdata(losses, method="average", axis=0), axis=1)
    return ranks


def performance_profile(losses: FloatArray, ratios: FloatArray) -> FloatArray:
    """Return the share of problems that an entry solves within a ratio of the best entry's loss (Dolan and More 2002).

    Unlike a score it depends on which entries are compared.

    Args:
        losses: Clipped losses, nats, shape (entries, problems); a problem is a workload with a seed.
        ratios: Loss ratios >= 1, shape (n,).

    Returns:
        Shares in [0, 1], shape (entries, n).
    """
    losses = np.maximum(losses, _SMALLEST_LOSS)
    relative = losses / losses.min(axis=0)
    within: FloatArray = np.mean(relative[:, :, None] <= ratios, axis=1)
    return within


def validation_curves(records: Sequence[RunRecord]) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the validation curves of runs of one workload, clipped at chance; after divergence they are at chance.

    They have six significant digits, as in committed records: a target is met by the same runs in both.

    Returns:
        Updates done, shape (points,), and losses in nats, shape (runs, points).
    """
    updates = sorted({update for record in records for update in record.curve.updates})
    losses = np.empty((len(records), len(updates)))
    for row, record in zip(losses, records, strict=True):
        curve = dict(zip(record.curve.updates, record.curve.val_loss, strict=True))
        values = [curve.get(update) for update in updates]
        row[:] = [significant(record.clipped(value)) for value in values]
    return np.asarray(updates, dtype=np.int64), losses


def updates_to_target(records: Sequence[RunRecord], target: float) -> float:
    """Return the updates after which the median over runs of the validation curve is first at or below a target.

    It is the curve that the median is taken of, not the times: half of the reference's own runs end above its median
    final loss, and its median time would be infinite.

    Args:
        records: Report runs of one entry on one workload.
        target: Validation loss, nats.

    Returns:
        The first recorded number of updates, at least 1; infinite if the target is missed.
    """
    updates, losses = validation_curves(records)
    reached = updates[(np.median(losses, axis=0) <= target) & (updates > 0)]
    return float(reached[0]) if reached.size else math.inf


def target_of(reference: Sequence[RunRecord]) -> tuple[float, float] | None:
    """Return the reference's horizon in updates and its target: the last point of the median of its validation curves.

    On a solved workload the target is what counts as solved. None where the target is as good as chance, or the curve
    is there at its first point already: then it says nothing of an entry that it reaches the target, or when.

    Args:
        reference: Report runs of tuned cosine on one workload.
    """
    updates, losses = validation_curves(reference)
    curve = np.median(losses, axis=0)[updates > 0]
    chance = reference[0].chance_loss
    target = max(float(curve[-1]), SOLVED * chance)
    return (float(updates[-1]), target) if target < min(curve[0], NOTHING_LEARNED * chance) else None


def speed_up(records: Sequence[RunRecord], reference: tuple[float, float]) -> float:
    """Return the reference's updates / the entry's updates to the target.

    The target is the reference's median final validation loss. The reference's updates are its horizon, the updates
    that it was given to get there.

    Args:
        records: Report runs of one entry on one workload.
        reference: Horizon and target of the reference on it; see `target_of`.

    Returns:
        2 means half the updates; 0 that the target was missed (after infinitely many updates). The reference itself
        gets at least 1, more if its curve was there before the end.
    """
    horizon, target = reference
    return horizon / updates_to_target(records, target)


def median_speed_up(speed_ups: Sequence[float]) -> float:
    """Return the median over workloads; 0, which is *missed*, where the target was missed on half of them or more.

    A miss is no small speed-up, so there is nothing half-way between it and one.
    """
    if 2 * sum(value == 0 for value in speed_ups) >= len(speed_ups):
        return 0.0
    return float(np.median(speed_ups))
