"""Engines for a known number of updates: compiles what repays it, before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any

from ganno_bench.training.buffers import batch_dependent
from ganno_bench.training.choice import updates_to_repay
from ganno_bench.training.compiled import CompiledBackend
from ganno_bench.training.packages import CompilationError, compiler, has_packages
from ganno_bench.training.population import Engine
from ganno_bench.training.tally import add_updates, past_updates
from ganno_bench.workloads.workload import Workload

__all__ = ["prepared_engine", "rule"]


def prepared_engine(
    workload: Workload,
    *,
    backend: str,
    batch_sizes: Collection[int],
    needs: Collection[frozenset[str]],
    has_open_optimizers: bool,
    n_run_updates: int,
    on_compiling: Callable[[str], None] = lambda workload: None,
    **settings: Any,
) -> Engine:
    """Return an engine whose code is compiled, if its backend is `compiled`.

    `auto` takes `compiled` on a CPU with a C++ compiler, if the code is in the user's cache, or if the updates ahead
    and those of past runs repay compiling it. Otherwise, and if it cannot be compiled, it takes `vmap` or `loop`.

    Args:
        workload: The workload.
        backend: `auto`, `compiled`, `eager`, `vmap` or `loop`.
        batch_sizes: Batch sizes of all updates ahead.
        needs: The signals that schedulers need; one set for each scheduler that has the workload's optimizer.
        has_open_optimizers: Whether other schedulers replace the optimizer.
        n_run_updates: Number of updates ahead, summed over all runs.
        on_compiling: Called with the workload's id before something is compiled.
        settings: Other arguments of `Engine`.

    Raises:
        CompilationError: The backend is `compiled`, and this machine cannot compile or load it.
        ConfigError: See `Engine`.
    """
    engine = Engine(workload, backend=backend, **settings)
    if backend == "auto":
        eager = engine
        if not _can_compile(eager):
            return eager
        repays = n_run_updates + past_updates(workload) >= _updates_to_repay(eager)
        if not (repays or has_packages()):
            add_updates(workload, n_run_updates)
            return eager
        engine = Engine(workload, backend="compiled", **settings)
    if (code := engine.backend).name != "compiled":
        return engine
    assert isinstance(code, CompiledBackend)
    try:
        code.compiling = False
        _warm_up(engine, batch_sizes, needs, has_open_optimizers)
    except CompilationError:
        if backend == "auto" and not repays:
            add_updates(workload, n_run_updates)
            return eager
        on_compiling(workload.id)
        code.compiling = True
        try:
            _warm_up(engine, batch_sizes, needs, has_open_optimizers)
        except CompilationError as error:
            if backend == "compiled":
                raise CompilationError(f"backend 'compiled': workload {workload.id!r}: {error}") from error
            warnings.warn(f"workload {workload.id!r}: {error}; using backend {eager.backend.name!r}", stacklevel=2)
            return eager
    code.compiling = True
    return engine


def rule(workload: Workload) -> str:
    """Return in words which backend `auto` takes for a workload on this machine."""
    eager = Engine(workload, backend="eager")
    if not _can_compile(eager):
        return eager.backend.name
    needed, name = _updates_to_repay(eager), eager.backend.name
    return f"compiled from {needed:,} updates on, summed over past and new runs; {name} before"


def _updates_to_repay(eager: Engine) -> int:
    return updates_to_repay(eager.backend.model, eager.example(), eager.backend.name)


def _can_compile(eager: Engine) -> bool:
    return eager.device.type == "cpu" and compiler() is not None and not batch_dependent(eager.backend.model)


def _warm_up(
    engine: Engine, batch_sizes: Collection[int], needs: Collection[frozenset[str]], has_open_optimizers: bool
) -> None:
    for size in sorted({*batch_sizes}):
        spec = engine.workload.spec.model_copy(update={"batch_size": size})
        engine.with_spec(spec).warm_up(needs, has_open_optimizers)
