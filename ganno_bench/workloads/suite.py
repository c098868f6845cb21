"""Read and validate suites: datasets, models, optimizers and budgets, from TOML to frozen objects."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field

from ganno_bench.core.config import Config, Name, Positive, content_hash, parse_config, read_toml
from ganno_bench.core.errors import ConfigError, UnknownNameError, did_you_mean
from ganno_bench.core.records import Factor
from ganno_bench.core.resources import resource_dir
from ganno_bench.workloads.requirements import check_requirements

__all__ = [
    "AugmentationSpec",
    "Budget",
    "DatasetSpec",
    "GraphSpec",
    "OptimizerSpec",
    "Suite",
    "Task",
    "Variation",
    "WorkloadSpec",
    "find_suite",
    "load_suite",
    "suite_names",
]

Task = Literal["image-classification", "node-classification", "text-classification", "language-modelling"]


class GraphSpec(Config):
    """Conversion of images to a graph with a node for each image."""

    neighbours: Positive = 8
    """Number of nearest images that each image is joined with."""
    subgraph_size: Positive = 16
    """Number of nodes of an example: the classified node and the nodes around it."""
    feature_size: Positive = 4
    """Pixels a side of the images that are the features of nodes. The graph is computed from the whole images."""


class DatasetSpec(Config):
    """Declaration of a dataset: its source, its columns, and how it is divided and encoded."""

    source: str
    """Name of an embedded dataset; a folder in hub layout (a path, or a name in the data folders); or a hub id such as
    `ylecun/mnist`. The harness searches in this order."""
    task: Task
    input: str
    """Name of the input column."""
    target: str | None = None
    """Name of the label column; none for language modelling."""
    config: str | None = None
    """Configuration of a hub dataset, such as `wikitext-2-v1`."""
    revision: str | None = None
    """Revision of a hub dataset, such as `refs/convert/parquet` if the main revision needs a loading script."""
    folder: str | None = None
    """Name of a folder in the data folders that may replace a hub dataset of another name."""
    local: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether the content differs between machines, by the version of Python or by the copy. Results on it are not
    committed; each machine needs its own reference."""
    train_split: str = "train"
    validation_split: str | None = None
    """None: the validation split is cut from the training split, by a hash of each row's content."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_split: str = "test"
    max_overlap: Annotated[float, Field(ge=0, le=1)] = Field(default=0.01, exclude_if=lambda value: value == 0.01)
    """Largest share of the test split that may also be in the training or validation split, and of the validation split
    in the training split. It is measured before any cap: rows with equal input and target, or for a text passages of 64
    characters."""
    max_train: Positive | None = None
    """Largest number of training examples, chosen by content hash. Language modelling keeps the first tokens, or for
    `bpe` the first characters, because its tokens are learned from the kept text."""
    max_validation: Positive | None = None
    max_test: Positive | None = None
    image_size: Positive | None = None
    """Resize images to this number of pixels a side."""
    grayscale: bool = False
    tokenizer: Literal["char", "word", "bpe"] = "char"
    """Characters; lower-cased words and punctuation marks; or byte-pair encoding, learned from the training split."""
    vocab_size: Annotated[int, Field(ge=2)] | None = None
    """Number of ids, the reserved ones included. `char` and `word` keep the most frequent tokens of the training split;
    all others become one unknown token. `bpe` needs this key and merges until there are so many ids."""
    sequence_length: Positive = 64
    """Tokens per example; longer texts are cut off, shorter texts are padded."""
    graph: GraphSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    """Required for node classification, and only allowed there."""

    @property
    def n_reserved(self) -> int:
        """Number of first ids that are not tokens: padding in classification, and unknown tokens except for `bpe`."""
        return (self.task == "text-classification") + (self.tokenizer != "bpe")

    @property
    def is_text(self) -> bool:
        """Whether inputs are texts; otherwise they are images."""
        return self.task in ("text-classification", "language-modelling")

    @property
    def vocab_size_error(self) -> str | None:
        """A message if `vocab_size` is wrong, or None."""
        if not self.is_text:
            return None
        smallest = 256 + self.n_reserved
        if self.tokenizer == "bpe" and (self.vocab_size is None or self.vocab_size < smallest):
            padding = ", 1 for padding" if self.n_reserved else ""
            least = f"at least {smallest} for tokenizer 'bpe' (256 for bytes{padding}), and more for merges"
            return (
                f"is missing; set {least}" if self.vocab_size is None else f"must be {least} (value: {self.vocab_size})"
            )
        if self.vocab_size is not None and self.vocab_size <= self.n_reserved:
            return f"must be above {self.n_reserved}, the ids of padding and unknown tokens (value: {self.vocab_size})"
        return None

    @property
    def misplaced_key(self) -> str | None:
        """A key for texts if inputs are images, or the reverse; None if there is none."""
        foreign = ("image_size", "grayscale") if self.is_text else ("tokenizer", "vocab_size", "sequence_length")
        # Compare values, because a derived suite that was written has all defaults as keys.
        return next((key for key in foreign if getattr(self, key) != type(self).model_fields[key].default), None)


class OptimizerSpec(Config):
    """The optimizer of a workload, without learning rate and weight decay, which belong to configurations."""

    name: Literal["sgd", "adam", "adamw"]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """SGD only."""
    nesterov: bool = False
    """SGD only."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """Adam and AdamW only."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Adam and AdamW only."""

    @property
    def misplaced_key(self) -> str | None:
        """A key that only another optimizer has; None if there is none."""
        foreign = ("betas", "eps") if self.name == "sgd" else ("momentum", "nesterov")
        return next((key for key in foreign if getattr(self, key) != type(self).model_fields[key].default), None)


