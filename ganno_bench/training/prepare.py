"""Engines for a known number of updates: compiles what repays it, before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from typing import Any

from ganno_bench.training.buffers import batch_dependent
from ganno_bench.training.choice import repays_compiling
from ganno_bench.training.compiled import CompiledBackend
from ganno_bench.training.packages import CompilationError, compiler, has_packages
from ganno_bench.training.population import Engine
from ganno_bench.workloads.workload import Workload

__all__ = ["prepared_engine"]


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

    `auto` takes `compiled` on a CPU with a C++ compiler, if the code is in the user's cache or the updates ahead repay
    compiling it. Otherwise, and if it cannot be compiled, it takes `vmap` or `loop`.

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
        if eager.device.type != "cpu" or compiler() is None or batch_dependent(eager.backend.model):
            return eager
        repays = repays_compiling(eager.backend.model, eager.example(), n_run_updates)
        if not (repays or has_packages()):
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


def _warm_up(
    engine: Engine, batch_sizes: Collection[int], needs: Collection[frozenset[str]], has_open_optimizers: bool
) -> None:
    for size in sorted({*batch_sizes}):
        spec = engine.workload.spec.model_copy(update={"batch_size": size})
        engine.with_spec(spec).warm_up(needs, has_open_optimizers)
