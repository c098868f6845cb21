"""The plan of a run: suite x schedulers x seeds -> jobs, one for each population."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Literal, Self

from ganno_bench.core.records import Factor, RunRecord
from ganno_bench.tuning.space import Config
from ganno_bench.workloads.suite import Budget, Variation, WorkloadSpec

__all__ = ["Change", "Job", "jobs_of"]


@dataclass(frozen=True)
class Change:
    """One changed factor of an entry's configuration or of its workload.

    Attributes:
        factor: The factor.
        multiple: The new value, as a multiple of the entry's or workload's value.
    """

    factor: Factor
    multiple: float

    @classmethod
    def of_record(cls, record: RunRecord) -> Self | None:
        """Return the change of a varied run; None for a report or tuning run."""
        if record.factor is None or record.multiple is None:
            return None
        return cls(record.factor, record.multiple)

    def of_config(self, config: Config) -> Config:
        """Return a configuration with the change; horizon and batch size belong to the workload and change nothing."""
        if self.factor not in ("base_lr", "weight_decay"):
            return config
        return {**config, self.factor: float(config[self.factor]) * self.multiple}


@dataclass(frozen=True)
class Job:
    """One population: a batch of trials, the report of the best configuration, or its varied runs.

    Attributes:
        workload: Id of the workload.
        entry: Name of the scheduler.
        role: What the runs are for.
        batch: Index of the job on its workload: first the batches of tuning, then the report, then the varied runs.
        trials: Indices of the trials; empty except for tuning.
        n_seeds: Seeds for each configuration.
        changes: Changes, each applied alone; all of them train the same workload. Empty except for varied runs.
    """

    workload: str
    entry: str
    role: Literal["tuning", "report", "varied"]
    batch: int
    trials: range
    n_seeds: int
    changes: tuple[Change, ...] = ()

    @property
    def n_runs(self) -> int:
        """Number of records that the job produces."""
        return self.n_seeds * max(1, len(self.trials), len(self.changes))

    def covers(self, record: RunRecord) -> bool:
        """Whether a record belongs to this job."""
        return (
            (record.workload, record.scheduler, record.role) == (self.workload, self.entry, self.role)
            and (self.role != "tuning" or record.trial in self.trials)
            and (self.role != "varied" or (record.factor, record.multiple) in map(astuple, self.changes))
            and record.seed < self.n_seeds
        )

    def spec(self, workload: WorkloadSpec) -> WorkloadSpec:
        """Return the workload that the job trains, given the suite's workload."""
        return workload.varied(*astuple(self.changes[0])) if self.changes else workload


def jobs_of(
    workload: str, entry: str, budget: Budget, variation: Variation | None = None, *, zero_shot: bool = False
) -> Iterator[Job]:
    """Yield the jobs of one scheduler on one workload in order: tuning (unless zero-shot), report, varied runs.

    Changes of the configuration share one population. Each change of horizon or batch size has its own.
    """
    starts = range(0, 0 if zero_shot else budget.trials, budget.batch)
    for batch, first in enumerate(starts):
        trials = range(first, min(first + budget.batch, budget.trials))
        yield Job(workload, entry, "tuning", batch, trials, budget.tuning_seeds)
    yield Job(workload, entry, "report", len(starts), range(0), budget.report_seeds)
    if variation is None:
        return
    changes = [Change(*setting) for setting in variation.settings]
    of_config = tuple(change for change in changes if change.factor in ("base_lr", "weight_decay"))
    populations = [of_config, *((change,) for change in changes if change not in of_config)]
    n_seeds = min(variation.seeds, budget.report_seeds)
    for batch, population in enumerate(filter(None, populations), len(starts) + 1):
        yield Job(workload, entry, "varied", batch, range(0), n_seeds, population)
