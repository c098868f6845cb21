"""How much of what is tested on has been trained or tuned on: rows that stand in two splits, passages in two texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from ganno_bench.core.errors import DatasetError

__all__ = ["PASSAGE", "check_overlap", "share_of_rows", "share_of_text"]

T = TypeVar("T")
PASSAGE = 64
"""Characters of a passage: too many to stand in two texts by chance."""


def check_overlap(splits: Mapping[str, T], share: Callable[[Sequence[T], T], float], largest: float) -> None:
    """Check that the validation and the test split have little in common with what is used before them.

    Args:
        splits: Content of `train`, `test` and, unless it is cut from `train`, `validation`.
        share: Returns how much of a split is in earlier ones, in [0, 1].
        largest: How much may be.

    Raises:
        DatasetError: It is more.
    """
    earlier: list[str] = []
    for role in ("train", "validation", "test"):
        if role not in splits:
            continue
        found = share([splits[name] for name in earlier], splits[role]) if earlier else 0.0
        if found > largest:
            raise DatasetError(
                f"has {found:.2%} of its {role} split in its {' or '.join(earlier)} split, too, more than "
                f"max_overlap allows (value: {largest:g}): remove it, or set max_overlap in the dataset's table"
            )
        earlier.append(role)


def share_of_rows(earlier: Sequence[Sequence[bytes]], rows: Sequence[bytes]) -> float:
    """Return the share of rows, given by the hashes of input and target, that are in earlier splits."""
    known = set().union(*earlier)
    return sum(row in known for row in rows) / len(rows)


def share_of_text(earlier: Sequence[str], text: str) -> float:
    """Return the share of a text that stands in earlier ones, in passages of `PASSAGE` characters.

    A passage that is nearly twice as long, or longer, is found wherever it begins.
    """
    known = {other[at : at + PASSAGE] for other in earlier for at in range(0, len(other) - PASSAGE + 1, PASSAGE)}
    found = at = 0
    while at + PASSAGE <= len(text):
        is_known = text[at : at + PASSAGE] in known
        found += PASSAGE * is_known
        at += PASSAGE if is_known else 1
    return found / max(len(text), 1)
