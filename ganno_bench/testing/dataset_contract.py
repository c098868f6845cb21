"""The contract of a dataset that code makes: a function without arguments, such as those in `EMBEDDED`.

class TestMine(DatasetContract):
    ref = "./mine.py:moods"
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np
import torch

from ganno_bench.core.errors import PluginError
from ganno_bench.core.process_state import undisturbed
from ganno_bench.testing.contract import Check, CheckResult, Contract, check_all
from ganno_bench.testing.playing import ContractError, first_line
from ganno_bench.workloads.embedded import load_maker

__all__ = ["CHECKS", "DatasetContract", "DatasetEntry", "check_dataset", "load_entry"]


@dataclass(frozen=True)
class DatasetEntry:
    """The function of a dataset, and the splits that its first call returned."""

    make: Callable[[], Any]
    splits: Any


def load_entry(ref: str) -> DatasetEntry:
    """Return the function that `ref` names, and call it once.

    Raises:
        UnknownNameError: There is no such dataset.
        PluginError: It raises, or takes arguments.
    """
    make = load_maker(ref)
    try:
        inspect.signature(make).bind()
    except TypeError as error:
        raise PluginError(f"dataset {ref!r} takes arguments: {error}") from None
    try:
        return DatasetEntry(make, make())
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"dataset {ref!r} raised {first_line(error)}") from error


def check_splits(entry: DatasetEntry) -> None:
    """It returns a mapping from names, including `train` and `test`, to `datasets.Dataset` objects that have rows."""
    import datasets

    if not isinstance(entry.splits, Mapping):
        raise ContractError(f"expected a mapping of splits, got {type(entry.splits).__name__}")
    for name in ("train", "test"):
        if name not in entry.splits:
            raise ContractError(f"expected a split {name!r}, got {', '.join(map(str, entry.splits)) or 'none'}")
    for name, split in entry.splits.items():
        if not isinstance(split, datasets.Dataset):
            raise ContractError(f"expected split {name!r} to be a datasets.Dataset, got {type(split).__name__}")
        if len(split) == 0:
            raise ContractError(f"expected rows in split {name!r}, got none")


def check_columns(entry: DatasetEntry) -> None:
    """All splits have the same columns of the same types."""
    first = entry.splits["train"].features
    for name, split in entry.splits.items():
        if split.features != first:
            raise ContractError(
                f"expected split {name!r} to have the columns of 'train', {first}; got {split.features}"
            )


def check_repeatable(entry: DatasetEntry) -> None:
    """Each call returns the same rows in the same order: random numbers have a fixed seed."""
    with undisturbed("it", may_draw=True):
        random.seed(1)  # another process may have another state
        np.random.seed(1)
        torch.manual_seed(1)
        again = entry.make()
    for name, split in again.items():
        if name not in entry.splits or _table(split) != _table(entry.splits[name]):
            raise ContractError(f"expected the same rows in split {name!r} at the next call")


def check_disjoint(entry: DatasetEntry) -> None:
    """No row is in two splits: otherwise runs could train on test data."""
    rows = {name: {repr(row) for row in _table(split).to_pylist()} for name, split in entry.splits.items()}
    for one, other in combinations(rows, 2):
        if shared := rows[one] & rows[other]:
            raise ContractError(f"expected no row in both {one!r} and {other!r}, got {len(shared)}: {min(shared)[:60]}")


def check_described(entry: DatasetEntry) -> None:
    """It has a docstring; lists show the first line."""
    if not (inspect.getdoc(entry.make) or "").partition("\n")[0].strip():
        raise ContractError("expected a docstring, got none")


_GATES = (check_splits,)
CHECKS: tuple[Check, ...] = (*_GATES, check_columns, check_repeatable, check_disjoint, check_described)
"""Each check takes a `DatasetEntry`."""


def check_dataset(ref: str) -> list[CheckResult]:
    """Check a dataset against the contract.

    Args:
        ref: A registered name, or `./file.py:function`.
    """
    return check_all(lambda: load_entry(ref), CHECKS, _GATES)


class DatasetContract(Contract):
    """The contract as pytest tests. Derive a class `Test...` and set `ref`."""

    checks: ClassVar[Sequence[Check]] = CHECKS
    load = staticmethod(load_entry)


def _table(split: Any) -> Any:
    """Return the rows of a split as an Arrow table, as they are stored."""
    return split.with_format("arrow")[:]
