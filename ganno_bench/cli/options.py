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
    typer.Option(
        help="Folder with datasets in the layout of the Hugging Face hub, searched before those in GANNO_BENCH_DATA. "
        "Repeat the option for several.",
        metavar="DIR",
    ),
]
Device = Annotated[str, typer.Option(help="PyTorch device: cpu, cuda, cuda:1, ...", metavar="DEVICE")]

Suite = Annotated[
    str, typer.Argument(help="Name of a suite ('ganno-bench list suites'), or path to a TOML file.", metavar="SUITE")
]
Schedulers = Annotated[
    list[str] | None,
    typer.Option(
        help="Scheduler to run: a name ('ganno-bench list schedulers'), ./FILE.py:CLASS, or a class of a library, such "
        "as torch:StepLR(step_size=50). NAME(KEY=VALUE) pins a hyperparameter. Repeat the option for several. "
        "Default: the suite's schedulers.",
        metavar="NAME",
    ),
]
Trials = Annotated[
    int | None,
    typer.Option(help="Optuna trials for each scheduler on each workload. Default: the suite's.", metavar="N"),
]
TuningSeeds = Annotated[int | None, typer.Option(help="Seeds for each trial. Default: the suite's.", metavar="N")]
ReportSeeds = Annotated[
    int | None,
    typer.Option(
        help="Seeds for the best trial, which tuning never uses; tables show these runs. Default: the suite's.",
        metavar="N",
    ),
]
Backend = Annotated[
    str,
    typer.Option(
        help="How to train: compiled (machine code; making it takes up to a minute for each workload, once), "
        "vmap (many runs in one pass), loop (one run after another), eager (one of these two) or auto.",
        metavar="BACKEND",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        help="Threads for each operation. More than 1 helps only for large networks on an idle machine.", metavar="N"
    ),
]
MaxPopulation = Annotated[
    int | None,
    typer.Option(
        help="Largest number of runs in one pass. Default: as many as fit the processor's cache.", metavar="N"
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="URL of an Optuna storage, such as sqlite:///study.db. Default: a journal in the run directory.",
        metavar="URL",
    ),
]
Study = Annotated[
    int, typer.Option(help="Index of the tuning study: 0, 1, ... Each has its own tuning seeds.", metavar="N")
]

WithBaselines = Annotated[
    bool,
    typer.Option("--baselines/--no-baselines", help="Whether to compare with the committed baselines of the suite."),
]
BaselinesDir = Annotated[
    Path | None,
    typer.Option(
        "--baselines",
        help="Folder of the baselines. Default: GANNO_BENCH_BASELINES, or else the project's folder.",
        metavar="DIR",
    ),
]
