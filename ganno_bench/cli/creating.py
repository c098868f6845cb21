"""`ganno-bench new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Create the project of a plugin.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    pass


@app.command("scheduler")
def scheduler(
    name: Annotated[str, typer.Argument(help="Name of the scheduler in tables, such as warmup-power.", metavar="NAME")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the project, new or empty. Default: ganno-bench-NAME.", metavar="DIR")
    ] = None,
) -> None:
    """Create a project with a working scheduler: package, entry point and contract test. Then edit it."""
    from ganno_bench.plugins.scaffold import new_scheduler

    folder = new_scheduler(name, out)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            typer.echo(path)
    where = folder if folder.is_absolute() else f"./{folder}"
    typer.echo(f"Next: pip install --editable '{where}[dev]' && ganno-bench check {name}")
