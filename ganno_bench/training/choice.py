"""Which backend trains a workload."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ganno_bench.core.errors import ConfigError, did_you_mean
from ganno_bench.training.backends import Backend, LoopBackend, VmapBackend
from ganno_bench.training.buffers import batch_dependent
from ganno_bench.training.compiled import CompiledBackend
from ganno_bench.training.layout import Layout

__all__ = ["BACKENDS", "make_backend", "resolve_backend", "runs_together", "update_flops", "updates_to_repay"]

BACKENDS = ("compiled", "vmap", "loop")
_CHOOSING = ("auto", "eager")

# A call of compiled code takes a few dozen microseconds, and small matrix products are slow. Both matter less the more
# runs a call computes. But then their activations no longer fit the cache, and padding costs more.
_FLOPS_TOGETHER = 25e6
_MOST_TOGETHER = 16

# Seconds to compile a workload's code: these, and these for each operation of a forward pass.
_COMPILING = 10.0
_COMPILING_OPERATION = 0.4
_MOST_COMPILING = 40.0

# Seconds that compiled code saves in an update of a run, see `benchmarks/README.md`: for each operation of a forward
# pass, which eager backends dispatch one by one (`vmap` for many runs at once), and for `vmap` also as much time as
# small products take. Large products take as long in compiled code.
_SAVED_OPERATION = {"loop": 3e-5, "vmap": 7e-7}
_SAVED_FLOP = 8e-12
_MOST_SAVED_BY_FLOPS = 3e-4


def make_backend(name: str, model: nn.Module, layout: Layout, example: Tensor) -> Backend:
    """Return a backend by its name.

    Args:
        name: `compiled`, `vmap` or `loop`.
        model: A network of the architecture, on the device and in the dtype of the runs.
        layout: Maps a row of a matrix to its parameters.
        example: Inputs of an update, shape (B, ...).

    Raises:
        ConfigError: There is no such backend, or it does not support the network.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}{did_you_mean(name, [*BACKENDS, *_CHOOSING])}")
    if name == "vmap" and (odd := _misaligned(model)):
        raise ConfigError(
            f"backend 'vmap' needs weight matrices with a multiple of 4 elements, but {odd[0]!r} has another number; "
            "use 'loop' or 'auto'"
        )
    if name != "loop" and (dependent := batch_dependent(model)):
        raise ConfigError(
            f"backend {name!r} does not support networks that keep running statistics or mix examples, as "
            f"{dependent[0]!r} of {type(model).__name__} does; use 'loop' or 'auto'"
        )
    if name == "compiled":
        return CompiledBackend(model, layout, runs_together(model, example))
    return VmapBackend(model, layout) if name == "vmap" else LoopBackend(model, layout)


def resolve_backend(name: str, model: nn.Module, device: torch.device) -> str:
    """Return the backend that `eager` chooses, and `auto` if nothing is compiled; any other name as it is.

    That is `loop` in three cases, otherwise `vmap` (measurements in `benchmarks/README.md`):

    - convolutions of a library on a CPU, where a grouped convolution is slower than separate ones;
    - odd sizes, with which a vectorised run would depend on its place among the others;
    - BatchNorm or other buffers that training changes.
    """
    if name not in _CHOOSING:
        return name
    alone = (device.type == "cpu" and _convolves(model)) or _misaligned(model) or batch_dependent(model)
    return "loop" if alone else "vmap"


def runs_together(model: nn.Module, example: Tensor) -> int:
    """Return how many runs one call of compiled code computes.

    One, where a run among others would be slower or depend on its place: networks with a library's convolutions or odd
    sizes. Otherwise a power of two, which is larger for smaller networks.
    """
    if _convolves(model) or _misaligned(model):
        return 1
    together = 2
    while together < _MOST_TOGETHER and together * update_flops(model, example) < _FLOPS_TOGETHER:
        together *= 2
    return together


def update_flops(model: nn.Module, example: Tensor) -> float:
    """Return the floating-point operations of the matrix products and convolutions of one update of a run.

    Args:
        model: The network.
        example: Inputs of an update, shape (B, ...).
    """
    return _size(model, example)[0]


def updates_to_repay(model: nn.Module, example: Tensor, eager: str) -> int:
    """Return with how many updates, summed over all runs, compiled code saves the time that compiling takes.

    Args:
        model: The network.
        example: Inputs of an update, shape (B, ...).
        eager: The backend that would be used otherwise, `vmap` or `loop`.
    """
    flops, n_operations = _size(model, example)
    compiling = min(_COMPILING + _COMPILING_OPERATION * n_operations, _MOST_COMPILING)
    saved = _SAVED_OPERATION[eager] * n_operations
    if eager == "vmap":
        saved += min(_SAVED_FLOP * flops, _MOST_SAVED_BY_FLOPS)
    return math.ceil(compiling / saved)


class _Operations(TorchDispatchMode):
    """Counts operations, except those that return a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.n += not func.is_view
        return func(*args, **(kwargs or {}))


def _size(model: nn.Module, example: Tensor) -> tuple[float, int]:
    """Return the floating-point operations of an update's products, and the number of operations of a forward pass."""
    network, flops, operations = copy.deepcopy(model).eval(), FlopCounterMode(display=False), _Operations()
    with flops, operations, torch.no_grad():
        network(example)
    return (
        3.0 * flops.get_total_flops(),
        operations.n,
    )  # a backward pass takes two products for each of the forward pass


def _convolves(model: nn.Module) -> bool:
    convolutions = {nn.Conv1d, nn.Conv2d, nn.Conv3d}  # exactly these classes: subclasses may compute differently
    return any(type(module) in convolutions for module in model.modules())


def _misaligned(model: nn.Module) -> list[str]:
    """Return the weights whose gradients would have different alignments in different runs; see `aligned`."""
    return [name for name, weight in model.named_parameters() if weight.dim() > 1 and weight.numel() % 4]
