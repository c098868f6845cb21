"""`ganno-bench table` and `ganno-bench plot`: from records to what people look at."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
) -> None:
    """Print the standings of one or several runs of a suite."""
    from ganno_bench.cli.console import wide_console
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard import formats
    from ganno_bench.scoring.standings import standings

    result = standings(read_records(run_dirs))
    if format_ is Format.rich:
        wide_console().print(formats.to_rich(result))
        return
    render = {Format.markdown: formats.to_markdown, Format.csv: formats.to_csv, Format.latex: formats.to_latex}
    typer.echo(render[format_](result), nl=False)


def plot(
    run_dirs: _RunDirs,
    out: Annotated[Path, typer.Option(help="Folder for the pictures.", metavar="DIR")] = Path("plots"),
) -> None:
    """Draw loss curves, learning rates, budget curves and scores, as PNG and SVG."""
    from ganno_bench.core.records import read_records
    from ganno_bench.leaderboard.plots import write_plots
    from ganno_bench.scoring.standings import standings

    records = read_records(run_dirs)
    for path in write_plots(records, standings(records), out):
        typer.echo(path)