class AugmentationSpec(Config):
    """Random changes of training images; validation and test images are not changed."""

    flip: bool = False
    """Mirror each image, left to right, with probability 1/2."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Pad each image by this number of black pixels a side and cut it back to its size at a random place."""


class WorkloadSpec(Config):
    """One workload of a suite: model, dataset, optimizer, batch size and number of updates."""

    id: str
    dataset: str
    """Key of one of the suite's datasets."""
    model: dict[str, Any]
    """`family` names a registered model; all other keys are its arguments, such as `depth` and `width`."""
    optimizer: OptimizerSpec
    batch_size: Positive
    n_updates: Positive
    n_evaluations: Positive = 16
    """Number of evaluations, evenly spaced; the last one is after the last update."""
    augmentation: AugmentationSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    """For image classification only. It does not change the dataset's fingerprint."""

    def varied(self, factor: Factor, multiple: float) -> Self:
        """Return the workload with a rounded multiple of its horizon or batch size; unchanged for other factors."""
        key = {"horizon": "n_updates", "batch_size": "batch_size"}.get(factor)
        return self if key is None else self.model_copy(update={key: round(getattr(self, key) * multiple)})


class Budget(Config):
    """The number of trials, tuning seeds and report seeds for each entry."""

    trials: Positive = 32
    tuning_seeds: Positive = 2
    report_seeds: Positive = 10
    batch: Positive = 8
    """Trials that Optuna proposes at a time, before it gets their results."""
    startup_trials: Positive = 8
    """Number of trials by random search, before TPE starts."""


_Multiple = Annotated[float, Field(gt=0)]


class Variation(Config):
    """Multiples for varied runs, which change one factor at a time.

    Base learning rate and weight decay are multiples of the entry's value; horizon and batch size are multiples of the
    workload's value. 1 would be the report run and is not allowed.
    """

    base_lr: tuple[_Multiple, ...] = ()
    weight_decay: tuple[Annotated[float, Field(ge=0)], ...] = ()
    horizon: tuple[_Multiple, ...] = ()
    """Multiples of the number of updates. The scheduler knows the new number."""
    batch_size: tuple[_Multiple, ...] = ()
    seeds: Positive = 5
    """Number of report seeds that are used, from the first on."""

    @property
    def settings(self) -> tuple[tuple[Factor, float], ...]:
        """All pairs (factor, multiple)."""
        factors = get_args(Factor)
        return tuple((factor, multiple) for factor in factors for multiple in getattr(self, factor))


class Suite(Config):
    """A list of workloads with a budget. A released suite does not change."""

    name: Name
    description: str = ""
    schedulers: Annotated[tuple[str, ...], Field(min_length=1)]
    """Default entries, used without `--scheduler`."""
    budget: Budget = Budget()
    variation: Variation | None = Field(default=None, exclude_if=lambda value: value is None)
    """None: there are no varied runs."""
    requires: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Packages that provide its models and datasets, such as `tiny-nets >= 1.2`."""
    dataset: dict[str, DatasetSpec]
    workload: Annotated[tuple[WorkloadSpec, ...], Field(min_length=1)]

    @property
    def hash(self) -> str:
        """Hash of everything that affects results: all keys except description, default entries and places of data.

        The fingerprints in records identify the data, including overlaps of splits.
        """
        apart: dict[str, Any] = {
            "dataset": {"__all__": {"folder", "local", "max_overlap"}},
            "description": True,
            "schedulers": True,
        }
        return content_hash(self.model_dump(mode="json", exclude=apart))

    def find_workload(self, workload_id: str) -> WorkloadSpec:
        """Return the workload with this id.

        Raises:
            UnknownNameError: There is no such workload.
        """
        for workload in self.workload:
            if workload.id == workload_id:
                return workload
        ids = [workload.id for workload in self.workload]
        raise UnknownNameError(f"suite {self.name!r} has no workload {workload_id!r}{did_you_mean(workload_id, ids)}")


def suite_names() -> list[str]:
    """Return the names of the project's suites."""
    return sorted(path.stem for path in resource_dir("suites").glob("*.toml"))


