"""The natural blocks of a network that does not say what its layers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import Parameter, signature

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from ganno_bench.core.errors import PluginError

__all__ = ["declared_layers", "is_flat", "is_sharded", "natural_blocks", "network_of"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# What wrappers call the module that they wrap: torch.compile; DataParallel, DistributedDataParallel and AveragedModel;
# activation checkpoints.
_WRAPPED = ("_orig_mod", "module", "_checkpoint_wrapped_module")

Layers = Mapping[str, Sequence[nn.Parameter]]
"""Name, or path -> parameters, from input to output; some may be in it twice."""


def declared_layers(model: nn.Module) -> Layers | None:
    """Return what a network's method `layers` says, if it has one.

    A child of that name is none, nor is a method that needs arguments.

    Raises:
        PluginError: It says something else than names of layers and their modules and parameters.
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
        f"model {type(model).__name__}: layers() must return names of layers and, for each, a list of modules and "
        f"parameters; in the place of one of these it has a {type(found).__name__}"
    )


def is_flat(parameter: Tensor) -> bool:
    """Whether FSDP has put a parameter into a vector of many, of which each process has a part."""
    return hasattr(parameter, "_fsdp_flattened") or hasattr(parameter, "_is_flat_param")


def is_sharded(parameter: Tensor) -> bool:
    """Whether a process has only a part of a parameter: one of FSDP's, or another distributed tensor."""
    return is_flat(parameter) or hasattr(parameter, "device_mesh")


def network_of(model: nn.Module) -> nn.Module:
    """Return the network that is inside of wrappers (compiled, parallel, averaged) and of what holds nothing else.

    Such a holder, as a Lightning module that has its network in one attribute, is looked through unless it is itself
    cut into blocks, or its only child is a single map. Vectors beside the network, as a loss or a metric may have them,
    do not count.
    """
    while _declaration(model) is None and (child := _only_child(model)) is not None:
        name, inside = child
        held = _declaration(inside) is not None or not (isinstance(inside, _LISTS) or _can_be_opened(inside))
        if name not in _WRAPPED and (isinstance(model, _LISTS) or not (held and any(_with_parameters(inside)))):
            break
        model = inside
    return model


def natural_blocks(model: nn.Module) -> Layers:
    """Cut a network into its blocks, in the order in which they are registered.

    From the network down, lists of modules (`nn.Sequential`, `nn.ModuleList`, `nn.ModuleDict`) are opened, and so is a
    module that holds a list of blocks of one class, such as an encoder; one that declares its layers has those. What is
    left then are blocks, residual ones, say, and single maps: convolutions, linear maps, embeddings. Each of them is a
    layer, named by its path.

    A normalisation, and a parameter of what was opened (positions, a class token), belongs to the single map right
    before it; at the beginning, or right after a block, it belongs to the layer that follows. A parameter that several
    share belongs to the first.

    Returns:
        Path, as in `named_modules()` -> parameters.
    """
    groups: dict[str, list[nn.Parameter]] = {}
    waiting: list[nn.Parameter] = []  # for the layer that follows
    taken: set[nn.Parameter] = set()
    single: str | None = None  # the layer right before, if that is a single map
    for path, member in _opened(model, ""):
        parameters = [*member.parameters()] if isinstance(member, nn.Module) else member
        own = [parameter for parameter in parameters if parameter not in taken]
        taken.update(own)
        if isinstance(member, _Beside) or (isinstance(member, nn.Module) and _is_norm(member)):
            (waiting if single is None else groups[single]).extend(own)
        else:
            groups[path] = [*waiting, *own]
            waiting = []
            single = path if isinstance(member, nn.Module) and not _parts(member) else None
    if waiting:
        groups.setdefault(next(reversed(groups), type(model).__name__), []).extend(waiting)
    return groups


class _Beside(list[nn.Parameter]):
    """What lies beside the members of a module that was opened."""


def _opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module | Sequence[nn.Parameter]]]:
    """Yield what lies in a module when all that can be opened is open: parameters of its own, blocks, single maps.

    A layer that one of its members declares is a list of parameters.
    """
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, _Beside([parameter])
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
    """Return name and module of the child that has all of a module's parameters but for vectors, if there is one."""
    children = [
        (name, child)
        for name, child in _with_parameters(module)
        if any(is_lazy(parameter) or parameter.dim() > 1 for parameter in child.parameters())
    ]
    alone = len(children) == 1 and all(parameter.dim() < 2 for parameter in module.parameters(recurse=False))
    return children[0] if alone else None


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return what is inside of wrappers."""
    while (child := _only_child(module)) is not None and child[0] in _WRAPPED:
        module = child[1]
    return module


def _can_be_opened(module: nn.Module) -> bool:
    return isinstance(module, _LISTS) or any(
        _is_stack(child) or (not isinstance(child, _LISTS) and _can_be_opened(child))
        for child in map(_unwrapped, module.children())
    )


def _is_stack(module: nn.Module) -> bool:
    """Whether a module is a list of blocks of one class, each with at least two weights that are no vectors.

    A convolution with its normalisation has one: the list of those in a residual block leaves the block whole.
    """
    if not isinstance(module, _LISTS):
        return False
    blocks = [_unwrapped(child) for _, child in _with_parameters(module)]
    return len({type(block) for block in blocks}) == 1 and all(
        not isinstance(block, _LISTS) and sum(weight.dim() > 1 for weight in block.parameters()) > 1 for block in blocks
    )


def _parts(module: nn.Module) -> list[nn.Module]:
    """Return the children, but for what makes a weight of others, as a normalisation of weights does."""
    return [child for name, child in module.named_children() if name != "parametrizations"]


def _is_norm(module: nn.Module) -> bool:
    if any(module.children()):
        return False
    # What scales and shifts by a vector is a normalisation, or as good as one.
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or all(weight.dim() < 2 for weight in module.parameters())
