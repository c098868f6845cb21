"""Keep test data on disk until the harness reads them, so that they are not in memory while schedulers run."""

from __future__ import annotations

import tempfile
import weakref
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.data import Dataset, Split

__all__ = ["HeldOut", "hold_out"]


class HeldOut(Split):
    """A split whose tensors are in a file without a name, which is deleted with this object.

    Every method reads the file, except the sizes. `to` returns the split in memory, for as long as the caller keeps it.
    """

    def __init__(self, split: Any) -> None:
        """Write a split to disk.

        Args:
            split: A dataclass with tensors among its fields.

        Raises:
            OSError: The folder for temporary files is full or not writable.
        """
        tensors = {name: value for name, value in vars(split).items() if isinstance(value, Tensor)}
        self._n_examples: int = split.n_examples
        self._n_predictions: int = split.n_predictions
        self._rest = replace(split, **{name: value.new_empty(0) for name, value in tensors.items()})
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._file.write(save({name: value.contiguous() for name, value in tensors.items()}))
        self._file.flush()
        weakref.finalize(self, self._file.close)

    @property
    def n_examples(self) -> int:  # noqa: D102
        return self._n_examples

    @property
    def n_predictions(self) -> int:  # noqa: D102
        return self._n_predictions

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        return self._read().gather(index)

    def order(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:  # noqa: D102
        return self._read().order(generator, n_updates, batch_size)

    def windows(self) -> Tensor:  # noqa: D102
        return self._read().windows()

    def head(self, n_predictions: int) -> Any:  # noqa: D102
        return self._read().head(n_predictions)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Any:  # noqa: D102
        return self._read().to(device, dtype)

    def _read(self) -> Split:
        self._file.seek(0)
        split: Split = replace(self._rest, **load(self._file.read()))
        return split


def hold_out(dataset: Dataset) -> Dataset:
    """Return a dataset with its test split on disk.

    Raises:
        DatasetError: The folder for temporary files is full or not writable.
    """
    try:
        return replace(dataset, test=HeldOut(dataset.test))
    except OSError as error:
        raise DatasetError(
            f"dataset {dataset.name!r}: test data cannot be written to {tempfile.gettempdir()!r}: {error.strerror}; "
            "free some space or set TMPDIR"
        ) from error
