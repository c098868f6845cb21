"""`ganno-bench table` and `ganno-bench plot`: tables and plots from records."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import WithBaselines

__all__ = ["plot", "table"]

_RunDirs = Annotated[
    list[Path], typer.Argument(help="Run directories or record files of one suite.", metavar="RUN_DIR")
]


class Format(StrEnum):
    """Formats of a table."""

    rich = "rich"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"


def table(
    run_dirs: _RunDirs,
    format_: Annotated[
        Format, typer.Option("--format", help="Format of the output; rich is for a terminal.")
    ] = Format.rich,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Print only the table of scores with one factor changed.")
    ] = False,
    baselines: WithBaselines = True,
) -> None:
    """Print the standings of one or several runs of a suite.

    If the suite varies factors such as the base learning rate, a table of robustness follows.
    CSV has one table at a time: the standings, or the table of robustness with --robustness.
    """
    from ganno_bench.baselines.files import BaselineFolder, compare_with
    from ganno_bench.cli.console import wide_console
    from ganno_bench.core.errors import RecordError
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard import formats
    from ganno_bench.leaderboard import robustness_formats as varied_formats
    from ganno_bench.leaderboard.robustness_tables import robustness_csv
    from ganno_bench.leaderboard.terminal import to_rich
    from ganno_bench.scoring.robustness import robustness as score_varied

    comparison = compare_with(BaselineFolder() if baselines else None, read_records(run_dirs))
    result = comparison.standings()
    varied = score_varied(comparison.records, result)
    if robustness and varied is None:
        raise RecordError(f"option --robustness: suite {result.suite!r} has no entry with all of its varied runs")
    if format_ is Format.rich:
        console = wide_console()
        if not robustness:
            console.print(to_rich(result))
        if varied is not None:
            console.print("" if robustness else "\n", end="")
            console.print(varied_formats.robustness_rich(varied))
        return
    render = {Format.markdown: formats.to_markdown, Format.csv: formats.to_csv, Format.latex: formats.to_latex}
    render_varied = {
        Format.markdown: varied_formats.robustness_markdown,
        Format.csv: robustness_csv,
        Format.latex: varied_formats.robustness_latex,
    }
    parts = [] if robustness else [render[format_](result)]
    if varied is not None and (robustness or format_ is not Format.csv):
        parts.append(render_varied[format_](varied))
    typer.echo("\n".join(parts), nl=False)


def plot(
    run_dirs: _RunDirs,
    out: Annotated[Path, typer.Option(help="Folder for the plots.", metavar="DIR")] = Path("plots"),
    baselines: WithBaselines = True,
) -> None:
    """Plot loss curves, learning rates, budget curves and scores, as PNG and SVG."""
    from ganno_bench.baselines.files import BaselineFolder, compare_with
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard.plots import write_plots

    comparison = compare_with(BaselineFolder() if baselines else None, read_records(run_dirs))
    for path in write_plots(comparison.records, comparison.standings(), out, comparison.studies):
        typer.echo(path)
