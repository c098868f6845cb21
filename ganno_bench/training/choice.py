"""Which backend trains a workload."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ganno_bench.core.errors import ConfigError, did_you_mean
from ganno_bench.training.backends import Backend, LoopBackend, VmapBackend
from ganno_bench.training.buffers import batch_dependent
from ganno_bench.training.compiled import CompiledBackend
from ganno_bench.training.layout import Layout

__all__ = ["BACKENDS", "make_backend", "repays_compiling", "resolve_backend", "runs_together", "update_flops"]

BACKENDS = ("compiled", "vmap", "loop")
_CHOOSING = ("auto", "eager")

# A call of compiled code takes a few dozen microseconds, and small matrix products are slow. Both matter less the more
# runs a call computes. But then their activations no longer fit the cache, and padding costs more.
_FLOPS_TOGETHER = 25e6
_MOST_TOGETHER = 16

# Compiling a workload takes 15 to 50 seconds. For a small network, the code saves as much time as products take. The
# larger the network, the more of its time goes to products, which compiled code leaves to the same libraries.
_SECONDS_TO_COMPILE = 30.0
_SECONDS_SAVED_PER_FLOP = 1e-11
_MOST_SECONDS_SAVED = 5e-4  # for one update of a run


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
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        copy.deepcopy(model).eval()(example)
    return 3.0 * counter.get_total_flops()  # the backward pass takes two products for each of the forward pass


def repays_compiling(model: nn.Module, example: Tensor, n_run_updates: int) -> bool:
    """Return whether compiled code saves more time than compiling takes, by a rule from `benchmarks/README.md`.

    Args:
        model: The network.
        example: Inputs of an update, shape (B, ...).
        n_run_updates: Number of updates ahead, summed over all runs.
    """
    saved = min(update_flops(model, example) * _SECONDS_SAVED_PER_FLOP, _MOST_SECONDS_SAVED)
    return n_run_updates * saved > _SECONDS_TO_COMPILE


def _convolves(model: nn.Module) -> bool:
    convolutions = {nn.Conv1d, nn.Conv2d, nn.Conv3d}  # exactly these classes: subclasses may compute differently
    return any(type(module) in convolutions for module in model.modules())


def _misaligned(model: nn.Module) -> list[str]:
    """Return the weights whose gradients would have different alignments in different runs; see `aligned`."""
    return [name for name, weight in model.named_parameters() if weight.dim() > 1 and weight.numel() % 4]
