"""A workload that is ready to be trained: its specification, its data, its network."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from torch import nn

from ganno_bench.core.errors import ConfigError
from ganno_bench.core.registry import Origin, origins
from ganno_bench.core.seeding import stream_seed
from ganno_bench.workloads.augmentation import Augmentation
from ganno_bench.workloads.data import Dataset
from ganno_bench.workloads.datasets import EMBEDDED, data_directories, load_dataset
from ganno_bench.workloads.held_out import hold_out
from ganno_bench.workloads.layers import Layer, partition
from ganno_bench.workloads.models import MODELS, build_model, check_model
from ganno_bench.workloads.requirements import check_installed
from ganno_bench.workloads.suite import Suite, WorkloadSpec, find_suite, load_suite

__all__ = ["Workload", "load_workload", "load_workloads"]


@dataclass(frozen=True)
class Workload:
    """One rung of a suite with its data loaded.

    Attributes:
        spec: What the suite says.
        dataset: The data; `load_workloads` leaves the test split on disk, see `HeldOut`.
        plugins: Whose code its model and its dataset are made by, where that is not built in: `model NAME`, `dataset
            NAME` -> origin.
        packages: What its results hang on beyond what all do: `torchvision` for its networks, `tokenizers` for `bpe`.
    """

    spec: WorkloadSpec
    dataset: Dataset
    plugins: Mapping[str, Origin] = field(default_factory=dict)
    packages: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Name of the workload in its suite."""
        return self.spec.id

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """What gets a learning rate of its own, from input to output."""
        return partition(self.build(0))

    def build(self, seed: int) -> nn.Module:
        """Return the network with the initialisation of a run's seed."""
        return build_model(self.spec.model, self.dataset.shape, stream_seed(seed, "initialisation"))


def load_workload(suite: str, workload: str, data_dirs: Sequence[Path] = ()) -> Workload:
    """Load one workload of a suite, and no other data than its own.

    Args:
        suite: A suite's name, or a path to a TOML file.
        workload: Its id in the suite.
        data_dirs: Folders in which datasets are looked up by name, before those of `GANNO_BENCH_DATA`.

    Raises:
        UnknownNameError: There is no such suite or workload.
        DatasetError: Its dataset is missing, or not as declared.
        ConfigError: Its model's arguments are wrong, or it does not take such data.
    """
    whole = load_suite(suite)
    spec = whole.find_workload(workload)
    (loaded,) = load_workloads(whole, find_suite(suite), data_directories(data_dirs), {spec.id})
    return loaded


def load_workloads(
    suite: Suite, source: Path, data_dirs: Sequence[Path], ids: Container[str] | None = None
) -> list[Workload]:
    """Load every workload of a suite; a dataset that several use is read once.

    Args:
        suite: The suite.
        source: Its file, for messages and for dataset paths that are relative to it.
        data_dirs: Folders in which datasets are looked up by name.
        ids: Of the workloads that are wanted; None for all.

    Raises:
        DatasetError: A dataset is missing, or not as declared.
        ConfigError: A model's arguments are wrong, or it does not take such data; images are too small for a crop, or a
            batch is larger than the training split.
        PluginError: A package that the suite requires is missing, or what is named of one is broken.
    """
    check_installed(suite.requires or (), f"{source}: key 'requires'")
    wanted = {index: spec for index, spec in enumerate(suite.workload) if ids is None or spec.id in ids}
    for index, spec in wanted.items():
        check_model(spec.model, str(source), f"workload[{index}].model")
    used = {spec.dataset for spec in wanted.values()}
    loaded = {
        name: hold_out(load_dataset(name, suite.dataset[name], data_dirs, source.parent)) for name in sorted(used)
    }
    workloads = {}
    for index, spec in wanted.items():
        family, data = spec.model["family"], suite.dataset[spec.dataset]
        packages = {"torchvision": family.startswith("torchvision:"), "tokenizers": data.tokenizer == "bpe"}
        workloads[index] = Workload(
            spec,
            loaded[spec.dataset],
            origins([(MODELS, family), (EMBEDDED, data.source)]),
            tuple(name for name, is_used in packages.items() if is_used),
        )
    for index, workload in workloads.items():
        _check_batches(workload, suite, str(source), index)
        if workload.spec.augmentation is not None:
            try:
                Augmentation(workload.spec.augmentation, workload.dataset)
            except ConfigError as error:
                raise ConfigError(f"{source}: key 'workload[{index}].augmentation': {error}") from None
        assert workload.layers  # built once, so that what does not fit is known before anything runs
    return list(workloads.values())


def _check_batches(workload: Workload, suite: Suite, source: str, index: int) -> None:
    """Check that an update uses no example twice, in the suite's variation either."""
    n_examples = workload.dataset.train.n_examples
    if workload.spec.batch_size > n_examples:
        raise ConfigError(
            f"{source}: key 'workload[{index}].batch_size': dataset {workload.dataset.name!r} has {n_examples} "
            f"examples for train (value: {workload.spec.batch_size})"
        )
    for multiple in suite.variation.batch_size if suite.variation is not None else ():
        batch_size = workload.spec.varied("batch_size", multiple).batch_size
        if batch_size > n_examples:
            raise ConfigError(
                f"{source}: key 'variation.batch_size': {multiple:g} makes batches of {batch_size} for workload "
                f"{workload.id!r}, whose dataset {workload.dataset.name!r} has {n_examples} examples for train"
            )
