"""What a run looks like in a terminal: a progress bar with an estimate; plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganno_bench.api import Report
from ganno_bench.bench.plan import Job
from ganno_bench.bench.progress import Progress as RunProgress
from ganno_bench.cli.console import wide_console

__all__ = ["RunDisplay", "report", "run_display"]


_MOST_CELLS = 100
"""Lines by workload that are printed after a run; with many baselines they would push the ranking off the screen."""


class RunDisplay(RunProgress):
    """Shows a run while it goes on, on standard error; use it as a context manager."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            # A whole population at a time: a short window would swing with every change of workload.
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=120,
            transient=True,
        )
        self._task = self._live.add_task("loading", total=None)
        self._workload = ""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def left_out(self, line: str) -> None:
        self._console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        self._live.reset(self._task, total=total_cost, completed=0, description=title)
        self._live.update(self._task, completed=done_cost)
        done = f", {done_cost / total_cost:.0%} of it done before" if done_cost else ""
        self._say(f"{title}: running{done}")

    def job_started(self, job: Job, n_trials: int) -> None:
        stage = f"trials {job.trials.start + 1}-{job.trials.stop} of {n_trials}" if job.trials else job.role
        self._live.update(self._task, description=f"{job.workload}  {job.entry}  {stage}")
        if job.workload != self._workload:
            self._workload = job.workload
            self._say(f"workload {job.workload}")

    def advanced(self, cost: float) -> None:
        self._live.advance(self._task, cost)

    def failed(self, workload: str, entry: str, error: str) -> None:
        self._console.print(
            f"failed: {entry} on {workload}: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )

    def _say(self, line: str) -> None:
        if not self._console.is_terminal:
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def run_display() -> Iterator[RunDisplay]:
    """Show a run while it goes on; where the user interrupts it, say that it can go on, and exit with 130."""
    try:
        with RunDisplay() as display:
            yield display
    except KeyboardInterrupt:
        typer.echo("interrupted; what was finished is kept, and the same command goes on from there", err=True)
        raise typer.Exit(130) from None


def report(result: Report) -> None:
    """Print the standings, and where everything lies."""
    console = wide_console()
    if result.standings is not None:
        from ganno_bench.leaderboard.formats import to_rich

        console.print(to_rich(result.standings, per_workload=len(result.standings.cells) <= _MOST_CELLS))
    if result.robustness is not None:
        from ganno_bench.leaderboard.robustness_formats import robustness_rich

        console.print(robustness_rich(result.robustness))
    if result.note:
        console.print(result.note, markup=False, soft_wrap=True)
    for what, path in result.files.items():
        console.print(f"{what:<10}{path}", highlight=False, markup=False, soft_wrap=True)
    if result.failures:
        console.print(
            f"{len(result.failures)} failed; see {result.path / 'failures.jsonl'}",
            style="red",
            markup=False,
            soft_wrap=True,
        )
