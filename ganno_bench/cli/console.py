"""Consoles and tables for the commands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["error_console", "print_table", "wide_console"]

_WIDE = 120
"""Columns where the output goes to a file or another program."""

_VERBATIM: dict[str, Any] = {"emoji": False, "highlight": False, "markup": False}
"""Names may hold brackets and colons: rich must print texts as they are."""


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str] = ()) -> None:
    """Print a table on a terminal; elsewhere print a line for each row, with tabs between the cells.

    Args:
        header: Names of the columns.
        rows: Cells, printed unchanged.
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
    """Return a console for tables: as wide as the terminal, or `COLUMNS`; 120 columns if the output goes elsewhere."""
    console = Console(**_VERBATIM)
    return console if console.is_terminal or "COLUMNS" in os.environ else Console(width=_WIDE, **_VERBATIM)


def error_console() -> Console:
    """Return a console for standard error."""
    return Console(stderr=True, **_VERBATIM)
