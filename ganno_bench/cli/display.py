"""Progress of a run, and its results: a progress bar on a terminal, plain lines elsewhere.

Its imports are light, so that the first line is there before PyTorch is loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

import typer
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ganno_bench.bench.progress import Progress as RunProgress
from ganno_bench.cli.console import error_console, wide_console
from ganno_bench.core.resources import checkout

if TYPE_CHECKING:
    from ganno_bench.api import Report
    from ganno_bench.bench.plan import Job
    from ganno_bench.bench.progress import Scope
    from ganno_bench.core.records import RunRecord

__all__ = ["RunDisplay", "report", "run_display"]


_MOST_CELLS = 100
"""Lines by workload that are printed after a run; with many baselines they would push the ranking off the screen."""

_FIRST_ESTIMATE, _NEXT_ESTIMATE = 3.0, 30.0
"""Seconds from the start of training to the first line with an estimate, and between two of them; not on a terminal."""

_LEAST_SHARE = 0.03
"""Share of the work behind the first line with an estimate, unless that takes longer than the time between two."""

_STAGES = {"report": "report runs", "varied": "runs with one factor changed"}


class RunDisplay(RunProgress):
    """Shows a run on standard error while it trains; use it as a context manager.

    Args:
        standings: Whether the run ends with standings. Then each finished workload's test losses are shown early.
        baselines: Whether these are compared with the committed reference.
    """

    def __init__(self, *, standings: bool = False, baselines: bool = False) -> None:
        self._console = error_console()
        self._live = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            # Whole populations advance it: a short window would swing with every change of workload.
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=120,
            transient=True,
        )
        self._task = self._live.add_task("loading", total=None)
        self._standings = standings
        self._baselines = baselines
        self._workloads: Sequence[str] = ()
        self._workload = ""
        self._compared = False
        self._total_cost = self._done_cost = self._spent = 0.0
        self._start = self._next_estimate = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def loading(self, suite: str) -> None:
        """Say what is loaded; call it before the slow imports.

        Raises:
            UserError: There is no such suite, or it has a fault.
        """
        from ganno_bench.workloads.suite import load_suite

        found = load_suite(suite)
        self._print(f"suite {found.name}: loading PyTorch and the data of {_count(len(found.workload), 'workload')}")

    def left_out(self, line: str) -> None:
        self._print(line, style="yellow")

    def compiling(self, workload: str) -> None:
        self._print(f"compiling {workload} (up to a minute, once: the code is kept)")

    def backends(self, names: Mapping[str, str]) -> None:
        n_compiled = sum(name == "compiled" for name in names.values())
        if n_compiled == len(names):
            return
        from ganno_bench.training.packages import compiler  # here, because it imports PyTorch

        why = "the others do not repay compiling yet; --backend compiled compiles all"
        if compiler() is None:
            why = "there is no C++ compiler, such as g++"
        self._print(f"compiled code: {n_compiled} of {_count(len(names), 'workload')} ({why})")

    def planned(self, scope: Scope) -> None:
        self._workloads = scope.workloads
        workloads = f"on {_count(len(scope.workloads), 'workload')}, for each"
        trials = _count(scope.budget.trials, "trial")
        tuning_seeds = _count(scope.budget.tuning_seeds, "tuning seed")
        report_seeds = _count(scope.budget.report_seeds, "report seed")
        if scope.tuned:
            entries = _count(len(scope.tuned), "tuned entry", "tuned entries")
            tuning = f"{trials} with {tuning_seeds}, then {report_seeds}"
            self._print(f"suite {scope.suite}: {entries} {workloads}: {tuning}")
        if scope.zero_shot:
            entries = _count(len(scope.zero_shot), "zero-shot entry", "zero-shot entries")
            self._print(f"suite {scope.suite}: {entries} {workloads}: {report_seeds}")
        done = f", {scope.n_done} of them already recorded" if scope.n_done else ""
        self._print(f"{_count(scope.n_runs, 'training run')} in total{done}")

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        self._live.reset(self._task, total=total_cost, completed=0, description=title)
        self._live.update(self._task, completed=done_cost)
        self._total_cost, self._done_cost, self._spent = total_cost, done_cost, 0.0
        self._start = time.monotonic()
        self._next_estimate = self._start + _FIRST_ESTIMATE
        self._workload = ""

    def job_started(self, job: Job, n_trials: int) -> None:
        stage = f"trials {job.trials.start + 1}-{job.trials.stop} of {n_trials}" if job.trials else _STAGES[job.role]
        self._live.update(self._task, description=f"{job.workload}: {job.entry}, {stage}")
        if job.workload != self._workload and not self._console.is_terminal:
            self._print(f"{self._place(job.workload)}: {job.workload}")
        self._workload = job.workload

    def advanced(self, cost: float) -> None:
        self._live.advance(self._task, cost)
        self._spent += cost
        now = time.monotonic()
        # The first updates record the operations of the network, which takes long: they say nothing about the rest.
        too_early = (
            self._spent < _LEAST_SHARE * (self._total_cost - self._done_cost) and now < self._start + _NEXT_ESTIMATE
        )
        if self._console.is_terminal or now < self._next_estimate or too_early:
            return
        self._next_estimate = now + _NEXT_ESTIMATE
        done = self._done_cost + self._spent
        left = (self._total_cost - done) * (now - self._start) / self._spent
        self._print(f"{done / self._total_cost:.0%} done, about {_duration(left)} left")

    def workload_finished(self, workload: str, records: Sequence[RunRecord], *, resumed: bool) -> None:
        if resumed or not self._standings or workload == self._workloads[-1]:
            return
        from ganno_bench.leaderboard.preliminary import best_entry, committed_loss, preliminary_table
        from ganno_bench.leaderboard.terminal import TerminalTable

        place = self._place(workload)
        committed = committed_loss(records) if self._baselines else None
        if self._compared:
            self._print(f"{place} has finished: {workload}; {best_entry(records, committed)}")
        elif (table := preliminary_table(f"Preliminary, {place}: {workload}", records, committed)) is not None:
            self._show(TerminalTable(table))
            self._print("scores and ranks follow when all workloads have finished")
            self._compared = True

    def failed(self, workload: str, entry: str, error: str) -> None:
        self._print(f"failed: {entry} on {workload}: {error}", style="red")

    def finished(self) -> None:
        if not self._standings:
            return
        self._live.reset(self._task, total=None, description="writing tables and plots")
        self._print("training has finished; writing tables and plots")
        self._console.print()

    def _place(self, workload: str) -> str:
        return f"workload {list(self._workloads).index(workload) + 1} of {len(self._workloads)}"

    def _print(self, line: str, style: str = "") -> None:
        self._console.print(line, style=style, soft_wrap=not self._console.is_terminal)

    def _show(self, table: RenderableType) -> None:
        self._console.print()
        self._console.print(table)
        self._console.print()


@contextmanager
def run_display(suite: str, *, standings: bool = False, baselines: bool = False) -> Iterator[RunDisplay]:
    """Show a run while it trains, from the loading of its suite; on Ctrl-C say how to resume, and exit with 130.

    Args:
        suite: Name of the suite, or path to its file.
        standings: Whether the run ends with standings.
        baselines: Whether committed baselines are part of them.

    Raises:
        UserError: There is no such suite, or it has a fault.
    """
    try:
        with RunDisplay(standings=standings, baselines=baselines) as display:
            display.loading(suite)
            yield display
    except KeyboardInterrupt:
        typer.echo("interrupted, but finished work is kept; run the same command again to resume", err=True)
        raise typer.Exit(130) from None


def report(result: Report, *, next_steps: Mapping[str, str] | None = None) -> None:
    """Print the standings and the files that were written.

    Args:
        result: What the run returned.
        next_steps: What the user can do next, each with a command or a document; None leaves this part out.
    """
    console = wide_console()
    if result.standings is not None:
        from ganno_bench.leaderboard.terminal import to_rich

        console.print(to_rich(result.standings, per_workload=len(result.standings.cells) <= _MOST_CELLS))
        console.print()
    if result.robustness is not None:
        from ganno_bench.leaderboard.robustness_formats import robustness_rich

        console.print(robustness_rich(result.robustness))
        console.print()
    if result.note:
        console.print(result.note, soft_wrap=True)
    if next_steps is not None:
        console.print("Files", style="bold")
    for what, path in result.files.items():
        console.print(f"{what:<10}{path}", soft_wrap=True)
    if next_steps and (result.standings is not None or result.robustness is not None):
        console.print("\nWhere to go next", style="bold")
        for what, how in next_steps.items():
            console.print(f"{what:<26}{how}", soft_wrap=True)
    if result.failures:
        console.print(
            f"{len(result.failures)} failed (each: an entry on a workload); see {result.path / 'failures.jsonl'}",
            style="red",
            soft_wrap=True,
        )


def next_steps(schedulers: Sequence[str]) -> dict[str, str]:
    """Return what a user can do after a run, each with a command or a document.

    Args:
        schedulers: The schedulers that the user named; empty for those of the suite.
    """
    steps = {"read the tables": _document("docs/reading.md")}
    if any(name.partition("(")[0].partition(":")[0].endswith(".py") for name in schedulers):
        return steps | {
            "after you edit the file": "repeat this command with another --out: a run directory holds one version",
            "try larger suites": "graph, vision and text in place of the suite (see: ganno-bench list suites)",
            "submit the result": _document("docs/submitting.md"),
        }
    return steps | {
        "write a scheduler": "ganno-bench new scheduler NAME --file",
        "add it to these tables": "repeat this command with --scheduler NAME (or ./FILE.py:CLASS)",
        "see larger suites": _document("leaderboard/README.md"),
    }


def _document(name: str) -> str:
    """Return where a document of the project is: a path in a checkout; an installed package does not contain it."""
    root = checkout()
    if root is None:
        return f"{name} in the repository of ganno-bench"
    path = root / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _count(n: int, singular: str, plural: str | None = None) -> str:
    return f"{n} {singular if n == 1 else plural or f'{singular}s'}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{round(seconds)} s" if seconds < 60 else f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"
