"""The natural blocks of a network that does not say what its layers are."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

__all__ = ["natural_blocks"]

_LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


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
    for name, child in module.named_children():
        if _can_be_opened(child):
            yield from _opened(child, f"{prefix}{name}.")
        elif any(True for _ in child.parameters()):
            yield prefix + name, child


def _can_be_opened(module: nn.Module) -> bool:
    return isinstance(module, _LISTS) or any(
        _is_stack(child) or (not isinstance(child, _LISTS) and _can_be_opened(child)) for child in module.children()
    )


def _is_stack(module: nn.Module) -> bool:
    """Whether a module is a list of blocks of one class, each with at least two weights that are no vectors.

    A convolution with its normalisation has one: the list of those in a residual block leaves the block whole.
    """
    if not isinstance(module, _LISTS):
        return False
    blocks = [child for child in module.children() if any(True for _ in child.parameters())]
    return len({type(block) for block in blocks}) == 1 and all(
        not isinstance(block, _LISTS) and sum(weight.dim() > 1 for weight in block.parameters()) > 1 for block in blocks
    )


def _is_norm(module: nn.Module) -> bool:
    if any(module.children()):
        return False
    # What scales and shifts by a vector is a normalisation, or as good as one.
    return isinstance(module, (nn.LayerNorm, nn.RMSNorm)) or all(weight.dim() < 2 for weight in module.parameters())
