"""What scoring results in: rows, cells, and the standings that hold them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Cell", "Row", "Ruleset", "Standings"]

Ruleset = Literal["tuned", "zero-shot"]


@dataclass(frozen=True)
class Cell:
    """One entry on one workload.

    Attributes:
        entry: Name of the scheduler.
        ruleset: Ruleset of the entry.
        workload: The workload's id.
        n_runs: Number of report runs, diverged ones included.
        diverged: How many of them diverged.
        test_loss: Median over runs of the clipped final test loss, nats.
        test_error: Median over runs of the final test error, in [0, 1]; None for language modelling.
        score: Mean over runs of the score.
        score_low: Lower end of its 95 % bootstrap interval; None with a single seed, which says nothing about others.
        score_high: Upper end of it.
        speed_up: Reference's updates / the entry's updates to the reference's median final validation loss; 0 where
            it was missed, None where there are no records of the reference, or it never got lower than at first.
    """

    entry: str
    ruleset: Ruleset
    workload: str
    n_runs: int
    diverged: int
    test_loss: float
    test_error: float | None
    score: float
    score_low: float | None
    score_high: float | None
    speed_up: float | None


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        entry: Name of the scheduler, or `oracle`.
        ruleset: Ruleset of the entry.
        kind: `entry` takes part; `reference` is a tuned scheduler that the zero-shot table carries; `oracle` is the
            best entry of each workload (by median score), picked in hindsight.
        iqm: Interquartile mean of the score over runs x workloads.
        diverged: Number of report runs that diverged.
        n_runs: Number of report runs.
        n_workloads: Number of workloads with report runs.
        n_trials: Smallest number of trials in any of its tuning studies; None where there are no records of tuning.
        rank: 1 + the number of entries of this table that are significantly better: the 95 % interval of the paired
            difference of interquartile means excludes 0. None for what is not ranked: other kinds, and entries that
            lack workloads.
        iqm_low: Lower end of its 95 % bootstrap interval; None where a workload has a single seed, and for the oracle,
            which is picked on the runs it is scored on and so biased upwards.
        iqm_high: Upper end of it.
        improvement: Probability of improvement over tuned cosine, paired by workload and seed; None for the reference
            itself, for the oracle, and where there are no records of the reference.
        improvement_low: Lower end of its 95 % bootstrap interval; None where a workload has a single seed.
        improvement_high: Upper end of it.
        mean_rank: Mean over workloads of the rank by median test loss among the ranked entries of this table, ties
            at the middle; None for what is not ranked.
        speed_up: Median of `Cell.speed_up` over the workloads that have one; 0 where half of them or more are missed.
        open_optimizer: Whether a released optimizer of its own replaced that of a workload.
        baseline: Whether its runs are committed ones.
    """

    entry: str
    ruleset: Ruleset
    kind: Literal["entry", "reference", "oracle"]
    iqm: float
    diverged: int
    n_runs: int
    n_workloads: int
    n_trials: int | None = None
    rank: int | None = None
    iqm_low: float | None = None
    iqm_high: float | None = None
    improvement: float | None = None
    improvement_low: float | None = None
    improvement_high: float | None = None
    mean_rank: float | None = None
    speed_up: float | None = None
    open_optimizer: bool = False
    baseline: bool = False


@dataclass(frozen=True)
class Standings:
    """All tables of one suite.

    Attributes:
        suite: Name of the suite.
        suite_hash: Its hash.
        custom: Whether the runs departed from the suite's own budget.
        workloads: Workload ids in the order of the tables; an entry needs all of them to be ranked.
        reference: Workload -> loss that scores are relative to, nats.
        committed: Workloads whose reference is the committed one; that of the others is the records' own cosine.
        tables: Ruleset -> rows, best first; a ruleset without entries has no table.
        cells: (ruleset, entry, workload) -> how the entry did there.
        n_trials: Numbers of trials that tuned entries got, ascending; empty where there are no records of tuning.
        n_seeds: Numbers of report seeds per study that entries have on a workload, ascending.
        studies: Tuned entry -> number of tuning studies behind it, on the workload where it has fewest.
        n_resamples: Number of bootstrap resamples.
        rng_seed: Root seed of the bootstrap.
        versions: Package -> versions that the runs were made with.
        notes: Remarks that a reader of the tables needs, one sentence each.
    """

    suite: str
    suite_hash: str
    custom: bool
    workloads: tuple[str, ...]
    reference: Mapping[str, float]
    committed: frozenset[str]
    tables: Mapping[Ruleset, tuple[Row, ...]]
    cells: Mapping[tuple[str, str, str], Cell]
    n_trials: tuple[int, ...]
    n_seeds: tuple[int, ...]
    studies: Mapping[str, int]
    n_resamples: int
    rng_seed: int
    versions: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
