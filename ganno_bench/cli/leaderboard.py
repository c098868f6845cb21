"""`ganno-bench leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import BaselinesDir

__all__ = ["app"]

app = typer.Typer(help="The leaderboard: tables and pages from committed records.", no_args_is_help=True)

_Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="The leaderboard's folder. Default: the checkout's, else ./leaderboard.", metavar="DIR"
    ),
]


@app.callback()
def _options() -> None:
    pass


@app.command("build")
def build(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; list what is stale.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="With --check: compare drawings by what they were made from alone.")
    ] = False,
    folder: _Folder = None,
    baselines: BaselinesDir = None,
) -> None:
    """Write README.md, tables and site of the leaderboard from committed records, and from nothing else."""
    from ganno_bench.baselines.files import BaselineFolder
    from ganno_bench.core.resources import checkout
    from ganno_bench.leaderboard.build import committed_boards, stale_files, write_leaderboard

    root = folder or (checkout() or Path()) / "leaderboard"
    boards, pending = committed_boards(BaselineFolder(baselines))
    if not check:
        paths = write_leaderboard(root, boards, pending)
        typer.echo(f"{root}: {len(paths)} files, {sum(path.stat().st_size for path in paths) / 1e6:.1f} MB")
        return
    stale = stale_files(root, boards, pending, redraw=not quick)
    for line in stale:
        typer.echo(f"stale    {line}")
    if stale:
        files = "1 stale file" if len(stale) == 1 else f"{len(stale)} stale files"
        typer.echo(f"{root}: {files}; run: ganno-bench leaderboard build")
        raise typer.Exit(1)
    typer.echo(f"{root}: up to date")
