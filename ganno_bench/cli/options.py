"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Backend",
    "BaselinesDir",
    "DataDirs",
    "Device",
    "MaxPopulation",
    "ReportSeeds",
    "Schedulers",
    "Storage",
    "Study",
    "Suite",
    "Threads",
    "Trials",
    "TuningSeeds",
    "WithBaselines",
]

DataDirs = Annotated[
    list[Path] | None,
    typer.Option(help="Folder with datasets in hub layout. Repeat for several. Also: GANNO_BENCH_DATA.", metavar="DIR"),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")]

Suite = Annotated[
    str, typer.Argument(help="Name of a suite (see: list suites), or path to a TOML file.", metavar="SUITE")
]
Schedulers = Annotated[
    list[str] | None,
    typer.Option(
        help="Scheduler to run: a name (see: list schedulers), ./file.py:ClassName, or torch:ClassName(key=value), "
        "transformers:, timm: and pytorch-optimizer: likewise. "
        "Repeat for several. Default: the suite's own.",
        metavar="REF",
    ),
]
Trials = Annotated[int | None, typer.Option(help="Optuna trials per scheduler and workload.")]
TuningSeeds = Annotated[int | None, typer.Option(help="Seeds per trial.")]
ReportSeeds = Annotated[int | None, typer.Option(help="Fresh seeds for each winner.")]
Backend = Annotated[str, typer.Option(help="auto, vmap (all runs in one pass) or loop (one by one).")]
Threads = Annotated[
    int, typer.Option(help="Threads per operation. More than 1 pays for large networks, on an idle machine.")
]
MaxPopulation = Annotated[int | None, typer.Option(help="Most runs in one pass. Default: as many as fit the cache.")]
Storage = Annotated[
    str | None, typer.Option(help="Optuna storage URL. Default: a journal in the run directory.", metavar="URL")
]
Study = Annotated[int, typer.Option(help="Index of the independent tuning study.")]

WithBaselines = Annotated[
    bool, typer.Option("--baselines/--no-baselines", help="Compare with the committed baselines of the suite.")
]
BaselinesDir = Annotated[
    Path | None,
    typer.Option(
        "--baselines",
        help="Folder of the baselines. Default: the project's, or GANNO_BENCH_BASELINES.",
        metavar="DIR",
    ),
]
