"""Measures of runs: clipped losses, scores, interquartile means, ranks, performance profiles, updates to target."""

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
"""A workload is solved if the reference's loss is at most this multiple of the chance loss."""

NOTHING_LEARNED = 0.99
"""A network has learned nothing if its loss is at least this multiple of the chance loss."""

_SMALLEST_LOSS = 1e-12
"""Nats. A loss of 0 would have an infinite score."""


def is_diverged(record: RunRecord) -> bool:
    """Return whether a report run diverged: its status says so, or it has no finite test loss."""
    return record.status == "diverged" or record.metrics.test_loss is None


def clipped_loss(record: RunRecord) -> float:
    """Return the final test loss that counts for a report run, nats: `min(L, L_chance)`; `L_chance` if it diverged."""
    loss = record.metrics.test_loss
    return record.chance_loss if is_diverged(record) or loss is None else min(loss, record.chance_loss)


def clipped_error(record: RunRecord) -> float | None:
    """Return the final test error in [0, 1]; the error of guessing if it diverged; None for language modelling."""
    if record.task == "language-modelling":
        return None
    # In classification chance is ln(classes), so guessing is right with probability exp(-chance).
    return 1 - math.exp(-record.chance_loss) if is_diverged(record) else record.metrics.test_error


def counted(losses: float | FloatArray, reference: float, chance: float) -> FloatArray:
    """Return the losses as they count in scores, comparisons and ranks: unchanged, unless the workload is solved.

    Near 0, ratios of losses say nothing about a scheduler: 0.0001 nats less can be a score of +200. So if the reference
    solves a workload, all losses up to the limit of `SOLVED` count as that limit. Entries that solve it tie with the
    reference, and entries that do not solve it lose.

    Args:
        losses: Clipped losses, nats, any shape.
        reference: The workload's reference loss, nats.
        chance: Its chance loss, nats.
    """
    solved = SOLVED * chance
    return np.maximum(np.asarray(losses, dtype=np.float64), solved if reference <= solved else _SMALLEST_LOSS)


def workload_score(losses: float | FloatArray, reference: float, chance: float) -> FloatArray:
    """Return the scores of losses on a workload: `score` of the `counted` losses."""
    return score(counted(losses, reference, chance), float(counted(reference, reference, chance)))


def score(loss: float | FloatArray, reference: float) -> FloatArray:
    """Return `100 * ln(reference / loss)`: 0 equals the reference, +10 is a loss about 10 % lower.

    Args:
        loss: Counted losses, nats, any shape; see `counted`.
        reference: The workload's counted reference loss, nats.
    """
    return 100 * np.log(reference / np.maximum(np.asarray(loss, dtype=np.float64), _SMALLEST_LOSS))


def interquartile_mean(scores: FloatArray) -> FloatArray:
    """Return the mean of the middle half along the last axis (Agarwal et al. 2021).

    It cuts off a quarter of the values, rounded down, at each end, as `scipy.stats.trim_mean(scores, 0.25)` does. SciPy
    only partitions the values, so its order of summation depends on the machine. Tables must be the same everywhere.
    """
    cut = scores.shape[-1] // 4
    middle: FloatArray = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut].mean(axis=-1)
    return middle


def improvements(scores: FloatArray, reference: FloatArray) -> FloatArray:
    """Return which of two entries wins for each seed: 1 if `scores` is higher, 0.5 for a tie, else 0.

    Args:
        scores: Scores of one entry on one workload, shape (studies, seeds).
        reference: Scores of the other entry, such as tuned cosine, with the same seeds, shape (studies', seeds).

    Returns:
        Shape (studies, studies', seeds): each study of one entry is compared with each of the other, by equal seeds.
        The mean is P(better) on the workload. P(better) of an entry is the mean over workloads.
    """
    difference = scores[:, None, :] - reference[None, :, :]
    return (np.sign(difference) + 1) / 2


