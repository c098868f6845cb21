"""The natural blocks of a network that does not say what its layers are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn

__all__ = ["declared_layers", "natural_blocks", "network_of"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
# What wrappers call the module that they wrap: torch.compile; DataParallel, DistributedDataParallel and AveragedModel;
# activation checkpoints; FSDP.
_WRAPPED = ("_orig_mod", "module", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")

DeclaredLayers = Callable[[], Mapping[str, Sequence[nn.Module | nn.Parameter]]]


def declared_layers(model: nn.Module) -> DeclaredLayers | None:
    """Return a network's method `layers`, if it has one; a child of that name is none."""
    declared = getattr(model, "layers", None)
    return declared if callable(declared) and not isinstance(declared, nn.Module) else None


def network_of(model: nn.Module) -> nn.Module:
    """Return the network that is inside of wrappers (compiled, parallel, averaged) and of what holds nothing else.

    Such a holder, as a Lightning module that has its network in one attribute, is looked through unless it is itself
    cut into blocks, or its only child is a single map.
    """
    while declared_layers(model) is None and (child := _only_child(model)) is not None:
        name, inside = child
        held = declared_layers(inside) is not None or not (isinstance(inside, _LISTS) or _can_be_opened(inside))
        if name not in _WRAPPED and not (held and any(_with_parameters(inside))):
            break
        model = inside
    return model


def natural_blocks(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Cut a network into its blocks, in the order in which they are registered.

    From the network down, lists of modules (`nn.Sequential`, `nn.ModuleList`, `nn.ModuleDict`) are opened, and so is a
    module that holds a list of blocks of one class, such as an encoder. What is left then are blocks, residual ones,
    say, and single maps: convolutions, linear maps, embeddings. Each of them is a layer, named by its path.

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
        parameters = [member] if isinstance(member, nn.Parameter) else [*member.parameters()]
        own = [parameter for parameter in parameters if parameter not in taken]
        taken.update(own)
        if isinstance(member, nn.Parameter) or _is_norm(member):
            (waiting if single is None else groups[single]).extend(own)
        else:
            groups[path] = [*waiting, *own]
            waiting = []
            single = None if any(member.children()) else path
    if waiting:
        groups.setdefault(next(reversed(groups), type(model).__name__), []).extend(waiting)
    return groups


def _opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module | nn.Parameter]]:
    """Yield what lies in a module when all that can be opened is open: parameters of its own, blocks, single maps."""
    for name, parameter in module.named_parameters(recurse=False):
        yield prefix + name, parameter
    for name, member in module.named_children():
        child = _unwrapped(member)
        if _can_be_opened(child):
            yield from _opened(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield prefix + name, child


def _with_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the children that have parameters."""
    for name, child in module.named_children():
        if any(True for _ in child.parameters()):
            yield name, child


def _only_child(module: nn.Module) -> tuple[str, nn.Module] | None:
    """Return name and module of the child that has all of a module's parameters, if there is one."""
    children = [*_with_parameters(module)]
    alone = len(children) == 1 and not any(True for _ in module.parameters(recurse=False))
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


def _is_norm(module: nn.Module) -> bool:
    if any(module.children()):
        return False
    # What scales and shifts by a vector is a normalisation, or as good as one.
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or all(weight.dim() < 2 for weight in module.parameters())
