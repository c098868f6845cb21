"""Hooks that a run calls while it trains, so that a program can show its progress."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ganno_bench.bench.plan import Job
    from ganno_bench.core.records import RunRecord
    from ganno_bench.workloads.suite import Budget

__all__ = ["Progress", "Scope"]


@dataclass(frozen=True)
class Scope:
    """What a run will train.

    Attributes:
        suite: Name of the suite.
        workloads: Workload ids, in order.
        tuned: Names of the entries that are tuned.
        zero_shot: Names of the zero-shot entries, which are not tuned.
        budget: Trials and seeds for each entry on each workload.
        n_runs: Number of training runs.
        n_done: How many of them are already recorded.
    """

    suite: str
    workloads: Sequence[str]
    tuned: Sequence[str]
    zero_shot: Sequence[str]
    budget: Budget
    n_runs: int
    n_done: int


class Progress:
    """Receives the events of a run; this class ignores them. Costs are estimated floating-point operations."""

    def left_out(self, line: str) -> None:
        """Some workloads are left out, because their data are missing; the line names them and the remedy."""

    def compiling(self, workload: str) -> None:
        """The code of a workload is about to be compiled, which takes up to a minute; it is kept for later runs."""

    def backends(self, names: Mapping[str, str]) -> None:
        """Backends were chosen for the user, who left it open; called after `planned`.

        Args:
            names: Workload -> backend.
        """

    def planned(self, scope: Scope) -> None:
        """Data and schedulers are loaded and checked; called before `started`."""

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        """Training begins; `done_cost` was spent in an earlier call."""

    def job_started(self, job: Job, n_trials: int) -> None:
        """A population is about to be trained; `n_trials` is the budget of its study."""

    def advanced(self, cost: float) -> None:
        """Some of the cost was spent."""

    def workload_finished(self, workload: str, records: Sequence[RunRecord], *, resumed: bool) -> None:
        """All entries have finished a workload, or failed on it.

        Args:
            workload: Its id.
            records: All records of the workload.
            resumed: Whether all of them come from an earlier call.
        """

    def failed(self, workload: str, entry: str, error: str) -> None:
        """A scheduler failed on a workload; the others continue."""

    def finished(self) -> None:
        """All training has finished."""
