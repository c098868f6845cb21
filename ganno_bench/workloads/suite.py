"""What a suite says: datasets, models, optimizers, budgets. TOML in, frozen and validated objects out."""

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
    """How images become a graph, each a node of it."""

    neighbours: Positive = 8
    """Join each image with so many others, the nearest."""
    subgraph_size: Positive = 16
    """Nodes of an example: the one that is classified and those around it."""
    feature_size: Positive = 4
    """A node's features are its image in so many pixels a side; the graph is that of the whole images."""


class DatasetSpec(Config):
    """One dataset: where it comes from, which columns to read, and how it is cut and encoded."""

    source: str
    """An embedded dataset's name, a folder in hub layout (a path, or a name looked up in the data folders), or a
    hub id such as `ylecun/mnist`; looked for in this order."""
    task: Task
    input: str
    """Name of the input column."""
    target: str | None = None
    """Name of the label column; none for language modelling."""
    config: str | None = None
    """Configuration of a hub dataset, such as `wikitext-2-v1`."""
    revision: str | None = None
    """Revision of a hub dataset, such as `refs/convert/parquet` where the main one needs a loading script."""
    folder: str | None = None
    """Name of a folder in the data folders that may stand in for a hub dataset of another name."""
    local: bool = Field(default=False, exclude_if=lambda value: not value)
    """Whether the content differs from place to place, by the release of Python or by the copy: results on it are not
    committed, each place has a reference of its own."""
    train_split: str = "train"
    validation_split: str | None = None
    """None: cut from the training split, by a hash of each row's content."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    test_split: str = "test"
    max_overlap: Annotated[float, Field(ge=0, le=1)] = Field(default=0.01, exclude_if=lambda value: value == 0.01)
    """How much of the test split may be in the training or validation split, too, before any cap (rows with the same
    input and target; of a text, passages of 64 characters); and of a validation split in the training split."""
    max_train: Positive | None = None
    """Keep at most so many training examples, chosen by content hash (language modelling: the first tokens, or for
    `bpe`, whose tokens are learned from what is kept, characters)."""
    max_validation: Positive | None = None
    max_test: Positive | None = None
    image_size: Positive | None = None
    """Resize images to so many pixels a side."""
    grayscale: bool = False
    tokenizer: Literal["char", "word", "bpe"] = "char"
    """Characters; lower-cased words and punctuation marks; or byte-pair encoding, learned from the training split."""
    vocab_size: Annotated[int, Field(ge=2)] | None = None
    """Keep the most frequent tokens of the training split; all others become one unknown token. `bpe` needs it: merge
    until there are so many tokens; there are no unknown ones."""
    sequence_length: Positive = 64
    """Tokens per example; longer texts are cut off, shorter ones padded."""
    graph: GraphSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    """For node classification, and only there."""

    @property
    def n_reserved(self) -> int:
        """How many of the first ids stand for no token: padding in classification, unknown tokens but for `bpe`."""
        return (self.task == "text-classification") + (self.tokenizer != "bpe")

    @property
    def is_text(self) -> bool:
        """Whether inputs are texts; else they are images."""
        return self.task in ("text-classification", "language-modelling")

    @property
    def vocab_size_error(self) -> str | None:
        """What is wrong with `vocab_size`, or None."""
        if not self.is_text:
            return None
        smallest = 256 + self.n_reserved
        if self.tokenizer == "bpe" and (self.vocab_size is None or self.vocab_size < smallest):
            is_wrong = "is missing" if self.vocab_size is None else f"is too small: {self.vocab_size}"
            padding = ", 1 for padding" if self.n_reserved else ""
            return (
                f"{is_wrong}; tokenizer 'bpe' needs at least {smallest} ids (256 for bytes{padding}), more for merges"
            )
        if self.vocab_size is not None and self.vocab_size <= self.n_reserved:
            return f"is too small: {self.vocab_size}; padding and unknown tokens have {self.n_reserved} ids"
        return None

    @property
    def misplaced_key(self) -> str | None:
        """A key that says what is to be done to texts where inputs are images, or the reverse; None: there is none."""
        foreign = ("image_size", "grayscale") if self.is_text else ("tokenizer", "vocab_size", "sequence_length")
        # By its value, since a suite that was derived and written spells out the defaults.
        return next((key for key in foreign if getattr(self, key) != type(self).model_fields[key].default), None)


class OptimizerSpec(Config):
    """The optimizer of a workload; its learning rate and weight decay belong to the schedulers' side."""

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
        """A key that another optimizer has; None: there is none."""
        foreign = ("betas", "eps") if self.name == "sgd" else ("momentum", "nesterov")
        return next((key for key in foreign if getattr(self, key) != type(self).model_fields[key].default), None)


