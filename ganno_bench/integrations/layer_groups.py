"""A parameter group for each layer of a network."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.blocks import is_flat
from ganno_bench.workloads.layers import partition

__all__ = ["layer_groups"]


def layer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return a parameter group for each layer of a network, from input to output, to make an optimizer from.

    A layer is what `model.layers()` says, if there is such a method, or else a natural block: a residual block, an
    encoder's layer, a convolution with its normalisation; see `ganno_bench.workloads.blocks`. A policy was trained on
    such groups. Wrappers (`torch.compile`, `DataParallel`, `DistributedDataParallel`, `AveragedModel`, a module that
    holds a network and nothing else) are looked through. Frozen parameters are in the groups, too, so that they can be
    unfrozen later; an optimizer leaves alone what has no gradient.

    Returns:
        Groups with the keys `name`, `layer` (its place, from 0) and `params`. A scheduler goes by `layer`, in whatever
        order an optimizer is given them.

    Raises:
        ConfigError: A parameter has no shape yet, or FSDP has cut it into parts.
        PluginError: A parameter belongs to no layer, or to two.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if is_lazy(parameter):
            raise ConfigError(f"parameter {name!r} has no shape yet: give the network a batch before layer_groups()")
        if is_flat(parameter):
            raise ConfigError(f"parameter {name!r} is sharded: call layer_groups() before FSDP to see the layers")
    return [
        {"name": layer.name, "layer": place, "params": [parameters[name] for name in layer.parameters]}
        for place, layer in enumerate(partition(model, frozen=True))
    ]
