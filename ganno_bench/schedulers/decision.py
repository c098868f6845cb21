"""The rules for a decision of a scheduler, checked by the harness in a run and by the contract in a check."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.training.signals import Controls

__all__ = ["fault_of", "owned", "parted"]

_LIMITS = {"weight_decay": torch.inf, "momentum": 1.0}
"""Control -> upper bound, exclusive. The lower bound is 0, inclusive."""


def fault_of(controls: Any, shape: tuple[int, int], diverged: Tensor, n_updates: int) -> str | None:
    """Return what is wrong with a decision: where, what was expected and what was found. None if it is valid.

    Args:
        controls: The controls that `step` returned.
        shape: (P, L), the number of runs and of layers.
        diverged: Whether a run has diverged, bool, shape (P,). Values for diverged runs are not checked.
        n_updates: Number of updates done.
    """
    where = f"update {n_updates}"
    if not isinstance(controls, Controls) or not isinstance(controls.lr, Tensor):
        got = f"a {type(controls.lr).__name__}" if isinstance(controls, Controls) else type(controls).__name__
        return f"{where}: expected Controls with a tensor `lr`, got {got}"
    runs, layers = shape
    lr, device = controls.lr, diverged.device
    if not _is_form(lr, device) or lr.dim() not in (2, 3) or lr.shape[-2:] != shape or len(lr) == 0:
        return (
            f"{where}: expected float64 learning rates of shape {shape} or (n, {runs}, {layers}), "
            f"got {_form(lr, device)}"
        )
    block = lr if lr.dim() == 3 else lr[None]
    bad = ~(block.isfinite() & (block >= 0.0)) & ~diverged[:, None]
    if bad.any():
        row, run, layer = bad.nonzero()[0].tolist()
        return (
            f"update {n_updates + row}, run {run}: expected a finite learning rate >= 0, got {block[row, run, layer]} "
            f"for layer {layer}"
        )
    for name, limit in _LIMITS.items():
        value = getattr(controls, name)
        if value is None:
            continue
        if not isinstance(value, Tensor) or not _is_form(value, device) or value.shape != shape[:1]:
            got = _form(value, device) if isinstance(value, Tensor) else f"a {type(value).__name__}"
            return f"{where}: expected {name} float64 of shape {shape[:1]}, got {got}"
        wrong = ~((value >= 0.0) & (value < limit)) & ~diverged
        if wrong.any():
            run = int(wrong.nonzero()[0])
            return f"{where}, run {run}: expected {name} in [0, {limit}), got {value[run]}"
    return None


def parted(decision: Any) -> tuple[Any, Any]:
    """Return the controls and the state that `step` returned.

    Raises:
        PluginError: It did not return a pair.
    """
    if not isinstance(decision, tuple | list) or len(decision) != 2:
        raise PluginError(f"step must return (Controls, state), but returned {type(decision).__name__}")
    controls, state = decision
    return controls, state


def owned(controls: Controls) -> Controls:
    """Return a copy of a decision, which the scheduler cannot change."""
    decay, momentum = (
        None if value is None else value.detach().clone() for value in (controls.weight_decay, controls.momentum)
    )
    return Controls(controls.lr.detach().clone(), decay, momentum)


def _is_form(values: Tensor, device: torch.device) -> bool:
    return values.dtype == torch.float64 and values.layout == torch.strided and values.device == device


def _form(values: Tensor, device: torch.device) -> str:
    """Return dtype, layout and shape of a tensor, and its device if that is wrong."""
    layout = "" if values.layout == torch.strided else f" {str(values.layout).removeprefix('torch.')}"
    place = "" if values.device == device else f" on {values.device} instead of {device}"
    return f"{str(values.dtype).removeprefix('torch.')}{layout} of shape {tuple(values.shape)}{place}"
