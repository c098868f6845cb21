"""State buffers of P networks, such as the running statistics of BatchNorm: one row for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Buffers", "attach", "batch_dependent", "stack_buffers", "state_buffers", "store"]

Buffers = Mapping[str, Tensor]
"""Name, as in `named_buffers()` -> the buffer of one network, or of P networks with shape (P, *shape)."""

_ALIGN_BYTES = 128  # alignment of the values of each run, see `layout.py`


def state_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that belong to the state of a network: the persistent ones, which `state_dict()` contains.

    Register a buffer that never changes with `persistent=False`; otherwise it counts as state.
    """
    state = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name in state}


def batch_dependent(model: nn.Module) -> list[str]:
    """Return the names of state buffers, and of BatchNorm modules, which mix the examples of a batch.

    With these, the training of a network depends on more than its parameters and single examples.
    """
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [*state_buffers(model), *norms]


def stack_buffers(states: Sequence[Buffers], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a copy of the state buffers of P networks of one architecture, side by side.

    Args:
        states: `state_buffers` of the network of each run. Several runs may share one.
        device: Device of the copy.
        dtype: Type of floating-point buffers. Other buffers keep their type.
    """
    stacked = {}
    for name, first in states[0].items():
        kind = dtype if first.is_floating_point() else first.dtype
        step = _ALIGN_BYTES // kind.itemsize
        rows = torch.zeros(len(states), math.ceil(first.numel() / step) * step, dtype=kind, device=device)
        stacked[name] = rows[:, : first.numel()].view(len(states), *first.shape)
        for row, state in zip(stacked[name], states, strict=True):
            row.copy_(state[name])
    return stacked


def attach(network: nn.Module, rows: Buffers) -> None:
    """Replace the buffers of a network by these tensors, which have the same shapes."""
    for name, row in rows.items():
        owner, _, leaf = name.rpartition(".")
        network.get_submodule(owner)._buffers[leaf] = row


def store(network: nn.Module, rows: Buffers) -> None:
    """Copy buffers that the network has replaced, instead of changing them in place, into `rows`."""
    for name, row in rows.items():
        buffer = network.get_buffer(name)
        if buffer is not row:
            row.copy_(buffer.detach())
            attach(network, {name: row})
