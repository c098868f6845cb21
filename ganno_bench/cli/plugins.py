"""`ganno-bench plugins` and `ganno-bench check`: what others bring, and whether it keeps its contract."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from ganno_bench.cli.console import print_table

__all__ = ["check", "plugins"]


class Kind(StrEnum):
    """What a package or a file may bring."""

    scheduler = "scheduler"
    model = "model"
    dataset = "dataset"
    observation = "observation"
    reward = "reward"


def plugins(
    kind: Annotated[Kind | None, typer.Option(help="Only this kind.")] = None,
    builtin: Annotated[bool, typer.Option("--all", help="What is built in, too.")] = False,
) -> None:
    """List what installed packages bring: schedulers, models, datasets, observations, rewards; broken ones with why."""
    from ganno_bench.plugins.kinds import KINDS, list_plugins

    rows = list_plugins(kind, builtin=builtin)
    if not rows:
        groups = ", ".join(f"ganno_bench.{name}s" for name in KINDS if kind in (None, name))
        typer.echo(f"no installed package brings any (entry-point groups: {groups})", err=True)
    print_table(
        ["kind", "name", "package", "object", "status"],
        [[row.kind, row.name, row.source, row.target, row.error or "ok"] for row in rows],
        styles=["red" if row.error else "" for row in rows],
    )


def check(
    ref: Annotated[
        str, typer.Argument(help="A name, or ./file.py:Name; a model with its arguments, (depth=2).", metavar="REF")
    ],
    kind: Annotated[Kind, typer.Option(help="What it is.")] = Kind.scheduler,
) -> None:
    """Check a scheduler, or another plugin, against the contract that every one of its kind keeps."""
    from ganno_bench.plugins.kinds import KINDS

    results = KINDS[kind].check(ref)
    for result in results:
        typer.echo(f"{'ok    ' if result.ok else 'FAILED'}  {result.name}{'' if result.ok else ': ' + result.message}")
    failed = sum(not result.ok for result in results)
    typer.echo(f"{ref}: {len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)
