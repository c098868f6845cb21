"""`ganno-bench run` and `ganno-bench tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganno_bench.cli import options

__all__ = ["run", "tune"]


def run(
    suite: options.Suite,
    scheduler: options.Schedulers = None,
    trials: options.Trials = None,
    tuning_seeds: options.TuningSeeds = None,
    report_seeds: options.ReportSeeds = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run directory, for records, tables and plots. Default: runs/SUITE.", metavar="DIR"),
    ] = None,
    data_dir: options.DataDirs = None,
    device: options.Device = "cpu",
    backend: options.Backend = "auto",
    threads: options.Threads = 1,
    max_population: options.MaxPopulation = None,
    storage: options.Storage = None,
    study: options.Study = 0,
    baselines: options.WithBaselines = True,
) -> None:
    """Run a suite and print the standings of its schedulers.

    Optuna tunes each scheduler on each workload. Then the best trial is trained again with report seeds.
    The tables also show the committed baselines of the suite.

    An interrupted run resumes with the same command.
    If trials or seeds are not the suite's own, the run is custom: its tables cannot be compared with others.
    """
    from ganno_bench.cli.display import next_steps, report, run_display

    with run_display(suite, standings=True, baselines=baselines) as display:
        from ganno_bench.api import run_with_settings
        from ganno_bench.bench.runner import Settings

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
        result = run_with_settings(settings, display, baselines=baselines)
    report(result, next_steps=next_steps(scheduler or ()))
    if result.failures:
        raise typer.Exit(1)


def tune(
    suite: options.Suite,
    scheduler: options.Schedulers = None,
    study: options.Study = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Run directory, for records, tables and plots. Default: runs/tune/SUITE/study-N.", metavar="DIR"
        ),
    ] = None,
    write_baselines: Annotated[
        bool,
        typer.Option(
            "--write-baselines", help="Write each entry to the baselines as soon as it has finished a workload."
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace committed results that differ. Without this option they are an error."),
    ] = False,
    baselines: options.BaselinesDir = None,
    trials: options.Trials = None,
    tuning_seeds: options.TuningSeeds = None,
    report_seeds: options.ReportSeeds = None,
    data_dir: options.DataDirs = None,
    device: options.Device = "cpu",
    backend: options.Backend = "auto",
    threads: options.Threads = 1,
    max_population: options.MaxPopulation = None,
    storage: options.Storage = None,
) -> None:
    """Run a suite as `run` does, and optionally write the results to the committed baselines.

    Baselines need the suite's own number of trials and seeds.
    An interrupted run resumes with the same command; finished entries are already written.
    """
    from ganno_bench.cli.display import report, run_display

    with run_display(suite, standings=True) as display:
        from ganno_bench.api import tune_with_settings
        from ganno_bench.bench.runner import Settings

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
        result = tune_with_settings(
            settings, display, baselines=baselines, write_baselines=write_baselines, replace_baselines=replace
        )
    report(result)
    if result.failures:
        raise typer.Exit(1)
