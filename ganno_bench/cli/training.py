"""`ganno-bench train`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganno_bench.cli.options import DataDirs, Device

if TYPE_CHECKING:
    from ganno_bench.marl.mappo import Batch

__all__ = ["train"]


def train(
    config: Annotated[Path, typer.Argument(help="Training configuration: a TOML file.", metavar="CONFIG")],
    minutes: Annotated[
        float | None, typer.Option(help="Stop after this many minutes. Default: no limit.", min=0, metavar="MINUTES")
    ] = None,
    env_steps: Annotated[
        int | None,
        typer.Option(help="Stop after this many environment steps. Default: the configuration's.", min=1, metavar="N"),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Use this seed instead of the configuration's; the policy is then named NAME-seed-N.", metavar="N"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for checkpoints and the policy. Default: runs/train/NAME.", metavar="DIR"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the last checkpoint in the folder.")] = False,
    data_dir: DataDirs = None,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(help="Threads for each operation.", min=1, metavar="N")] = 1,
) -> None:
    """Train a policy that controls learning rates, and keep the one that is best on the validation tasks.

    Then use its folder as a scheduler: ganno-bench run SUITE --scheduler policy:DIR/policy
    """
    import torch

    from ganno_bench.core.config import check_least
    from ganno_bench.core.errors import PluginError
    from ganno_bench.marl.config import load_train_config
    from ganno_bench.marl.mappo import Trainer
    from ganno_bench.marl.plots import write_learning_curve
    from ganno_bench.workloads.datasets import data_directories

    torch.set_num_threads(threads)
    wanted = load_train_config(config)
    check_least("seed", seed, 0)
    if seed is not None and seed != wanted.seed:
        wanted = wanted.model_copy(update={"seed": seed, "name": f"{wanted.name}-seed-{seed}"})
    folder = out or Path("runs") / "train" / wanted.name
    trainer = Trainer(
        wanted, config, folder, resume=resume, data_dirs=data_directories(tuple(data_dir or ())), device=device
    )
    total = env_steps or wanted.learner.env_steps
    try:
        with _Display(wanted.name, trainer.env_steps, total) as display:
            trainer.train(env_steps=total, minutes=minutes, on_batch=display.batch)
    except KeyboardInterrupt:
        typer.echo("interrupted; use --resume to continue from the last checkpoint", err=True)
        raise typer.Exit(130) from None
    except PluginError as error:
        raise PluginError(f"{error}; fix it, then use --resume to continue from the last checkpoint") from error
    if trainer.batches:
        write_learning_curve(trainer.batches, folder / "learning-curve.png", wanted.name)
    typer.echo(f"policy    {folder / 'policy'}")
    typer.echo(f"metrics   {folder / 'metrics.csv'}")
    typer.echo(f"curve     {folder / 'learning-curve.png'}")


class _Display:
    """A progress bar with the numbers of the last batch; a line for each evaluation where there is no terminal."""

    def __init__(self, name: str, done: int, total: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        self._terminal = console.is_terminal
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._terminal,
        )
        self._name = name
        self._task = self._live.add_task(f"{name}: preparing", total=total, completed=done)

    def __enter__(self) -> _Display:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def batch(self, batch: Batch) -> None:
        """Show a batch."""
        text = (
            f"{self._name}: return {batch.mean_return:.2f}, entropy {batch.entropy:.2f}, "
            f"explained variance {batch.explained_variance:.2f}, {batch.env_steps_per_second:.0f} steps/s"
        )
        self._live.update(self._task, completed=batch.env_steps, description=text)
        if not self._terminal and not math.isnan(batch.validation):
            typer.echo(f"{batch.env_steps} steps: {text}, validation {batch.validation:.3f}", err=True)