def find_suite(ref: str) -> Path:
    """Return the file of a suite from its name or path.

    Raises:
        UnknownNameError: There is no such suite or file.
    """
    if ref.endswith(".toml") or "/" in ref:
        path = Path(ref).expanduser()
        if path.is_file():
            return path
        raise UnknownNameError(f"suite file {ref!r} does not exist")
    path = resource_dir("suites") / f"{ref}.toml"
    if not path.is_file():
        raise UnknownNameError(f"unknown suite {ref!r}{did_you_mean(ref, suite_names())}")
    return path


def load_suite(ref: str) -> Suite:
    """Read and validate a suite.

    Args:
        ref: A suite's name, or a path to a TOML file.

    Raises:
        UnknownNameError: There is no such suite.
        ConfigError: The suite is invalid: an unknown key, a wrong type, a duplicate id, an undeclared dataset.
    """
    path = find_suite(ref)
    suite = parse_config(Suite, read_toml(path), str(path))
    check_requirements(suite.requires or (), f"{path}: key 'requires'")
    for workload_id, count in Counter(workload.id for workload in suite.workload).items():
        if count > 1:
            raise ConfigError(f"{path}: key 'workload': id {workload_id!r} occurs {count} times; rename all but one")
    for index, workload in enumerate(suite.workload):
        _check_workload(workload, suite, f"{path}: key 'workload[{index}]")
    for name, dataset in suite.dataset.items():
        _check_dataset(dataset, f"{path}: key 'dataset.{name}")
    if suite.variation is not None:
        _check_variation(suite, suite.variation, str(path))
    return suite


def _check_workload(workload: WorkloadSpec, suite: Suite, key: str) -> None:
    if workload.dataset not in suite.dataset:
        raise ConfigError(
            f"{key}.dataset': no dataset {workload.dataset!r} is declared"
            f"{did_you_mean(workload.dataset, suite.dataset)}"
        )
    if not isinstance(workload.model.get("family"), str):
        raise ConfigError(f"{key}.model.family': must be a string (value: {workload.model.get('family')!r})")
    if (misplaced := workload.optimizer.misplaced_key) is not None:
        value = getattr(workload.optimizer, misplaced)
        raise ConfigError(
            f"{key}.optimizer.{misplaced}': not used by {workload.optimizer.name!r} (value: {value!r}); remove it"
        )
    _check_augmentation(workload, suite.dataset[workload.dataset], f"{key}.augmentation'")


def _check_dataset(dataset: DatasetSpec, key: str) -> None:
    if wrong := dataset.vocab_size_error:
        raise ConfigError(f"{key}.vocab_size': {wrong}")
    if (misplaced := dataset.misplaced_key) is not None:
        raise ConfigError(
            f"{key}.{misplaced}': not used by {dataset.task} (value: {getattr(dataset, misplaced)!r}); remove it"
        )
    if (dataset.target is None) != (dataset.task == "language-modelling"):
        raise ConfigError(
            f"{key}.target': {dataset.task} "
            + ("needs the name of the label column" if dataset.target is None else "has no label column")
        )
    if dataset.target == dataset.input:
        raise ConfigError(f"{key}.target': must differ from 'input' (value: {dataset.target!r})")
    if (dataset.graph is None) == (dataset.task == "node-classification"):
        raise ConfigError(
            f"{key}.graph': {dataset.task} "
            + ("needs a graph, such as { neighbours = 8 }" if dataset.graph is None else "has no graph")
        )


def _check_variation(suite: Suite, variation: Variation, source: str) -> None:
    if not variation.settings:
        raise ConfigError(
            f"{source}: key 'variation': give multiples for at least one factor ({', '.join(get_args(Factor))})"
        )
    for (factor, multiple), count in Counter(variation.settings).items():
        key = f"{source}: key 'variation.{factor}'"
        if multiple == 1:
            raise ConfigError(f"{key}: must not contain 1, which is the report itself (value: {multiple:g})")
        if count > 1:
            raise ConfigError(f"{key}: {multiple:g} occurs {count} times; remove all but one")
        for workload in suite.workload:
            varied = workload.varied(factor, multiple)
            if factor in ("horizon", "batch_size") and (varied == workload or not varied.n_updates * varied.batch_size):
                raise ConfigError(
                    f"{key}: {multiple:g} is too close to 0 or 1: it gives workload {workload.id!r} "
                    f"{varied.n_updates} updates of {varied.batch_size} examples"
                )
    if variation.seeds > suite.budget.report_seeds:
        raise ConfigError(
            f"{source}: key 'variation.seeds': must be at most {suite.budget.report_seeds}, the number of report seeds "
            f"(value: {variation.seeds})"
        )


def _check_augmentation(workload: WorkloadSpec, dataset: DatasetSpec, key: str) -> None:
    if workload.augmentation is None:
        return
    if dataset.task != "image-classification":
        raise ConfigError(
            f"{key}: dataset {workload.dataset!r} is for {dataset.task}; only images can be flipped and cropped"
        )
    if workload.augmentation == AugmentationSpec():
        raise ConfigError(f"{key}: changes nothing; set 'flip = true' or a 'crop' of at least 1, or remove the key")
