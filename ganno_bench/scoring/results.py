"""The results of scoring: standings, with their rows and cells."""

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
        score_low: Lower end of its 95 % confidence interval (bootstrap); None with a single seed.
        score_high: Upper end of it.
        speed_up: Horizon of the reference / updates until the entry reaches the target, which is the reference's median
            final validation loss. 0: the entry missed it. None: there are no records of the reference, or its target
            is at chance or equals the first measured loss.
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
        kind: `entry` takes part; `reference` is a tuned scheduler shown in the zero-shot table; `oracle` is the best
            entry of each workload (by median score), chosen after the fact.
        iqm: Interquartile mean of the score over runs x workloads.
        diverged: Number of report runs that diverged.
        n_runs: Number of report runs.
        n_workloads: Number of workloads with report runs.
        n_trials: Smallest number of trials in any of its tuning studies; None without records of tuning.
        rank: 1 + the number of entries of this table that are significantly better: the 95 % confidence interval of
            the paired difference of interquartile means excludes 0. None for other kinds, and for entries that lack
            workloads.
        iqm_low: Lower end of its 95 % confidence interval (bootstrap); None if a workload has a single seed, and for
            the oracle, which is biased upwards because the same runs choose and score it.
        iqm_high: Upper end of it.
        improvement: Probability of improvement over tuned cosine, paired by workload and seed; None for the reference
            itself, for the oracle, and without records of the reference.
        improvement_low: Lower end of its 95 % confidence interval (bootstrap); None if a workload has a single seed.
        improvement_high: Upper end of it.
        mean_rank: Mean over workloads of the rank by median test loss among the ranked entries of this table; tied
            entries share the mean of their ranks. None for rows without a rank.
        speed_up: Median of `Cell.speed_up` over the workloads that have one; 0 if half of them or more are missed.
        open_optimizer: Whether the entry replaced a workload's optimizer.
        baseline: Whether its runs are committed.
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
        workloads: Workload ids in the order of the tables; only an entry with all of them has a rank.
        reference: Workload -> loss of the reference, nats; scores are relative to it.
        committed: Workloads with a committed reference; on the others the reference is the cosine of the records.
        tables: Ruleset -> rows, best first; a ruleset without entries has no table.
        cells: (ruleset, entry, workload) -> results of the entry on the workload.
        n_trials: Numbers of trials of the tuned entries, ascending; empty without records of tuning.
        n_seeds: Numbers of report seeds per study that entries have on a workload, ascending.
        studies: Tuned entry -> number of its tuning studies, on the workload with the fewest.
        n_resamples: Number of bootstrap resamples.
        rng_seed: Root seed of the bootstrap.
        versions: Package -> its versions in the runs.
        notes: Remarks for a reader of the tables, one line of text each.
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