class AugmentationSpec(Config):
    """Random changes of the images of training batches; validation and test images stay as they are."""

    flip: bool = False
    """Mirror an image, left to right, with probability 1/2."""
    crop: Annotated[int, Field(ge=0)] = 0
    """Pad an image by so many black pixels a side and cut it back to its size at a random place."""


class WorkloadSpec(Config):
    """One rung of a suite: model, data, optimizer, batch size and number of updates are all fixed."""

    id: str
    dataset: str
    """Key of one of the suite's datasets."""
    model: dict[str, Any]
    """`family` names a registered model, everything else is an argument of it, such as `depth` and `width`."""
    optimizer: OptimizerSpec
    batch_size: Positive
    n_updates: Positive
    n_evaluations: Positive = 16
    """Points of the validation curve, evenly spaced, the last one after the last update."""
    augmentation: AugmentationSpec | None = Field(default=None, exclude_if=lambda value: value is None)
    """Image classification only. Part of the training, not of the data: the dataset's fingerprint doesn't change."""

    def varied(self, factor: Factor, multiple: float) -> Self:
        """Return the workload with a multiple of its horizon or batch size, in whole numbers; else as it is."""
        key = {"horizon": "n_updates", "batch_size": "batch_size"}.get(factor)
        return self if key is None else self.model_copy(update={key: round(getattr(self, key) * multiple)})


class Budget(Config):
    """How much tuning everyone gets, and on how many seeds results rest."""

    trials: Positive = 32
    tuning_seeds: Positive = 2
    report_seeds: Positive = 10
    batch: Positive = 8
    """Optuna trials that are asked for before any of them is told."""
    startup_trials: Positive = 8
    """Trials before TPE replaces random search."""


_Multiple = Annotated[float, Field(gt=0)]


class Variation(Config):
    """What is varied around each entry's own configuration, one factor at a time.

    Numbers are multiples of the entry's own value (base learning rate, weight decay) or the workload's (horizon, batch
    size); 1 is the report itself and is not repeated.
    """

    base_lr: tuple[_Multiple, ...] = ()
    weight_decay: tuple[Annotated[float, Field(ge=0)], ...] = ()
    horizon: tuple[_Multiple, ...] = ()
    """Of the number of updates. The scheduler is told how many there will be."""
    batch_size: tuple[_Multiple, ...] = ()
    seeds: Positive = 5
    """The first so many report seeds are used."""

    @property
    def settings(self) -> tuple[tuple[Factor, float], ...]:
        """Every (factor, multiple)."""
        factors = get_args(Factor)
        return tuple((factor, multiple) for factor in factors for multiple in getattr(self, factor))


class Suite(Config):
    """A set of workloads with a budget, immutable once released."""

    name: Name
    description: str = ""
    schedulers: Annotated[tuple[str, ...], Field(min_length=1)]
    """Who takes part when nothing else is said."""
    budget: Budget = Budget()
    variation: Variation | None = Field(default=None, exclude_if=lambda value: value is None)
    """None: nothing is varied."""
    requires: tuple[str, ...] | None = Field(default=None, exclude_if=lambda value: value is None)
    """Packages that bring its models and datasets, such as `tiny-nets >= 1.2`; what is not built in."""
    dataset: dict[str, DatasetSpec]
    workload: Annotated[tuple[WorkloadSpec, ...], Field(min_length=1)]

    @property
    def hash(self) -> str:
        """Hash of all that affects results: everything but the description, the default entries, and where data lie.

        Which data there were, splits that overlap included, is in the fingerprints of the records.
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
            UnknownNameError: There is none.
        """
        for workload in self.workload:
            if workload.id == workload_id:
                return workload
        ids = [workload.id for workload in self.workload]
        raise UnknownNameError(f"suite {self.name!r} has no workload {workload_id!r}{did_you_mean(workload_id, ids)}")


