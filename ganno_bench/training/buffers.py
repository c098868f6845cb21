"""What a network remembers besides its parameters, such as the running statistics of BatchNorm: a row for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Buffers", "attach", "batch_dependent", "stack_buffers", "state_buffers", "store"]

Buffers = Mapping[str, Tensor]
"""Name, as in `named_buffers()` -> the buffer of one network, or those of P networks, shape (P, *shape)."""

_ALIGN_BYTES = 128  # of each run's values, for the same reason as in `layout.py`


def state_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that belong to a network's state: the persistent ones, those that `state_dict()` has.

    A buffer that never changes is to be registered with `persistent=False`, or it counts as state.
    """
    state = model.state_dict(keep_vars=True)
    return {name: buffer for name, buffer in model.named_buffers() if name in state}


def batch_dependent(model: nn.Module) -> list[str]:
    """Return what makes a network's training more than a function of its parameters and an example.

    These are buffers that belong to its state, and BatchNorm, which mixes the examples of a batch.
    """
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    return [*state_buffers(model), *norms]


def stack_buffers(states: Sequence[Buffers], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return a copy of the state buffers of P networks of one architecture, side by side.

    Args:
        states: `state_buffers` of the network of each run; the same one may stand for several.
        device: Where the copy lies.
        dtype: Of floating-point buffers; others keep theirs.
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
    """Make a network use these tensors, each of the shape of the buffer, as its buffers."""
    for name, row in rows.items():
        owner, _, leaf = name.rpartition(".")
        network.get_submodule(owner)._buffers[leaf] = row


def store(network: nn.Module, rows: Buffers) -> None:
    """Take in what the network has put in the place of its buffers, where it did not change them in place."""
    for name, row in rows.items():
        buffer = network.get_buffer(name)
        if buffer is not row:
            row.copy_(buffer.detach())
            attach(network, {name: row})
