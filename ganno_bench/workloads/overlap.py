"""Measure how much of the test data is also in training or validation data: equal rows, or equal passages of texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ganno_bench.core.errors import DatasetError

__all__ = ["PASSAGE", "check_overlap", "share_of_rows", "share_of_text"]

T = TypeVar("T")
PASSAGE = 64
"""Characters of a passage; equal passages of this length do not occur by chance."""


def check_overlap(splits: Mapping[str, T], share: Callable[[Sequence[T], T], float], largest: float) -> None:
    """Check that the validation and the test split share little with the splits before them.

    Args:
        splits: Content of `train`, `test` and, unless it is cut from `train`, `validation`.
        share: Returns the share of a split that is also in earlier splits, in [0, 1].
        largest: Largest allowed share.

    Raises:
        DatasetError: The share is larger.
    """
    earlier: list[str] = []
    for role in ("train", "validation", "test"):
        if role not in splits:
            continue
        found = share([splits[name] for name in earlier], splits[role]) if earlier else 0.0
        if found > largest:
            raise DatasetError(
                f"has {found:.2%} of its {role} split also in its {' or '.join(earlier)} split, more than max_overlap "
                f"allows (value: {largest:g}); remove the duplicates, or set max_overlap in the dataset's table"
            )
        earlier.append(role)


def share_of_rows(earlier: Sequence[Sequence[bytes]], rows: Sequence[bytes]) -> float:
    """Return the share of rows that are in earlier splits. Rows are given as hashes of input and target."""
    known = set().union(*earlier)
    return sum(row in known for row in rows) / len(rows)


def share_of_text(earlier: Sequence[str], text: str) -> float:
    """Return the share of a text that is in earlier texts, in passages of `PASSAGE` characters.

    A common passage of nearly twice this length, or more, is found at any position.
    """
    known = {other[at : at + PASSAGE] for other in earlier for at in range(0, len(other) - PASSAGE + 1, PASSAGE)}
    found = at = 0
    while at + PASSAGE <= len(text):
        is_known = text[at : at + PASSAGE] in known
        found += PASSAGE * is_known
        at += PASSAGE if is_known else 1
    return found / max(len(text), 1)
