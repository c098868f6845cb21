"""Scores of a policy by validation loss, workload by workload, against rivals that ran on the same seeds.

Test data has no part in this: records are compared by `RunRecord.objective`, and by nothing else that they hold.
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
    """A policy against one rival on one workload.

    Attributes:
        rival: Name of the rival's entry.
        score: 100 ln(rival's median final validation loss / the policy's); above 0 the policy is better.
        low: Lower end of the 95 % interval, paired by seed; None where there is one seed.
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
        """Who is better; a tie where the interval has 0 in it, or where there is none."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "tie"
        return "win" if self.low > 0 else "loss"


@dataclass(frozen=True)
class TransferCell:
    """A policy on one workload.

    Attributes:
        workload: Its id.
        losses: Entry -> median final validation loss over seeds, nats; at worst chance. The policy is among them.
        chance: Chance loss, nats.
        n_seeds: The policy's runs.
        diverged: How many of them diverged.
        cosine: Against tuned cosine.
        layerwise: Against the layerwise rival with the lowest median loss here; None where there is none.
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
        """What a reader of its scores must know of tuned cosine; None: nothing."""
        return remark(self.workload, self.losses[REFERENCE], self.chance)

    def score_of(self, entry: str) -> float:
        """Return the score of an entry's median loss against that of tuned cosine."""
        return float(workload_score(self.losses[entry], self.losses[REFERENCE], self.chance))


@dataclass(frozen=True)
class Summary:
    """Several cells in one row.

    Attributes:
        n_cells: How many there are.
        score: Mean of their scores.
        low: Lower end of the mean's 95 % interval over seeds; None where a cell has none.
        high: Upper end.
        wins: Cells whose interval lies above 0.
        ties: Cells whose interval has 0 in it.
        losses: Cells whose interval lies below 0.
    """

    n_cells: int
    score: float
    low: float | None
    high: float | None
    wins: int
    ties: int
    losses: int


def blinded(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records without what was measured on test data."""
    return [
        record.model_copy(update={"metrics": record.metrics.model_copy(update={"test_loss": None, "test_error": None})})
        for record in records
    ]


def compare(policy: Sequence[RunRecord], rival: Sequence[RunRecord]) -> Comparison:
    """Compare report runs of two entries on one workload, by the seeds that both have; at least one.

    Where the rival solves the workload, and the policy does, they tie; see `ganno_bench.scoring.metrics.counted`.
    """
    ours, theirs = ({run.seed: run.objective for run in runs} for runs in (policy, rival))
    seeds = sorted(ours.keys() & theirs.keys())
    name = rival[0].scheduler

    def resampled(losses: Mapping[int, float]) -> FloatArray:
        values = np.array([[losses[seed] for seed in seeds]])
        return np.median(resample_workload(values, _RESAMPLES, 0, policy[0].workload), axis=1)  # both by the same seeds

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
    """Return a cell for each workload on which both the policy and tuned cosine were run.

    Args:
        records: Those that are no report runs are ignored.
        policy: Name of the policy's entry.
        workloads: Ids, in the order of the cells.
        layerwise: Entries of which the best one on each workload is a rival of its own.
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
    """Return the mean of at least one comparison, and who wins how often."""
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
    """Return 100 ln(rival / policy), nats in, any shape."""
    return score(policy, 1.0) - score(rival, 1.0)
