"""Load a dataset as a suite declares it: find, check, split, fingerprint and encode it."""

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

    The result depends on `spec` and on the content of the splits (decoded pixels, normalised text, labels). It does not
    depend on file formats or on the order of rows. The fingerprint covers the content that is used: after cuts and
    caps, but before the resizing, standardisation and tokenization that `spec` sets. For language modelling, the rows
    of a split are joined by newlines into one text, so their order matters.

    Without a `validation_split`, an embedded dataset's split `validation` is used if it has one. All other datasets
    have the validation split cut from the training split: rows by their hashes, of a text the last part.

    The encoded dataset is cached on disk; see `cache`. The cache only saves time.

    Args:
        name: Name in the suite.
        spec: The declaration.
        data_dirs: Folders in which `spec.source` is looked up by name; see `data_directories`.
        suite_file_dir: Folder of the suite's file; relative paths may be relative to it.

    Raises:
        DatasetError: The dataset is not found, or does not match `spec`. The message is one line.
        PluginError: The function of an embedded dataset failed.
    """
    load = _load_language_modelling if spec.task == "language-modelling" else _load_classification
    folder = cache_folder()
    try:
        if wrong := spec.vocab_size_error:
            raise DatasetError(f"key 'vocab_size': {wrong}")
        if (misplaced := spec.misplaced_key) is not None:
            raise DatasetError(
                f"key {misplaced!r}: not used by {spec.task} (value: {getattr(spec, misplaced)!r}); remove it"
            )
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
                f"has too few rows: validation_fraction = {spec.validation_fraction} leaves none for {role}"
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
        raise DatasetError(f"has nothing to learn from in column {spec.input!r}: all inputs for train are equal")
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
                f"has too little text: {n_tokens} tokens for {role}, with sequence_length = {spec.sequence_length}"
            )
    chance = _entropy(streams["train"].tokens)
    if chance == 0:
        raise DatasetError(f"has nothing to learn from in column {spec.input!r}: all tokens for train are equal")
    shape = TaskShape("tokens", (spec.sequence_length,), len(encoder), len(encoder), next_token=True)
    digest = fingerprint(*([hash_row(text, label=None)] for text in texts.values()))
    return Dataset(name, spec.task, digest, shape, **streams, chance_loss=chance, black=None)


def _splits(spec: DatasetSpec, source: Source) -> dict[str, Any]:
    """Return role -> `datasets.Dataset`, each with rows; without `validation` if it is cut from the training split."""
    own = "validation" if source.registered and "validation" in source.splits else None
    names = {"train": spec.train_split, "validation": spec.validation_split or own, "test": spec.test_split}
    splits = {}
    for role, split in names.items():
        if split is None:
            continue
        if split not in source.splits:
            wanted = [name for name in names.values() if name is not None]
            raise DatasetError(f"has no split {split!r}{_nearest_split(split, wanted, source)}")
        if list(names.values()).count(split) > 1:
            raise DatasetError(f"uses split {split!r} twice; {role} needs another split")
        if len(source.splits[split]) == 0:
            raise DatasetError(f"has no rows in split {split!r}")
        splits[role] = source.splits[split]
        if source.inside is not None:
            check_image_files(splits[role], role, spec.input, source.inside)
    return splits


def _nearest_split(split: str, wanted: Sequence[str], source: Source) -> str:
    """Return the end of a message on a missing split: the nearest name, or the found splits and a valid layout."""
    nearest = did_you_mean(split, source.splits)
    if source.layout is None or "did you mean" in nearest:
        return nearest
    return f" (found: {', '.join(sorted(source.splits))}{source.found}); expected: {', '.join(wanted)}, {source.layout}"


def _check_classes(labels: Sequence[int], spec: DatasetSpec) -> None:
    """Check that the classes have enough training rows. A target such as the index of a row fails this check."""
    n_classes = len(set(labels))
    if n_classes < 2 or len(labels) < 2 * n_classes:
        raise DatasetError(
            f"has too few rows of a class in column {spec.target!r}: {n_classes} classes in {len(labels)} rows for "
            "train; 2 classes and on average 2 rows of each are the minimum"
        )


def _caps(spec: DatasetSpec) -> dict[str, int | None]:
    return {"train": spec.max_train, "validation": spec.max_validation, "test": spec.max_test}


def _entropy(tokens: Tensor) -> float:
    """Return the entropy of the tokens' frequencies, in nats."""
    return float(torch.special.entr(torch.bincount(tokens).double() / len(tokens)).sum())
