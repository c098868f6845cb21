"""Datasets by declaration: found, checked, made canonical, cut, fingerprinted and encoded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ganno_bench.core.errors import DatasetError, did_you_mean
from ganno_bench.workloads.cache import cache_folder, cached
from ganno_bench.workloads.columns import check_image_files, read_images, read_labels, read_strings
from ganno_bench.workloads.data import Dataset, Examples, TaskShape, TokenStream
from ganno_bench.workloads.embedded import EMBEDDED
from ganno_bench.workloads.fingerprint import Rows, canonical_text, fingerprint, hash_row
from ganno_bench.workloads.graph_encoding import encode_neighbourhoods
from ganno_bench.workloads.image_encoding import encode_images
from ganno_bench.workloads.overlap import check_overlap, share_of_rows, share_of_text
from ganno_bench.workloads.sources import Source, data_directories, list_datasets, open_source
from ganno_bench.workloads.suite import DatasetSpec
from ganno_bench.workloads.text_encoding import first_tokens, learn_encoder

__all__ = ["EMBEDDED", "data_directories", "list_datasets", "load_dataset"]


def load_dataset(
    name: str, spec: DatasetSpec, data_dirs: Sequence[Path] = (), suite_file_dir: Path | None = None
) -> Dataset:
    """Load a dataset as a suite declares it.

    What comes out depends on the content of the splits (decoded pixels, normalised text, labels) and on `spec`, not on
    file formats or the order of rows. The fingerprint is that of the content that is used: after cutting and capping,
    before resizing, standardising and tokenizing, which `spec` decides. For language modelling a split's rows are
    joined by newlines into one text; there, order is content.

    Without a `validation_split`, an embedded dataset's own split `validation` is used. Otherwise validation rows are
    cut from the training split by their hashes, and a validation text is the last part of the training text.

    What was loaded once is kept encoded on disk; see `cache`. That changes nothing but the time.

    Args:
        name: What the suite calls it.
        spec: The declaration.
        data_dirs: Folders in which `spec.source` is looked up by name; see `data_directories`.
        suite_file_dir: Folder of the suite's file, which a relative path may be relative to.

    Raises:
        DatasetError: It is not found, or not what `spec` says; one line that names the dataset and what is wrong.
        PluginError: An embedded dataset's function failed.
    """
    load = _load_language_modelling if spec.task == "language-modelling" else _load_classification
    folder = cache_folder()
    try:
        if wrong := spec.vocab_size_error:
            raise DatasetError(f"vocab_size {wrong}")
        if (misplaced := spec.misplaced_key) is not None:
            raise DatasetError(f"{misplaced} has no meaning for {spec.task} (value: {getattr(spec, misplaced)!r})")
        source = open_source(spec, data_dirs, suite_file_dir)
        try:
            splits = _splits(spec, source)
            return cached(folder, name, spec, splits, lambda: load(name, spec, splits))
        except DatasetError as error:
            raise DatasetError(f"{source.origin} {error}") from error
    except DatasetError as error:
        raise DatasetError(f"dataset {name!r}: {error}") from error


def _load_classification(name: str, spec: DatasetSpec, splits: Mapping[str, Any]) -> Dataset:
    labels, n_classes = read_labels(splits, cast(str, spec.target))
    rows: dict[str, Rows[Any]] = {}
    black = None
    for role, split in splits.items():
        if spec.task in ("image-classification", "node-classification"):
            rows[role] = Rows.of(read_images(split, role, spec.input), labels[role])
        else:
            texts = read_strings(split, role, spec.input)
            rows[role] = Rows.of([canonical_text(text).strip() for text in texts], labels[role])
    check_overlap({role: kept.hashes for role, kept in rows.items()}, share_of_rows, spec.max_overlap)
    if "validation" not in rows:
        rows["train"], rows["validation"] = rows["train"].cut(spec.validation_fraction)
    rows = {role: rows[role].cap(cap) for role, cap in _caps(spec).items()}
    for role, kept in rows.items():
        if not kept.hashes:
            raise DatasetError(
                f"has too few rows: a validation_fraction of {spec.validation_fraction} leaves no {role}"
            )
    _check_classes(rows["train"].labels, spec)
    contents = {role: kept.inputs for role, kept in rows.items()}
    if spec.task == "image-classification":
        inputs, black = encode_images(contents, spec.image_size, spec.grayscale)
        shape = TaskShape("image", tuple(inputs["train"].shape[1:]), None, n_classes, next_token=False)
    elif spec.task == "node-classification":
        if spec.graph is None:
            raise DatasetError("needs a graph for node classification, such as graph = { neighbours = 8 }")
        inputs = encode_neighbourhoods(contents, spec.image_size, spec.grayscale, spec.graph)
        shape = TaskShape("graph", tuple(inputs["train"].shape[1:]), None, n_classes, next_token=False)
    else:
        length = spec.sequence_length
        encoder = learn_encoder(contents["train"], spec.tokenizer, spec.vocab_size, spec.n_reserved, length)
        inputs = {role: encoder.encode_padded(texts, length) for role, texts in contents.items()}
        shape = TaskShape("tokens", (length,), len(encoder), n_classes, next_token=False)
    if all(torch.equal(row, inputs["train"][0]) for row in inputs["train"]):
        raise DatasetError(f"has nothing to learn from in column {spec.input!r}: all inputs for train are the same")
    examples = {role: Examples(inputs[role], torch.tensor(kept.labels)) for role, kept in rows.items()}
    digest = fingerprint(*(kept.hashes for kept in rows.values()))
    return Dataset(name, spec.task, digest, shape, **examples, chance_loss=math.log(n_classes), black=black)


def _load_language_modelling(name: str, spec: DatasetSpec, splits: Mapping[str, Any]) -> Dataset:
    texts = {role: canonical_text("\n".join(read_strings(split, role, spec.input))) for role, split in splits.items()}
    check_overlap(texts, share_of_text, spec.max_overlap)
    if "validation" not in texts:
        n_train = round((1 - spec.validation_fraction) * len(texts["train"]))
        texts["train"], texts["validation"] = texts["train"][:n_train], texts["train"][n_train:]
    texts = {role: first_tokens(texts[role], spec.tokenizer, cap) for role, cap in _caps(spec).items()}
    encoder = learn_encoder([texts["train"]], spec.tokenizer, spec.vocab_size, spec.n_reserved)
    streams = {role: TokenStream(encoder.encode(text), spec.sequence_length) for role, text in texts.items()}
    for role, stream in streams.items():
        if (n_tokens := len(stream.tokens)) <= spec.sequence_length:
            raise DatasetError(
                f"has too little text: {n_tokens} tokens for {role}, with a sequence_length of {spec.sequence_length}"
            )
    chance = _entropy(streams["train"].tokens)
    if chance == 0:
        raise DatasetError(f"has nothing to learn from in column {spec.input!r}: all tokens for train are the same")
    shape = TaskShape("tokens", (spec.sequence_length,), len(encoder), len(encoder), next_token=True)
    digest = fingerprint(*([hash_row(text, label=None)] for text in texts.values()))
    return Dataset(name, spec.task, digest, shape, **streams, chance_loss=chance, black=None)


def _splits(spec: DatasetSpec, source: Source) -> dict[str, Any]:
    """Return role -> `datasets.Dataset`, checked to have rows; without `validation` where that is to be cut."""
    own = "validation" if source.registered and "validation" in source.splits else None
    names = {"train": spec.train_split, "validation": spec.validation_split or own, "test": spec.test_split}
    splits = {}
    for role, split in names.items():
        if split is None:
            continue
        if split not in source.splits:
            raise DatasetError(f"has no split {split!r}{did_you_mean(split, source.splits)}")
        if list(names.values()).count(split) > 1:
            raise DatasetError(f"cannot serve two purposes with split {split!r}: {role} must be a split of its own")
        if len(source.splits[split]) == 0:
            raise DatasetError(f"has no rows in split {split!r}")
        splits[role] = source.splits[split]
        if source.inside is not None:
            check_image_files(splits[role], role, spec.input, source.inside)
    return splits


def _check_classes(labels: Sequence[int], spec: DatasetSpec) -> None:
    """Check that the training rows that are left show what a class is; an index of the rows, say, is no target."""
    n_classes = len(set(labels))
    if n_classes < 2 or len(labels) < 2 * n_classes:
        raise DatasetError(
            f"has too few rows of a class in column {spec.target!r}: {n_classes} classes in {len(labels)} rows for "
            "train, where 2 classes, and 2 rows of each on average, are the least"
        )


def _caps(spec: DatasetSpec) -> dict[str, int | None]:
    return {"train": spec.max_train, "validation": spec.max_validation, "test": spec.max_test}


def _entropy(tokens: Tensor) -> float:
    """Return the entropy of the tokens' frequencies, in nats."""
    return float(torch.special.entr(torch.bincount(tokens).double() / len(tokens)).sum())
