"""`ganno-bench plugins` and `ganno-bench check`: list plugins, and check them against their contract."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.console import print_table

__all__ = ["check", "plugins"]


class Kind(StrEnum):
    """Kinds of plugins."""

    scheduler = "scheduler"
    model = "model"
    dataset = "dataset"
    observation = "observation"
    reward = "reward"


def plugins(
    kind: Annotated[Kind | None, typer.Option(help="List only this kind.")] = None,
    builtin: Annotated[bool, typer.Option("--all", help="Also list built-in plugins.")] = False,
) -> None:
    """List the plugins of installed packages: schedulers, models, datasets, observations and rewards.

    The last column says whether a plugin works, or why not.
    """
    from ganno_bench.plugins.kinds import KINDS, list_plugins

    rows = list_plugins(kind, builtin=builtin)
    if not rows:
        groups = ", ".join(f"ganno_bench.{name}s" for name in KINDS if kind in (None, name))
        typer.echo(f"no installed package has plugins (entry-point groups: {groups})", err=True)
    print_table(
        ["kind", "name", "package", "object", "status"],
        [[row.kind, row.name, row.source, row.target, row.error or "ok"] for row in rows],
        styles=["red" if row.error else "" for row in rows],
    )


def check(
    ref: Annotated[
        str,
        typer.Argument(
            help="Name of a plugin, or ./FILE.py:NAME. A model needs its arguments, such as mlp(depth=2).",
            metavar="NAME",
        ),
    ],
    kind: Annotated[Kind, typer.Option(help="Kind of the plugin.")] = Kind.scheduler,
) -> None:
    """Check whether a scheduler or another plugin keeps the contract of its kind.

    Exit code 1 means that a check failed.
    """
    if kind is Kind.dataset and Path(ref).is_dir():
        from ganno_bench.core.errors import ConfigError

        raise ConfigError(
            f"argument NAME: is a folder, but only dataset plugins have a contract (value: {ref!r}); to use the "
            f"folder, write source = {ref!r} in a suite's [dataset.NAME]"
        )
    from ganno_bench.plugins.kinds import KINDS

    results = KINDS[kind].check(ref)
    for result in results:
        typer.echo(f"{'ok    ' if result.ok else 'FAILED'}  {result.name}{'' if result.ok else ': ' + result.message}")
    failed = sum(not result.ok for result in results)
    typer.echo(f"{ref}: {len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)
    if kind is Kind.scheduler and ".py:" in ref:
        typer.echo(f"Next: ganno-bench run graph --scheduler {shlex.quote(ref)}", err=True)
