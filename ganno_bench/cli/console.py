"""The console that tables are printed on."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["print_table", "wide_console"]


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table; for other programs a line each, columns separated by tabs, nothing cut off.

    Args:
        header: Names of the columns.
        rows: Their cells, which are shown as they are.
        styles: A style for each row, such as `red`; none by default.
    """
    console = Console()
    if not console.is_terminal:
        for row in [header, *rows]:
            typer.echo("\t".join(row))
        return
    table = Table(*header, box=None, header_style="bold", pad_edge=False)
    for row, style in zip(rows, styles or [""] * len(rows), strict=True):
        table.add_row(*map(Text, row), style=style)
    console.print(table)


def wide_console() -> Console:
    """Return a console that is wide enough for every table where the output goes to a file or another program."""
    console = Console()
    return console if console.is_terminal else Console(width=max(120, console.width))
