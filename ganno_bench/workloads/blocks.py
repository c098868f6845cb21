"""Divide networks without declared layers into their natural blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, signature

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ganno_bench.core.errors import PluginError

__all__ = ["declared_layers", "is_flat", "is_sharded", "natural_blocks", "network_of"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# Attribute names of wrapped modules: torch.compile; DataParallel, DistributedDataParallel and AveragedModel;
# activation checkpoints.
_WRAPPED = ("_orig_mod", "module", "_checkpoint_wrapped_module")

Layers = Mapping[str, Sequence[nn.Parameter]]
"""Layer name or path -> parameters, from input to output; a parameter may occur twice."""


def declared_layers(model: nn.Module) -> Layers | None:
    """Return the layers that a network declares by a method `layers`, or None if it has no such method.

    A child module of this name does not count, nor does a method with required arguments.

    Raises:
        PluginError: The method does not return a mapping from names to lists of modules and parameters.
    """
    method = _declaration(model)
    declared = method() if method is not None else None
    if declared is None:
        return None
    if not isinstance(declared, Mapping):
        raise _misdeclared(model, declared)
    layers: dict[str, list[nn.Parameter]] = {}
    for name, members in declared.items():
        if not isinstance(members, Sequence | nn.ModuleList):
            raise _misdeclared(model, members)
        layers[name] = []
        for member in members:
            if not isinstance(member, nn.Module | nn.Parameter):
                raise _misdeclared(model, member)
            layers[name] += [member] if isinstance(member, nn.Parameter) else [*member.parameters()]
    return layers


def _declaration(model: nn.Module) -> Callable[[], object] | None:
    method = getattr(model, "layers", None)
    if not callable(method) or isinstance(method, nn.Module):
        return None
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    arguments = signature(method).parameters.values()
    return None if any(one.default is Parameter.empty and one.kind not in several for one in arguments) else method


def _misdeclared(model: nn.Module, found: object) -> PluginError:
    return PluginError(
        f"model {type(model).__name__}: layers() must return a mapping from layer names to lists of modules and "
        f"parameters (found in their place: {type(found).__name__})"
    )


def is_flat(parameter: Tensor) -> bool:
    """Whether FSDP has flattened a parameter into a vector of many, of which each process holds a part."""
    return hasattr(parameter, "_fsdp_flattened") or hasattr(parameter, "_is_flat_param")


def is_sharded(parameter: Tensor) -> bool:
    """Whether a process holds only a part of a parameter: one of FSDP, or another distributed tensor."""
    return is_flat(parameter) or hasattr(parameter, "device_mesh")


def network_of(model: nn.Module) -> nn.Module:
    """Return the network inside of wrappers (compiled, parallel, averaged) and of holders.

    A holder is a module with a single child that has parameters, such as a Lightning module with its network in one
    attribute. The function looks through a holder unless the holder is divided into blocks itself, or its child is a
    single map. Vectors of the holder, such as those of a loss or a metric, do not count.
    """
    while _declaration(model) is None and (child := _only_child(model)) is not None:
        name, inside = child
        held = _declaration(inside) is not None or not (isinstance(inside, _LISTS) or _can_be_opened(inside))
        if name not in _WRAPPED and (isinstance(model, _LISTS) or not (held and any(_with_parameters(inside)))):
            break
        model = inside
    return model


def natural_blocks(model: nn.Module) -> Layers:
    """Divide a network into its blocks, in the order in which they are registered.

    From the network down, two kinds of modules are opened: lists (`nn.Sequential`, `nn.ModuleList`, `nn.ModuleDict`)
    and modules that hold a list of blocks of one class, such as an encoder. A module that declares its layers
    contributes these. The remaining members are blocks, such as residual blocks, and single maps: convolutions, linear
    maps, embeddings. Each of them is a layer, named by its path.

    A normalisation belongs to the single map directly before it. At the beginning of the network and directly after a
    block, it belongs to the next layer. The same holds for parameters of an opened module, such as positions or a class
    token. A shared parameter belongs to the first layer that has it.

    Returns:
        Path, as in `named_modules()` -> parameters.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    waiting: list[nn.Parameter] = []  # for the next layer
    taken: set[nn.Parameter] = set()
    single: str | None = None  # path of the previous layer if it is a single map
    for path, member in _opened(model, ""):
        parameters = [*member.parameters()] if isinstance(member, nn.Module) else member
        own = [parameter for parameter in parameters if parameter not in taken]
        taken.update(own)
        if isinstance(member, _OwnParameters) or (isinstance(member, nn.Module) and _is_norm(member)):
            (waiting if single is None else groups[single]).extend(own)
        else:
            groups[path] = [*waiting, *own]
            waiting = []
            single = path if isinstance(member, nn.Module) and not _parts(member) else None
    if waiting:
        groups.setdefault(next(reversed(groups), type(model).__name__), []).extend(waiting)
    return groups


class _OwnParameters(list[nn.Parameter]):
    """Parameters of an opened module itself, outside of its members."""


def _opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module | Sequence[nn.Parameter]]]:
    """Yield path and content of everything in a module after opening: its own parameters, blocks, single maps.

    A layer that a member declares is a list of parameters.
    """
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, _OwnParameters([parameter])
    for name, member in module.named_children():
        child = _unwrapped(member)
        if (declared := declared_layers(child)) is not None:
            for layer, parameters in declared.items():
                yield f"{prefix}{name}.{layer}", parameters
        elif _can_be_opened(child):
            yield from _opened(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield prefix + name, child


def _with_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that have parameters."""
    for name, child in module.named_children():
        if any(True for _ in child.parameters()):
            yield name, child


def _only_child(module: nn.Module) -> tuple[str, nn.Module] | None:
    """Return name and module of the only child with parameters, vectors not counted; None if there is no such child."""
    children = [
        (name, child)
        for name, child in _with_parameters(module)
        if any(is_lazy(parameter) or parameter.dim() > 1 for parameter in child.parameters())
    ]
    alone = len(children) == 1 and all(parameter.dim() < 2 for parameter in module.parameters(recurse=False))
    return children[0] if alone else None


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of all wrappers."""
    while (child := _only_child(module)) is not None and child[0] in _WRAPPED:
        module = child[1]
    return module


def _can_be_opened(module: nn.Module) -> bool:
    return isinstance(module, _LISTS) or any(
        _is_stack(child) or (not isinstance(child, _LISTS) and _can_be_opened(child))
        for child in map(_unwrapped, module.children())
    )


def _is_stack(module: nn.Module) -> bool:
    """Whether a module is a list of blocks of one class, each with at least two weights that are not vectors.

    A convolution with its normalisation has one such weight. So a list of them does not open a residual block.
    """
    if not isinstance(module, _LISTS):
        return False
    blocks = [_unwrapped(child) for _, child in _with_parameters(module)]
    return len({type(block) for block in blocks}) == 1 and all(
        not isinstance(block, _LISTS) and sum(weight.dim() > 1 for weight in block.parameters()) > 1 for block in blocks
    )


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the children, without the parametrizations of weights, such as weight normalisation."""
    return [child for name, child in module.named_children() if name != "parametrizations"]


def _is_norm(module: nn.Module) -> bool:
    if any(module.children()):
        return False
    # A module whose parameters are all vectors is a normalisation, or acts like one.
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or all(weight.dim() < 2 for weight in module.parameters())
