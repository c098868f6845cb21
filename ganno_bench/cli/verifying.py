"""`ganno-bench verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from ganno_bench.cli.options import BaselinesDir, DataDirs

__all__ = ["app"]

app = typer.Typer(help="Check whether committed results can be reproduced.", no_args_is_help=True)


@app.callback()
def _options() -> None:
    pass


@app.command("baselines")
def baselines(
    suite: Annotated[
        str | None, typer.Option(help="Check only this suite: its name, or path to a TOML file.", metavar="SUITE")
    ] = None,
    sample: Annotated[int, typer.Option(help="Number of committed runs to train again.", min=0, metavar="N")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the random choice of these runs.", metavar="N")] = 0,
    data_dir: DataDirs = None,
    folder: BaselinesDir = None,
) -> None:
    """Check the committed baselines.

    All files are compared with one another and with the code. A random sample of the runs is trained again.
    """
    from ganno_bench.baselines.files import BaselineFolder
    from ganno_bench.baselines.retrain import retrain
    from ganno_bench.baselines.verify import BaselineSuites, check_files

    where, suites = BaselineFolder(folder), BaselineSuites(suite)
    faults = check_files(where, suites)
    for fault in faults:
        typer.echo(f"FAULT    {fault}")
    n_entries, n_trained, n_skipped = len(list(where.path.glob("*.toml"))), 0, 0
    for outcome in retrain(where, suites, sample, seed, tuple(data_dir or ())):
        if outcome.ok is None:
            n_skipped += 1
            typer.echo(f"skipped  {outcome.name}: {outcome.text}")
            continue
        n_trained += 1
        typer.echo(f"{'ok     ' if outcome.ok else 'FAULT  '}  {outcome.name}: {outcome.text}")
        if not outcome.ok:
            faults.append(outcome.text)
    left = f", {n_skipped} skipped because their data are missing" if n_skipped else ""
    typer.echo(f"{where.path}: {n_entries} entries, {n_trained} runs trained again{left}, {len(faults)} faults")
    if faults:
        raise typer.Exit(1)
