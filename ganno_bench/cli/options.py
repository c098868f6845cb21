"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DataDirs", "Device"]

DataDirs = Annotated[
    list[Path] | None,
    typer.Option(help="Folder with datasets in hub layout. Also: GANNO_BENCH_DATA.", metavar="DIR"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]
