"""Pairwise comparison: P(better) of every entry of a table against every other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.bootstrap import interval, resample_workload
from ganno_bench.scoring.metrics import FloatArray, clipped_loss, counted, improvements
from ganno_bench.scoring.results import Ruleset, Standings

__all__ = ["Duel", "duels"]


@dataclass(frozen=True)
class Duel:
    """The comparison of one entry with a rival.

    Attributes:
        probability: P(better): the probability that the entry has the lower test loss with the same seed; mean over
            workloads, a tie counts half.
        low: Lower end of its 95 % confidence interval (stratified bootstrap); None if a workload has a single seed.
        high: Upper end.
    """

    probability: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> Literal["win", "tie", "loss"]:
        """A win or a loss if the confidence interval excludes 1/2, else a tie."""
        if self.low is None or self.high is None or self.low <= 0.5 <= self.high:
            return "tie"
        return "win" if self.low > 0.5 else "loss"


def duels(records: Iterable[RunRecord], standings: Standings, ruleset: Ruleset) -> dict[tuple[str, str], Duel]:
    """Return (entry, rival) -> comparison, for the ranked entries of a table.

    A pair is compared on every workload by the seeds that both have, with the resamples of the standings.
    """
    ranked = [row.entry for row in standings.tables.get(ruleset, ()) if row.rank is not None]
    runs = _losses(records, ranked, ruleset, standings.reference)
    found: dict[tuple[str, str], Duel] = {}
    for index, entry in enumerate(ranked):
        for rival in ranked[index + 1 :]:
            duel = _duel(runs[entry], runs[rival], standings)
            found[entry, rival] = duel
            flipped = (None, None) if duel.low is None or duel.high is None else (1 - duel.high, 1 - duel.low)
            found[rival, entry] = Duel(1 - duel.probability, *flipped)
    return found


_Grid = dict[int, dict[int, float]]
"""Study -> seed -> loss."""


def _losses(
    records: Iterable[RunRecord], entries: Sequence[str], ruleset: Ruleset, reference: Mapping[str, float]
) -> dict[str, dict[str, _Grid]]:
    found: dict[str, dict[str, _Grid]] = {entry: defaultdict(lambda: defaultdict(dict)) for entry in entries}
    for record in records:
        if (
            record.role == "report"
            and record.ruleset == ruleset
            and record.scheduler in found
            and record.workload in reference
        ):
            loss = counted(clipped_loss(record), reference[record.workload], record.chance_loss)
            found[record.scheduler][record.workload][record.study][record.seed] = float(loss)
    return found


def _duel(entry: Mapping[str, _Grid], rival: Mapping[str, _Grid], standings: Standings) -> Duel:
    means, samples, bounded = [], [], True
    for workload in standings.workloads:
        grids = (entry[workload], rival[workload])
        seeds = sorted(set.intersection(*(set(runs) for grid in grids for runs in grid.values())))
        ours, theirs = (-_array(grid, seeds) for grid in grids)
        wins = improvements(ours, theirs)
        means.append(wins.mean())
        drawn = resample_workload(wins, standings.n_resamples, standings.rng_seed, workload)
        samples.append(drawn.mean(axis=1))
        bounded = bounded and len(seeds) > 1
    low, high = interval(np.mean(samples, axis=0)) if bounded else (None, None)
    return Duel(float(np.mean(means)), low, high)


def _array(grid: _Grid, seeds: Sequence[int]) -> FloatArray:
    return np.array([[grid[study][seed] for seed in seeds] for study in sorted(grid)])
