"""Divide a network into layers, the groups of parameters with separate learning rates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

from ganno_bench.core.errors import PluginError
from ganno_bench.workloads.blocks import declared_layers, natural_blocks, network_of

__all__ = ["Layer", "partition"]


@dataclass(frozen=True)
class Layer:
    """A group of parameters that share a learning rate.

    Attributes:
        name: Short name, unique in the network.
        parameters: Names of the parameters, as in `named_parameters()`.
        size: Number of scalars in the parameters.
    """

    name: str
    parameters: tuple[str, ...]
    size: int


def partition(model: nn.Module, *, frozen: bool = False) -> tuple[Layer, ...]:
    """Return the layers of a network, from input to output.

    A model can declare its layers by a method `layers() -> dict[str, Sequence[nn.Module | nn.Parameter]]`: layer name
    -> its modules and parameters. A model without this method is divided into its `natural_blocks`. Wrappers around the
    network are skipped, see `network_of`.

    Args:
        model: The network.
        frozen: Whether to include parameters that require no gradient.

    Raises:
        PluginError: A parameter belongs to no layer, or to more than one.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters() if frozen or parameter.requires_grad}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    network = network_of(model)
    declared = declared_layers(network)
    groups = dict(natural_blocks(network) if declared is None else declared)
    inside = {id(parameter) for parameter in network.parameters()}
    if outside := [parameter for parameter in model.parameters() if id(parameter) not in inside]:
        last = next(reversed(groups))
        groups[last] = [*groups[last], *outside]
    layers = []
    for name, members in groups.items():
        # A dictionary, because two members may share a weight.
        parameters = dict.fromkeys(names[id(parameter)] for parameter in members if id(parameter) in names)
        if parameters:
            layers.append(Layer(name, tuple(parameters), sum(sizes[parameter] for parameter in parameters)))
    owners = Counter(parameter for layer in layers for parameter in layer.parameters)
    for parameter in names.values():
        if owners[parameter] != 1:
            raise PluginError(
                f"model {type(model).__name__}: parameter {parameter!r} must belong to 1 layer "
                f"(found: {owners[parameter]})"
            )
    return tuple(layers)
