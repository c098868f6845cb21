"""Scores of a policy on each workload, by validation loss, against rivals with the same seeds.

Test data is never used: records are compared only by `RunRecord.objective`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.bootstrap import interval, resample_workload
from ganno_bench.scoring.metrics import FloatArray, counted, score, workload_score
from ganno_bench.scoring.reference import REFERENCE, remark

__all__ = ["Comparison", "Summary", "TransferCell", "blinded", "compare", "summarise", "transfer_cells"]

Verdict = Literal["win", "tie", "loss"]

_RESAMPLES = 2000


@dataclass(frozen=True)
class Comparison:
    """The comparison of a policy with one rival on one workload.

    Attributes:
        rival: Name of the rival's entry.
        score: 100 ln(rival's median final validation loss / the policy's). Above 0 the policy is better.
        low: Lower end of its 95 % confidence interval, paired by seed; None if there is one seed.
        high: Upper end.
        samples: Resampled scores, shape (R,).
    """

    rival: str
    score: float
    low: float | None
    high: float | None
    samples: FloatArray = field(repr=False, compare=False)

    @property
    def verdict(self) -> Verdict:
        """A win or a loss of the policy if the confidence interval excludes 0, else a tie."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "tie"
        return "win" if self.low > 0 else "loss"


@dataclass(frozen=True)
class TransferCell:
    """The result of a policy on one workload.

    Attributes:
        workload: Id of the workload.
        losses: Entry -> median final validation loss over seeds, nats, at most chance; including the policy.
        chance: Chance loss, nats.
        n_seeds: Number of the policy's runs.
        diverged: Number of these runs that diverged.
        cosine: Comparison with tuned cosine.
        layerwise: Comparison with the layerwise rival that has the lowest median loss here; None if there is none.
        against: Rival -> comparison, for all rivals.
    """

    workload: str
    losses: Mapping[str, float]
    chance: float
    n_seeds: int
    diverged: int
    cosine: Comparison
    layerwise: Comparison | None
    against: Mapping[str, Comparison]

    @property
    def remark(self) -> str | None:
        """A note about tuned cosine that a reader of the scores needs; None if there is none."""
        return remark(self.workload, self.losses[REFERENCE], self.chance)

    def score_of(self, entry: str) -> float:
        """Return the score of an entry's median loss, relative to tuned cosine's."""
        return float(workload_score(self.losses[entry], self.losses[REFERENCE], self.chance))


@dataclass(frozen=True)
class Summary:
    """The summary of several cells.

    Attributes:
        n_cells: Number of cells.
        score: Mean of their scores.
        low: Lower end of the mean's 95 % confidence interval over seeds; None if a cell has none.
        high: Upper end.
        wins: Number of cells whose confidence interval lies above 0.
        ties: Number of cells whose confidence interval includes 0, or that have none.
        losses: Number of cells whose confidence interval lies below 0.
    """

    n_cells: int
    score: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int


def blinded(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records without their measurements on test data."""
    return [
        record.model_copy(update={"metrics": record.metrics.model_copy(update={"test_loss": None, "test_error": None})})
        for record in records
    ]


def compare(policy: Sequence[RunRecord], rival: Sequence[RunRecord]) -> Comparison:
    """Compare report runs of two entries on one workload, by the seeds that both have (at least one).

    If both solve the workload, they tie; see `ganno_bench.scoring.metrics.counted`.
    """
    ours, theirs = ({run.seed: run.objective for run in runs} for runs in (policy, rival))
    seeds = sorted(ours.keys() & theirs.keys())
    name = rival[0].scheduler

    def resampled(losses: Mapping[int, float]) -> FloatArray:
        values = np.array([[losses[seed] for seed in seeds]])
        return np.median(resample_workload(values, _RESAMPLES, 0, policy[0].workload), axis=1)  # paired by seed

    medians = [float(np.median([losses[seed] for seed in seeds])) for losses in (ours, theirs)]

    def count(losses: float | FloatArray) -> FloatArray:
        return counted(losses, medians[1], rival[0].chance_loss)

    samples = _paired_score(count(resampled(ours)), count(resampled(theirs)))
    centre = float(_paired_score(*map(count, medians)))
    low, high = interval(samples) if len(seeds) > 1 else (None, None)
    return Comparison(name, centre, low, high, samples)


def transfer_cells(
    records: Iterable[RunRecord], policy: str, workloads: Sequence[str], layerwise: Sequence[str]
) -> tuple[TransferCell, ...]:
    """Return a cell for each workload on which both the policy and tuned cosine have report runs.

    Args:
        records: Report runs; others are ignored.
        policy: Name of the policy's entry.
        workloads: Ids, in the order of the cells.
        layerwise: Layerwise entries. The best of them on a workload is its layerwise rival.
    """
    runs: dict[str, dict[str, list[RunRecord]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.role == "report":
            runs[record.workload][record.scheduler].append(record)
    cells = []
    for workload in workloads:
        on = runs[workload]
        if policy not in on or REFERENCE not in on:
            continue
        ours = on[policy]
        losses = {name: float(np.median([run.objective for run in found])) for name, found in on.items()}
        against = {name: compare(ours, found) for name, found in on.items() if name != policy}
        best = min((name for name in layerwise if name in against), key=lambda name: losses[name], default=None)
        cells.append(
            TransferCell(
                workload=workload,
                losses=losses,
                chance=ours[0].chance_loss,
                n_seeds=len(ours),
                diverged=sum(run.status == "diverged" for run in ours),
                cosine=against[REFERENCE],
                layerwise=None if best is None else against[best],
                against=against,
            )
        )
    return tuple(cells)


def summarise(comparisons: Sequence[Comparison]) -> Summary:
    """Return the mean score of at least one comparison, and the numbers of wins, ties and losses."""
    verdicts = [comparison.verdict for comparison in comparisons]
    samples = np.mean([comparison.samples for comparison in comparisons], axis=0)
    bounded = all(comparison.low is not None for comparison in comparisons)
    low, high = interval(samples) if bounded else (None, None)
    return Summary(
        n_cells=len(comparisons),
        score=float(np.mean([comparison.score for comparison in comparisons])),
        low=low,
        high=high,
        wins=verdicts.count("win"),
        ties=verdicts.count("tie"),
        losses=verdicts.count("loss"),
    )


def _paired_score(policy: FloatArray, rival: FloatArray) -> FloatArray:
    """Return 100 ln(rival / policy) for losses in nats, any shape."""
    return score(policy, 1.0) - score(rival, 1.0)
