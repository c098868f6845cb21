"""The updates that this machine made without compiled code: those of past runs count when code may repay compiling.

Otherwise many short runs of a workload would never be compiled. With this rule, they lose at most as much time as one
compilation takes.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ganno_bench.core.user_cache import user_cache
from ganno_bench.workloads.workload import Workload

__all__ = ["add_updates", "past_updates"]


def past_updates(workload: Workload) -> int:
    """Return the updates of past runs, summed over all runs, of workloads that compiled code does not distinguish."""
    file = _file(workload)
    if file is None:
        return 0
    try:
        lines = file.read_text(encoding="ascii", errors="replace").split()
    except OSError:  # there are none yet
        return 0
    return sum(int(line) for line in lines if line.isdecimal())


def add_updates(workload: Workload, n_run_updates: int) -> None:
    """Remember updates, if there is a cache."""
    if (file := _file(workload)) is not None:
        with suppress(OSError), file.open("a", encoding="ascii") as lines:  # one write, so processes do not mix
            lines.write(f"{n_run_updates}\n")


def _file(workload: Workload) -> Path | None:
    folder = user_cache("updates")
    spec, shape = workload.spec, workload.dataset.shape
    parts = [spec.model, spec.optimizer, spec.batch_size, spec.augmentation, shape]
    return folder and folder / hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
