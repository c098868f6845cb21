"""`ganno-bench new`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Create a plugin.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    pass


@app.command("scheduler")
def scheduler(
    name: Annotated[str, typer.Argument(help="Name of the scheduler in tables, such as warmup-power.", metavar="NAME")],
    out: Annotated[
        Path | None, typer.Option(help="New or empty folder. Default: ganno-bench-NAME.", metavar="DIR")
    ] = None,
    file: Annotated[
        bool, typer.Option("--file", help="Write a single file NAME.py instead, into the current folder or --out.")
    ] = False,
) -> None:
    """Write a working scheduler to start from: a package with entry point and contract test, or a single file."""
    from ganno_bench.plugins.scaffold import new_scheduler, new_scheduler_file

    if file:
        path, class_name = new_scheduler_file(name, out)
        where = path if path.is_absolute() else f"./{path}"
        typer.echo(path)
        typer.echo(f"Next: ganno-bench check {shlex.quote(f'{where}:{class_name}')}")
        return
    folder = new_scheduler(name, out)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            typer.echo(path)
    where = folder if folder.is_absolute() else f"./{folder}"
    typer.echo(f"Next: pip install --editable '{where}[dev]' && ganno-bench check {name}")
