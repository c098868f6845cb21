"""Embedded datasets, which need no download: they come with scikit-learn and with Python.

A dataset is a function without arguments. Like `datasets.load_dataset`, it returns a mapping from split names to
`datasets.Dataset`. Lists of datasets show the first line of its docstring. All later steps are the same as for other
datasets.
"""

from __future__ import annotations

import functools
import inspect
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganno_bench.core.errors import DatasetError, PluginError
from ganno_bench.core.registry import Registry
from ganno_bench.workloads.fingerprint import Rows

__all__ = ["EMBEDDED", "STDLIB_MODULES", "digits", "load_maker", "stdlib_chars"]

EMBEDDED = Registry(
    "dataset",
    {
        "digits": "ganno_bench.workloads.embedded:digits",
        "stdlib-chars": "ganno_bench.workloads.embedded:stdlib_chars",
    },
    group="ganno_bench.datasets",
    accepts=inspect.isfunction,
)
"""Embedded datasets by name: functions without arguments that return a mapping from splits to `datasets.Dataset`."""

STDLIB_MODULES = {
    "train": (
        "_pydecimal",
        "_pyio",
        "argparse",
        "difflib",
        "enum",
        "inspect",
        "ipaddress",
        "pickle",
        "subprocess",
        "tarfile",
        "typing",
    ),
    "validation": ("configparser", "dataclasses"),
    "test": ("shutil", "threading"),
}
"""Split -> modules of the standard library: large, pure Python, one file each, present in Python 3.11 to 3.14."""


def load_maker(ref: str) -> Callable[[], Any]:
    """Return the function that makes a dataset, given a registered name or `./file.py:function`.

    After each call, settings of the process that the function changed are restored, including global random numbers.

    Raises:
        UnknownNameError: There is no such dataset; the message has the nearest name.
        PluginError: The import failed, or the object is not callable. Calling the function raises it if the function
            changes settings of the process.
    """
    maker: Callable[[], Any] = EMBEDDED.load(ref)
    if not callable(maker):
        raise PluginError(f"dataset {ref!r} must be a function (found: {type(maker).__name__})")

    @functools.wraps(maker)
    def guarded() -> Any:
        from ganno_bench.core.process_state import undisturbed  # which imports torch

        with undisturbed(f"dataset {ref!r}: making it", may_draw=True):
            return maker()

    return guarded


_KEPT = frozenset(map(chr, range(32, 127))) | {"\n", "\t"}


def digits() -> Any:
    """8x8 images of handwritten digits, 10 classes: `image`, `label` (scikit-learn's copy of the UCI test set).

    1,797 rows with 17 gray values, divided by their hashes: about 70 % train, 15 % validation, 15 % test.
    """
    import datasets
    from sklearn.datasets import load_digits

    bunch = load_digits()
    everything = Rows.of(list(bunch.images.astype(np.uint8)), bunch.target.tolist())
    train_and_validation, test = everything.cut(0.15)
    # The remaining rows have hashes of at least 0.15, so the cut at 0.3 takes the next 15 % of all rows.
    train, validation = train_and_validation.cut(0.30)
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    return datasets.DatasetDict(
        {
            name: datasets.Dataset.from_dict(
                {"image": [{"bytes": _pgm(pixels)} for pixels in rows.inputs], "label": rows.labels}, features
            )
            for name, rows in {"train": train, "validation": validation, "test": test}.items()
        }
    )


def stdlib_chars() -> Any:
    """Python source code, about 1 MB: `text` (the running Python's own standard library, one row per module).

    The splits are whole modules (`STDLIB_MODULES`). All characters except printable ASCII, newline and tab are dropped.
    Content and fingerprint depend on the version of Python.

    Raises:
        DatasetError: This Python installation has no source files.
    """
    import datasets

    folder = Path(sysconfig.get_path("stdlib"))
    return datasets.DatasetDict(
        {
            split: datasets.Dataset.from_dict({"text": [_source(folder / f"{module}.py") for module in modules]})
            for split, modules in STDLIB_MODULES.items()
        }
    )


def _pgm(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Return gray values, shape (height, width), as an image file in the simplest format, PGM."""
    height, width = pixels.shape
    return f"P5 {width} {height} 255\n".encode() + pixels.tobytes()


def _source(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DatasetError(f"this Python installation lacks the source of module {path.stem!r}: {error}") from error
    return "".join(character for character in text if character in _KEPT)