def mean_ranks(losses: FloatArray) -> FloatArray:
    """Return the mean rank of each entry over workloads; tied entries share the middle rank.

    Args:
        losses: Median clipped losses, shape (entries, workloads).

    Returns:
        Shape (entries,); 1 is best.
    """
    ranks: FloatArray = np.mean(rankdata(losses, method="average", axis=0), axis=1)
    return ranks


def performance_profile(losses: FloatArray, ratios: FloatArray) -> FloatArray:
    """Return the share of problems on which an entry's loss is within a ratio of the best (Dolan and More 2002).

    Unlike a score, it depends on the other entries.

    Args:
        losses: Clipped losses, nats, shape (entries, problems). A problem is a workload with a seed.
        ratios: Loss ratios of at least 1, shape (n,).

    Returns:
        Shares in [0, 1], shape (entries, n).
    """
    losses = np.maximum(losses, _SMALLEST_LOSS)
    relative = losses / losses.min(axis=0)
    within: FloatArray = np.mean(relative[:, :, None] <= ratios, axis=1)
    return within


def validation_curves(records: Sequence[RunRecord]) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the validation curves of runs of one workload, clipped at chance. After divergence they are at chance.

    They have six significant digits, as in committed records, so that the same runs reach a target in both.

    Returns:
        Numbers of updates, shape (points,), and losses in nats, shape (runs, points).
    """
    updates = sorted({update for record in records for update in record.curve.updates})
    losses = np.empty((len(records), len(updates)))
    for row, record in zip(losses, records, strict=True):
        curve = dict(zip(record.curve.updates, record.curve.val_loss, strict=True))
        values = [curve.get(update) for update in updates]
        row[:] = [significant(record.clipped(value)) for value in values]
    return np.asarray(updates, dtype=np.int64), losses


def updates_to_target(records: Sequence[RunRecord], target: float) -> float:
    """Return the number of updates after which the median validation curve over runs first reaches a target.

    The median is taken over curves, not over the runs' numbers of updates: half of the reference's runs end above its
    median final loss, so the median number would be infinite.

    Args:
        records: Report runs of one entry on one workload.
        target: Validation loss, nats.

    Returns:
        The first recorded number of updates, at least 1, at which the curve is at or below the target; infinity if
        there is none.
    """
    updates, losses = validation_curves(records)
    reached = updates[(np.median(losses, axis=0) <= target) & (updates > 0)]
    return float(reached[0]) if reached.size else math.inf


def target_of(reference: Sequence[RunRecord]) -> tuple[float, float] | None:
    """Return the reference's horizon in updates and the target: the last point of its median validation curve.

    On a solved workload the target is the limit of `SOLVED`. There is no target if the reference has learned nothing,
    or if its curve is at the target at its first point: reaching the target would then say nothing about an entry.

    Args:
        reference: Report runs of tuned cosine on one workload.

    Returns:
        Horizon and target in nats; None if there is no target.
    """
    updates, losses = validation_curves(reference)
    curve = np.median(losses, axis=0)[updates > 0]
    chance = reference[0].chance_loss
    target = max(float(curve[-1]), SOLVED * chance)
    return (float(updates[-1]), target) if target < min(curve[0], NOTHING_LEARNED * chance) else None


def speed_up(records: Sequence[RunRecord], reference: tuple[float, float]) -> float:
    """Return the speed-up: the reference's horizon / the number of updates that the entry needs to reach the target.

    Args:
        records: Report runs of one entry on one workload.
        reference: Horizon and target of the reference on the workload; see `target_of`.

    Returns:
        2 means half the updates; 0 means that the entry missed the target. The reference itself has at least 1, and
        more if its curve reaches the target before the end.
    """
    horizon, target = reference
    return horizon / updates_to_target(records, target)


def median_speed_up(speed_ups: Sequence[float]) -> float:
    """Return the median over workloads; 0 (*missed*) if the entry missed the target on half of them or more.

    A miss is not a small speed-up, so it is never averaged with one.
    """
    if 2 * sum(value == 0 for value in speed_ups) >= len(speed_ups):
        return 0.0
    return float(np.median(speed_ups))