def suite_names() -> list[str]:
    """Return the names of the suites that the project brings."""
    return sorted(path.stem for path in resource_dir("suites").glob("*.toml"))


def find_suite(ref: str) -> Path:
    """Return the file of a suite, given its name or a path.

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
        ConfigError: It is not valid: an unknown key, a wrong type, a duplicate id, a dataset that is not declared.
    """
    path = find_suite(ref)
    suite = parse_config(Suite, read_toml(path), str(path))
    check_requirements(suite.requires or (), f"{path}: key 'requires'")
    for workload_id, count in Counter(workload.id for workload in suite.workload).items():
        if count > 1:
            raise ConfigError(f"{path}: key 'workload': id {workload_id!r} is given {count} times")
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
        raise ConfigError(f"{key}.model.family' is missing or no string")
    if (misplaced := workload.optimizer.misplaced_key) is not None:
        value = getattr(workload.optimizer, misplaced)
        raise ConfigError(f"{key}.optimizer.{misplaced}': {workload.optimizer.name!r} has none (value: {value!r})")
    _check_augmentation(workload, suite.dataset[workload.dataset], f"{key}.augmentation'")


def _check_dataset(dataset: DatasetSpec, key: str) -> None:
    if wrong := dataset.vocab_size_error:
        raise ConfigError(f"{key}.vocab_size' {wrong}")
    if (misplaced := dataset.misplaced_key) is not None:
        inputs = "texts and no images" if dataset.is_text else "images and no texts"
        raise ConfigError(f"{key}.{misplaced}': {dataset.task} has {inputs} (value: {getattr(dataset, misplaced)!r})")
    if (dataset.target is None) != (dataset.task == "language-modelling"):
        raise ConfigError(
            f"{key}.target': {dataset.task} "
            + ("needs the name of the label column" if dataset.target is None else "has no label column")
        )
    if dataset.target == dataset.input:
        raise ConfigError(f"{key}.target': is the column of the inputs, too (value: {dataset.target!r})")
    if (dataset.graph is None) == (dataset.task == "node-classification"):
        raise ConfigError(
            f"{key}.graph': {dataset.task} "
            + ("needs a graph, such as { neighbours = 8 }" if dataset.graph is None else "has no graph")
        )


def _check_variation(suite: Suite, variation: Variation, source: str) -> None:
    if not variation.settings:
        raise ConfigError(f"{source}: key 'variation': no factor has a multiple ({', '.join(get_args(Factor))})")
    for (factor, multiple), count in Counter(variation.settings).items():
        key = f"{source}: key 'variation.{factor}'"
        if multiple == 1:
            raise ConfigError(f"{key}: 1 is the report itself, which is not repeated (value: {multiple:g})")
        if count > 1:
            raise ConfigError(f"{key}: {multiple:g} is given {count} times")
        for workload in suite.workload:
            varied = workload.varied(factor, multiple)
            if factor in ("horizon", "batch_size") and (varied == workload or not varied.n_updates * varied.batch_size):
                raise ConfigError(
                    f"{key}: {multiple:g} is too close to 0 or 1: it leaves workload {workload.id!r} "
                    f"{varied.n_updates} updates of {varied.batch_size} examples"
                )
    if variation.seeds > suite.budget.report_seeds:
        raise ConfigError(
            f"{source}: key 'variation.seeds': there are {suite.budget.report_seeds} report seeds "
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
        raise ConfigError(f"{key}: changes nothing; give 'flip = true', a 'crop' of 1 or more, or leave it out")
