"""Parameter groups for an optimizer, one for each layer of a network."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.blocks import is_flat
from ganno_bench.workloads.layers import partition

__all__ = ["layer_groups"]


def layer_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Return one parameter group for each layer of a network, from input to output. Make the optimizer from them.

        optimizer = torch.optim.AdamW(layer_groups(model), lr=1e-3)

    If the model has a method `layers()`, this defines the layers. Otherwise a layer is a natural block: a
    residual block, an encoder layer, or a convolution with its normalisation (see `ganno_bench.workloads.blocks`).
    Policies were trained on such groups.

    The function unwraps `torch.compile`, `DataParallel`, `DistributedDataParallel`, `AveragedModel`, and a module that
    holds a network and nothing else. The groups include frozen parameters, so that you can unfreeze them later. An
    optimizer does not change parameters without a gradient.

    Args:
        model: The network.

    Returns:
        Groups with the keys `name`, `layer` (the index of the layer, 0 at the input) and `params`. `GannoScheduler`
        orders them by `layer`, so you may give them to the optimizer in any order.

    Raises:
        ConfigError: `model` is not a module; or a parameter is lazy and has no shape yet, or sharded by FSDP.
        PluginError: A parameter belongs to no layer, or to two.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"model: must be a torch module (value: a {type(model).__name__}); write layer_groups(model)")
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if is_lazy(parameter):
            raise ConfigError(
                f"parameter {name!r} has no shape yet; run a batch through the model before layer_groups()"
            )
        if is_flat(parameter):
            raise ConfigError(f"parameter {name!r} is sharded; call layer_groups() before FSDP shards the model")
    return [
        {"name": layer.name, "layer": place, "params": [parameters[name] for name in layer.parameters]}
        for place, layer in enumerate(partition(model, frozen=True))
    ]
