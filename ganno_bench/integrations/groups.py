"""Helpers of `GannoScheduler` that read, change and check an optimizer's parameter groups."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import ConfigError
from ganno_bench.policies.policy import PolicyCard
from ganno_bench.training.optimizers import OPTIMIZERS

__all__ = [
    "base_lr_of",
    "initial_decay",
    "layer_order",
    "set_rate",
    "warn_of_fine_tuning",
    "warn_of_groups",
    "warn_of_order",
]

Group = Mapping[str, Any]
_MATRICES_OF_A_BLOCK = 12
"""Above the number of matrices in a block: an encoder block has four to seven, a decoder block ten."""
_FINE_TUNING = 0.1
"""A base learning rate below this share of the optimizer's default counts as one for fine-tuning."""


def layer_order(groups: Sequence[Group]) -> list[int]:
    """Return the indices of groups from input to output: by their key `layer` if they have one, else as they are."""
    places = [group["layer"] for group in groups if "layer" in group]
    if len(set(places)) < len(places):  # the groups belong to several networks
        return [*range(len(groups))]
    return sorted(range(len(groups)), key=lambda index: (groups[index].get("layer", math.inf), index))


def base_lr_of(groups: Sequence[Group]) -> float:
    """Return the base learning rate of the groups: `initial_lr`, which an earlier scheduler may have left, else `lr`.

    Raises:
        ConfigError: The optimizer has no learning rate, the groups have different ones, or it is not above 0 or not
            finite.
    """
    if any(group.get("lr") is None for group in groups):
        raise ConfigError("the optimizer has no learning rate to set: it chooses its own (lr: None)")
    rates = {float(group.get("initial_lr", group["lr"])) for group in groups}
    if len(rates) > 1:
        raise ConfigError(
            f"the parameter groups begin with different learning rates: {sorted(rates)}; give base_lr= to choose one"
        )
    (rate,) = rates
    if not 0.0 < rate < math.inf:
        raise ConfigError(
            "the base learning rate must be above 0 and finite, since all learning rates are multiples of it "
            f"(value: {rate:g})"
        )
    return rate


def initial_decay(group: Group) -> float:
    """Return the initial weight decay of a group."""
    return float(group.get("initial_weight_decay", group.get("weight_decay", 0.0)))


def set_rate(group: dict[str, Any], rate: float) -> None:
    """Set a group's learning rate; change it in place if it is a tensor."""
    if isinstance(group["lr"], Tensor):
        group["lr"].detach().fill_(rate)
    else:
        group["lr"] = rate


def warn_of_fine_tuning(base_lr: float, optimizer: str, card: PolicyCard) -> None:
    """Warn if the base learning rate is far below the default of an optimizer, a key of `OPTIMIZERS`."""
    default = OPTIMIZERS[optimizer].base_lr
    if base_lr < _FINE_TUNING * default:
        warnings.warn(
            f"the base learning rate {base_lr:g} is far below {default:g}, the usual one for training from scratch. "
            f"The policy {card.name!r} was trained for that and may multiply the base learning rate by up to "
            f"{math.exp(card.action.bound):,.0f}. For fine-tuning, give max_lr=, the highest learning rate that you "
            "would use",
            stacklevel=3,
        )


def warn_of_groups(groups: Sequence[Group], *, needs_layers: bool) -> None:
    """Warn if an optimizer's groups do not look like the layers of a network.

    Three cases: a single group with several matrices; groups of vectors next to groups of matrices (without and with
    weight decay); groups with more matrices than a block has.
    """
    if 1 < len(groups) == len({group.get("layer") for group in groups} - {None}):
        return  # layer_groups made them
    trained = [[parameter for parameter in group["params"] if parameter.requires_grad] for group in groups]
    matrices = [sum(parameter.dim() > 1 for parameter in group) for group in trained]
    vectors_apart = max(matrices) > 0 and any(
        parameters and not n_matrices for parameters, n_matrices in zip(trained, matrices, strict=True)
    )
    several = sum(matrices) > (1 if len(groups) == 1 else _MATRICES_OF_A_BLOCK * len(groups))
    if not (vectors_apart or several):
        return
    counted = "one parameter group, which counts as a layer" if len(groups) == 1 else f"{len(groups)} parameter groups"
    counted += "" if len(groups) == 1 else ", each of which counts as a layer"
    remedy = "make the optimizer from layer_groups(model)" if needs_layers else "give n_layers=len(layer_groups(model))"
    warnings.warn(f"the optimizer has {counted}, but the network seems to have other layers; {remedy}", stacklevel=3)


def warn_of_order(optimizer: torch.optim.Optimizer) -> None:
    """Warn if a new `torch.optim` optimizer has made no update, although there are gradients for one."""
    groups = optimizer.param_groups
    remembers = any(group.get("momentum") or "betas" in group for group in groups)
    if optimizer.state or not remembers or not type(optimizer).__module__.startswith("torch.optim"):
        return
    parameters = [parameter for group in groups for parameter in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None and p.grad.layout == torch.strided]
    # A GradScaler skips updates whose gradients are not finite.
    if gradients and all(bool(gradient.isfinite().all()) for gradient in gradients):
        warnings.warn(
            "the optimizer has made no update yet; call scheduler.step() after optimizer.step()", stacklevel=3
        )
