"""Packages that replay what was recorded, in place of compiling it: the same operations, at no cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ganno_bench.training.compiled import CompiledBackend
from ganno_bench.training.packages import Package, recorded
from ganno_bench.training.population import Engine

__all__ = ["replayed", "with_replays"]


def replayed(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], *, compiling: bool = True) -> Package:
    graph, constants = recorded(function, inputs)
    return Package(lambda tensors: [*graph(*tensors)], constants, compiled=False)


def with_replays(engine: Engine) -> Engine:
    """Let an engine replay its updates if its backend compiles them."""
    if isinstance(engine.backend, CompiledBackend):
        engine.backend.make = replayed
    return engine
