"""Load workloads: specification, data and network, ready for training."""

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
    """A workload of a suite with its data.

    Attributes:
        spec: The workload's declaration in the suite.
        dataset: The data; `load_workloads` keeps the test split on disk, see `HeldOut`.
        plugins: Origin of the model and the dataset if they are not built in: `model NAME`, `dataset NAME` -> origin.
        packages: Additional packages that affect its results: `torchvision` for its networks, `tokenizers` for `bpe`.
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
        """Layers of the network, from input to output."""
        return partition(self.build(0))

    def build(self, seed: int) -> nn.Module:
        """Return the network, initialised from the seed of a run."""
        return build_model(self.spec.model, self.dataset.shape, stream_seed(seed, "initialisation"))


def load_workload(suite: str, workload: str, data_dirs: Sequence[Path] = ()) -> Workload:
    """Load one workload of a suite, and only its data.

    Args:
        suite: A suite's name, or a path to a TOML file.
        workload: Id of the workload in the suite.
        data_dirs: Folders in which datasets are looked up by name, before the folders of `GANNO_BENCH_DATA`.

    Raises:
        UnknownNameError: There is no such suite or workload.
        DatasetError: The dataset is missing, or does not match its declaration.
        ConfigError: The model's arguments are wrong, or it does not take such data.
    """
    whole = load_suite(suite)
    spec = whole.find_workload(workload)
    (loaded,) = load_workloads(whole, find_suite(suite), data_directories(data_dirs), {spec.id})
    return loaded


def load_workloads(
    suite: Suite, source: Path, data_dirs: Sequence[Path], ids: Container[str] | None = None
) -> list[Workload]:
    """Load workloads of a suite; shared datasets are read once.

    Args:
        suite: The suite.
        source: The suite's file, for messages and for relative paths of datasets.
        data_dirs: Folders in which datasets are looked up by name.
        ids: Ids of the workloads to load; None: all.

    Raises:
        DatasetError: A dataset is missing, or does not match its declaration.
        ConfigError: A model's arguments are wrong, or it does not take such data; images are too small for a crop, or a
            batch is larger than the training split.
        PluginError: A package that the suite requires is missing, or its model or dataset is broken.
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
        assert workload.layers  # build each network once, so that errors appear before any run
    return list(workloads.values())


def _check_batches(workload: Workload, suite: Suite, source: str, index: int) -> None:
    """Check that no update uses an example twice, also in varied runs."""
    n_examples = workload.dataset.train.n_examples
    if workload.spec.batch_size > n_examples:
        raise ConfigError(
            f"{source}: key 'workload[{index}].batch_size': must be at most {n_examples}, the number of training "
            f"examples of dataset {workload.dataset.name!r} (value: {workload.spec.batch_size})"
        )
    for multiple in suite.variation.batch_size if suite.variation is not None else ():
        batch_size = workload.spec.varied("batch_size", multiple).batch_size
        if batch_size > n_examples:
            raise ConfigError(
                f"{source}: key 'variation.batch_size': {multiple:g} gives batches of {batch_size} for workload "
                f"{workload.id!r}, but dataset {workload.dataset.name!r} has only {n_examples} training examples"
            )
