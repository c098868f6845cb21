"""How much work something is, counted in function calls: the same on every machine, idle or busy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Effort", "effort"]


class Effort:
    """Counts the calls of functions, Python's and C's.

    Attributes:
        calls: How many there were so far.
    """

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Any, event: str, argument: Any) -> None:
        self.calls += event in ("call", "c_call")


@contextmanager
def effort() -> Iterator[Effort]:
    """Count while the context is entered; what runs within one call of C is not seen."""
    counted = Effort()
    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        yield counted
    finally:
        sys.setprofile(before)
