"""`ganno-bench run` and `ganno-bench check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli.options import DataDirs, Device

__all__ = ["check", "run"]


def run(
    suite: Annotated[
        str, typer.Argument(help="Name of a suite (see: list suites), or path to a TOML file.", metavar="SUITE")
    ],
    scheduler: Annotated[
        list[str] | None,
        typer.Option(
            help="Scheduler to run: a name (see: list schedulers), ./file.py:ClassName, or torch:ClassName(key=value). "
            "Repeat for several. Default: the suite's own.",
            metavar="REF",
        ),
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Optuna trials per scheduler and workload.")] = None,
    tuning_seeds: Annotated[int | None, typer.Option(help="Seeds per trial.")] = None,
    report_seeds: Annotated[int | None, typer.Option(help="Fresh seeds for each winner.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory. Default: runs/SUITE.", metavar="DIR")] = None,
    data_dir: DataDirs = None,
    device: Device = "cpu",
    backend: Annotated[str, typer.Option(help="auto, vmap (all runs in one pass) or loop (one by one).")] = "auto",
    threads: Annotated[
        int, typer.Option(help="Threads per operation. More than 1 pays for large networks, on an idle machine.")
    ] = 1,
    max_population: Annotated[
        int | None, typer.Option(help="Most runs in one pass. Default: as many as fit the cache.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL. Default: a journal in the run directory.", metavar="URL")
    ] = None,
    study: Annotated[int, typer.Option(help="Index of the independent tuning study.")] = 0,
) -> None:
    """Run a suite: tune each scheduler on each workload, rerun the winners on fresh seeds, print the standings.

    The same command again goes on where the last one stopped. Anything but the suite's own trials and seeds marks the
    run as custom.
    """
    from ganno_bench.api import run_with_settings
    from ganno_bench.bench.runner import Settings
    from ganno_bench.cli.display import report, run_display

    settings = Settings(
        suite=suite,
        schedulers=scheduler or None,
        trials=trials,
        tuning_seeds=tuning_seeds,
        report_seeds=report_seeds,
        out=out,
        data_dirs=tuple(data_dir or ()),
        device=device,
        backend=backend,
        threads=threads,
        max_population=max_population,
        storage=storage,
        study=study,
    )
    with run_display() as display:
        result = run_with_settings(settings, display)
    report(result)
    if result.failures:
        raise typer.Exit(1)


def check(
    ref: Annotated[str, typer.Argument(help="A scheduler's name, or ./file.py:ClassName.", metavar="REF")],
) -> None:
    """Check a scheduler against the contract that every scheduler of the benchmark keeps."""
    from ganno_bench.testing.scheduler_contract import check_scheduler

    results = check_scheduler(ref)
    for result in results:
        typer.echo(f"{'ok    ' if result.ok else 'FAILED'}  {result.name}{'' if result.ok else ': ' + result.message}")
    failed = sum(not result.ok for result in results)
    typer.echo(f"{ref}: {len(results) - failed} of {len(results)} checks passed")
    if failed:
        raise typer.Exit(1)
