"""Training and validation tasks of policies: a fixed set of workloads, drawn once from declared ranges.

The environment draws seeds, base learning rate and weight decay again for each run of an episode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field

from ganno_bench.core.config import Config, Positive
from ganno_bench.core.errors import ConfigError, did_you_mean
from ganno_bench.core.seeding import stream_seed
from ganno_bench.workloads.data import Dataset, Examples
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.held_out import hold_out
from ganno_bench.workloads.models import check_model
from ganno_bench.workloads.suite import DatasetSpec, OptimizerSpec, WorkloadSpec
from ganno_bench.workloads.workload import Workload

__all__ = ["FamilyTasks", "Task", "TaskDistribution", "draw_tasks", "load_task_data"]

T = TypeVar("T")
Range = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]


class FamilyTasks(Config):
    """Ranges for workloads of one model family on one dataset, `[[tasks.family]]` in a training configuration."""

    dataset: str
    """Key of a table `[tasks.dataset.KEY]`."""
    model: dict[str, Any]
    """`family`, and the arguments that all of these workloads share."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Relative frequency with which this family is drawn."""
    depth: tuple[Positive, Positive]
    """Range of depths, both ends included. Evaluations of policies use deeper networks, too."""
    width: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Widths to choose from."""
    batch_size: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Batch sizes to choose from."""
    optimizer: Annotated[tuple[Literal["sgd", "adam", "adamw"], ...], Field(min_length=1)]
    """Optimizers to choose from."""
    gain: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] | None = None
    """Range of the scale of the initialisation, drawn log-uniformly. None: the family's default."""
    label_noise: Range = (0.0, 0.0)
    """Range of the share of training labels that are replaced by random ones, drawn uniformly."""


class TaskDistribution(Config):
    """The ranges from which workloads are drawn, `[tasks]` in a training configuration."""

    n_tasks: Positive = 24
    """Number of training tasks."""
    n_validation: Positive = 6
    """Number of validation tasks, which choose the best checkpoint."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Determines the tasks."""
    decisions: tuple[Positive, Positive] = (15, 60)
    """Range of the number of decisions in an episode. The horizon is decisions times interval."""
    interval: tuple[Positive, Positive] = (5, 15)
    """Range of the decision interval, in updates."""
    base_lr: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.01, 100.0)
    """Range of the base learning rate of each run, as multiples of the optimizer's default; drawn log-uniformly."""
    dataset: dict[str, DatasetSpec]
    """Key -> dataset."""
    family: Annotated[tuple[FamilyTasks, ...], Field(min_length=1)]
    """Ranges for each model family."""


@dataclass(frozen=True)
class Task:
    """A workload and its decision interval, in updates."""

    workload: Workload
    interval: int


def load_task_data(distribution: TaskDistribution, source: Path, data_dirs: Sequence[Path] = ()) -> dict[str, Dataset]:
    """Load the datasets of the model families, each once.

    Args:
        distribution: The ranges.
        source: The file with the ranges, for messages and relative paths.
        data_dirs: Folders to search for datasets by name.

    Raises:
        ConfigError: A dataset is not declared, or has fewer training examples than the largest batch.
        DatasetError: A dataset is missing.
    """
    for index, family in enumerate(distribution.family):
        if family.dataset not in distribution.dataset:
            raise ConfigError(
                f"{source}: key 'tasks.family[{index}].dataset': no dataset {family.dataset!r} is declared"
                f"{did_you_mean(family.dataset, distribution.dataset)}"
            )
    used = {family.dataset for family in distribution.family}
    data = {
        name: hold_out(load_dataset(name, distribution.dataset[name], data_dirs, source.parent))
        for name in sorted(used)
    }
    for index, family in enumerate(distribution.family):
        n_examples, largest = data[family.dataset].train.n_examples, max(family.batch_size)
        if largest > n_examples:
            raise ConfigError(
                f"{source}: key 'tasks.family[{index}].batch_size': must be at most {n_examples}, the number of "
                f"training examples of dataset {family.dataset!r} (value: {largest})"
            )
    return data


def draw_tasks(
    distribution: TaskDistribution, data: Mapping[str, Dataset], stream: str, n_tasks: int, source: Path
) -> list[Task]:
    """Draw tasks. The same stream gives the same tasks.

    Args:
        distribution: The ranges.
        data: Key -> dataset.
        stream: `training` or `validation`.
        n_tasks: The number of tasks.
        source: The file with the ranges, for messages.

    Raises:
        ConfigError: A model's arguments are wrong.
    """
    weights = torch.tensor([family.weight for family in distribution.family], dtype=torch.float64)
    tasks = []
    for index in range(n_tasks):
        generator = torch.Generator().manual_seed(stream_seed("tasks", distribution.seed, stream, index))
        chosen = int(torch.multinomial(weights, 1, generator=generator))
        family = distribution.family[chosen]
        model = dict(family.model)
        model["depth"] = _whole(family.depth, generator)
        model["width"] = _one_of(family.width, generator)
        if family.gain is not None:
            low, high = math.log(family.gain[0]), math.log(family.gain[1])
            model["gain"] = math.exp(low + (high - low) * _uniform(generator))
        check_model(model, str(source), f"tasks.family[{chosen}].model")
        decisions, interval = _whole(distribution.decisions, generator), _whole(distribution.interval, generator)
        spec = WorkloadSpec(
            id=f"{stream}-{index}-{model['family']}-{model['depth']}",
            dataset=family.dataset,
            model=model,
            optimizer=OptimizerSpec(name=_one_of(family.optimizer, generator)),
            batch_size=_one_of(family.batch_size, generator),
            n_updates=decisions * interval,
        )
        low, high = family.label_noise
        noise = low + (high - low) * _uniform(generator)
        tasks.append(Task(Workload(spec, _with_noise(data[family.dataset], noise, generator)), interval))
    return tasks


def _with_noise(dataset: Dataset, share: float, generator: torch.Generator) -> Dataset:
    """Return a dataset in which a share of the training labels is replaced by random ones."""
    train = dataset.train
    if share <= 0 or not isinstance(train, Examples):
        return dataset
    targets = train.targets.clone()
    wrong = torch.rand(len(targets), generator=generator) < share
    targets[wrong] = torch.randint(dataset.shape.n_outputs, (int(wrong.sum()),), generator=generator)
    return replace(dataset, train=replace(train, targets=targets))


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator, dtype=torch.float64))


def _whole(bounds: tuple[int, int], generator: torch.Generator) -> int:
    low, high = sorted(bounds)
    return int(torch.randint(low, high + 1, (), generator=generator))


def _one_of(choices: Sequence[T], generator: torch.Generator) -> T:
    return choices[int(torch.randint(len(choices), (), generator=generator))]
