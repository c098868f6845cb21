"""Matrix products, expressed by others that are faster in compiled code on a CPU.

At each position of a text, a recurrent network multiplies its weights by the states of a few examples. A matrix library
takes up to five times as long for a result with few columns as for the transposed result, which has few rows; see
`benchmarks/operations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["PRODUCTS"]

aten = torch.ops.aten

_COLUMNS = 16
"""Columns of a result from which the library is as fast."""

_ROWS = 64
"""Rows of a result up to which transposing costs as much as it saves."""


def _product(left: Tensor, right: Tensor) -> Any:
    if right.shape[-1] >= _COLUMNS or left.shape[-2] < _ROWS:
        return NotImplemented
    return torch.matmul(right.mT, left.mT).mT


PRODUCTS: Mapping[Any, Callable[..., Any]] = {aten.bmm.default: _product, aten.mm.default: _product}
"""Operations and the functions that take their place, see `trace`."""
