"""`ganno-bench table` and `ganno-bench plot`: from records to what people look at."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import WithBaselines

__all__ = ["plot", "table"]

_RunDirs = Annotated[list[Path], typer.Argument(help="Run directories, or record files.", metavar="RUN_DIR")]


class Format(StrEnum):
    """How a table is written."""

    rich = "rich"
    markdown = "markdown"
    csv = "csv"
    latex = "latex"


def table(
    run_dirs: _RunDirs,
    format_: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.rich,
    baselines: WithBaselines = True,
) -> None:
    """Print the standings of one or several runs of a suite."""
    from ganno_bench.baselines.files import BaselineFolder, compare_with
    from ganno_bench.cli.console import wide_console
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard import formats

    result = compare_with(BaselineFolder() if baselines else None, read_records(run_dirs)).standings()
    if format_ is Format.rich:
        wide_console().print(formats.to_rich(result))
        return
    render = {Format.markdown: formats.to_markdown, Format.csv: formats.to_csv, Format.latex: formats.to_latex}
    typer.echo(render[format_](result), nl=False)


def plot(
    run_dirs: _RunDirs,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", metavar="DIR")] = Path("plots"),
    baselines: WithBaselines = True,
) -> None:
    """Draw loss curves, learning rates, budget curves and scores, as PNG and SVG."""
    from ganno_bench.baselines.files import BaselineFolder, compare_with
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard.plots import write_plots

    comparison = compare_with(BaselineFolder() if baselines else None, read_records(run_dirs))
    for path in write_plots(comparison.records, comparison.standings(), out, comparison.studies):
        typer.echo(path)
