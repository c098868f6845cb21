"""What a run tells about itself while it goes on."""

from __future__ import annotations

from ganno_bench.bench.plan import Job

__all__ = ["Progress"]


class Progress:
    """Receives what happens in a run; this one ignores it. Costs are in estimated floating-point operations."""

    def left_out(self, line: str) -> None:
        """Some workloads take no part, for want of their data; the line says which, and how to supply it."""

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        """Everything is loaded and checked; `done_cost` was already there."""

    def job_started(self, job: Job, n_trials: int) -> None:
        """A population is about to be trained; `n_trials` is the budget of its study."""

    def advanced(self, cost: float) -> None:
        """Some of the cost was spent."""

    def failed(self, workload: str, entry: str, error: str) -> None:
        """A scheduler could not be run on a workload; the rest goes on."""

    def finished(self) -> None:
        """There is nothing left to do."""
