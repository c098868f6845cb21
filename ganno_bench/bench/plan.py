"""What a run consists of: suite x schedulers x seeds -> jobs, one for each population."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ganno_bench.core.records import RunRecord
from ganno_bench.core.seeding import stream_seed
from ganno_bench.workloads.suite import Budget

__all__ = ["Job", "jobs_of", "run_seeds"]


@dataclass(frozen=True)
class Job:
    """One population: a batch of tuning trials, or the report of the winner.

    Attributes:
        workload: Its id.
        entry: Name of the scheduler.
        batch: Index of the tuning batch; the report comes after the last.
        trials: Indices of the trials; none for the report.
        n_seeds: Seeds for each configuration.
    """

    workload: str
    entry: str
    role: Literal["tuning", "report"]
    batch: int
    trials: range
    n_seeds: int

    @property
    def n_runs(self) -> int:
        """Number of records that the job gives."""
        return self.n_seeds * (len(self.trials) if self.role == "tuning" else 1)

    def covers(self, record: RunRecord) -> bool:
        """Whether a record is one of this job's."""
        return (
            (record.workload, record.scheduler, record.role) == (self.workload, self.entry, self.role)
            and (self.role == "report" or record.trial in self.trials)
            and record.seed < self.n_seeds
        )


def jobs_of(workload: str, entry: str, budget: Budget, *, zero_shot: bool = False) -> Iterator[Job]:
    """Return the jobs of one scheduler on one workload, in order: tuning, unless it is zero-shot, and the report."""
    starts = range(0, 0 if zero_shot else budget.trials, budget.batch)
    for batch, first in enumerate(starts):
        trials = range(first, min(first + budget.batch, budget.trials))
        yield Job(workload, entry, "tuning", batch, trials, budget.tuning_seeds)
    yield Job(workload, entry, "report", len(starts), range(0), budget.report_seeds)


def run_seeds(role: str, study: int, n: int) -> Sequence[int]:
    """Return the seeds of the runs of one role, the same for every scheduler and workload.

    Tuning and report never share a seed; another study has other tuning seeds, and the same report seeds.
    """
    path = ("tuning", study) if role == "tuning" else ("report",)
    return [stream_seed(*path, index) for index in range(n)]
