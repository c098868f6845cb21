"""The console that tables are printed on."""

from __future__ import annotations

from rich.console import Console

__all__ = ["wide_console"]


def wide_console() -> Console:
    """Return a console that is wide enough for every table where the output goes to a file or another program."""
    console = Console()
    return console if console.is_terminal else Console(width=max(100, console.width))
