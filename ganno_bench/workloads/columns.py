"""Read columns of a dataset's splits as checked, canonical values, in the order of the file.

Messages continue a sentence that begins with the dataset's origin: "folder '/data/mnist' has no column 'imgae'; did you
mean 'image'?"
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ganno_bench.core.errors import DatasetError, did_you_mean, one_line
from ganno_bench.workloads.fingerprint import Pixels, canonical_pixels

__all__ = ["check_image_files", "read_images", "read_labels", "read_strings"]

_BATCH = 256


def check_image_files(split: Any, role: str, column: str, inside: Sequence[Path]) -> None:
    """Check that the image files that a column refers to lie in certain folders.

    Args:
        split: A `datasets.Dataset`.
        role: Role of the split, for messages: `train`.
        column: Name of the column; a column without images refers to no files.
        inside: The folders.

    Raises:
        DatasetError: A file is outside of the folders, after following links, or would be downloaded.
    """
    import datasets

    if not isinstance(split.features.get(column), datasets.Image):
        return
    folders = [folder.resolve() for folder in inside]
    start = 0
    for table in split.select_columns([column]).with_format("arrow").iter(batch_size=1024):
        images = table.column(column).combine_chunks()
        for index in np.flatnonzero(images.field("bytes").is_null()):
            place = images.field("path")[index].as_py()
            if place is not None and not _lies_in(place, folders):
                raise DatasetError(
                    f"has an image outside of its folder in column {column!r} of row {start + index} for {role} "
                    f"(value: {place!r})"
                )
        start += len(images)


def _lies_in(place: str, folders: Sequence[Path]) -> bool:
    is_remote = "://" in place or "::" in place
    return not is_remote and any(Path(place).resolve().is_relative_to(folder) for folder in folders)


def read_images(split: Any, role: str, column: str) -> list[Pixels]:
    """Return a column of images, decoded.

    Args:
        split: A `datasets.Dataset`.
        role: Role of the split, for messages: `train`.
        column: Name of the column.

    Raises:
        DatasetError: There is no such column, it has no images, or an image is missing, broken or larger than Pillow's
            `MAX_IMAGE_PIXELS`. (A small file may decode to more pixels than fit in memory.)
    """
    import datasets

    feature = _feature(split, column)
    if not isinstance(feature, datasets.Image):
        raise DatasetError(f"has no images in column {column!r} (found: {feature})")
    images: list[Pixels] = []
    rows = split.select_columns([column])
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            for batch in rows.iter(batch_size=_BATCH):
                if None in batch[column]:
                    row = len(images) + batch[column].index(None)
                    raise DatasetError(f"has no value in column {column!r} of row {row} for {role}")
                images += map(canonical_pixels, batch[column])
        except DatasetError:
            raise
        except Exception as error:  # Pillow and its plugins raise various exceptions for broken files
            row = len(images) + _first_broken(rows.select(range(len(images), min(len(images) + _BATCH, len(rows)))))
            place = rows.with_format("arrow")[row : row + 1].column(column)[0].as_py()["path"]
            raise DatasetError(
                f"has a broken image in column {column!r} of row {row} for {role}"
                f"{'' if place is None else f', {place!r}'}: {one_line(error)}"
            ) from error
    return images


def _first_broken(rows: Any) -> int:
    """Return the first row that cannot be decoded; 0 if each row can be decoded alone."""
    for row in range(len(rows)):
        try:
            rows[row]
        except Exception:
            return row
    return 0


def read_strings(split: Any, role: str, column: str) -> list[str]:
    """Return a column of texts, unchanged.

    Args:
        split: A `datasets.Dataset`.
        role: Role of the split, for messages: `train`.
        column: Name of the column.

    Raises:
        DatasetError: There is no such column, it has no texts, or a text is missing.
    """
    feature = _feature(split, column)
    if not _has_dtype(feature, "string", "large_string"):
        raise DatasetError(f"has no texts in column {column!r} (found: {feature})")
    return _values(split, role, column)


def read_labels(splits: Mapping[str, Any], column: str) -> tuple[dict[str, list[int]], int]:
    """Return the labels of each split as class indices, and the number of classes.

    If the column declares class names, their order is the order of the classes. Otherwise the classes are the sorted
    labels (integers or strings) of the training split.

    Args:
        splits: Role (one of them `train`) -> `datasets.Dataset`.
        column: Name of the column.

    Raises:
        DatasetError: There is no such column, it has no labels, a label is missing, hidden (-1) or not in the training
            split, or there are fewer than 2 classes.
    """
    import datasets

    feature = _feature(splits["train"], column)
    named = isinstance(feature, datasets.ClassLabel)
    if not named and not _has_dtype(feature, "int", "uint", "bool", "string", "large_string"):
        raise DatasetError(f"has no class labels (names, integers or strings) in column {column!r} (found: {feature})")
    values = {}
    for role, split in splits.items():
        if _feature(split, column) != feature:
            raise DatasetError(f"has labels in column {column!r} that are declared differently for {role} and train")
        values[role] = _values(split, role, column)
    present = set(values["train"])
    classes = range(feature.num_classes) if named else sorted(present)
    for role, labels in values.items():
        if unknown := set(labels).difference(classes):
            hint = " (-1 stands for hidden labels; use another split)" if -1 in unknown else ""
            raise DatasetError(
                f"has no class for label {reprlib.repr(min(unknown))} in column {column!r} for {role}{hint}"
            )
    if len(present) < 2:
        raise DatasetError(
            f"has fewer than 2 classes in column {column!r}: every label is {reprlib.repr(present.pop())}"
        )
    index = {label: position for position, label in enumerate(classes)}
    return {role: [index[label] for label in labels] for role, labels in values.items()}, len(classes)


def _feature(split: Any, column: str) -> Any:
    """Return the type of a column: a feature of `datasets`, such as `Image` or `Value`."""
    if column not in split.features:
        raise DatasetError(f"has no column {column!r}{did_you_mean(column, split.features)}")
    return split.features[column]


def _has_dtype(feature: Any, *prefixes: str) -> bool:
    return str(getattr(feature, "dtype", None)).startswith(prefixes)


def _values(split: Any, role: str, column: str) -> list[Any]:
    values: list[Any] = split.select_columns([column]).with_format("arrow")[:].column(column).to_pylist()
    if None in values:
        raise DatasetError(f"has no value in column {column!r} of row {values.index(None)} for {role}")
    return values
