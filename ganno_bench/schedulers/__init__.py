"""Schedulers, which decide the learning rates. Plugins import what they need from here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganno_bench.schedulers.base import ClosedForm, Scheduler, State
    from ganno_bench.schedulers.optimizer_entry import OptimizerEntry, Released
    from ganno_bench.training.open_optimizer import OpenOptimizer
    from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = [
    "ClosedForm",
    "Controls",
    "OpenOptimizer",
    "OptimizerEntry",
    "Released",
    "RunInfo",
    "Scheduler",
    "Signals",
    "State",
]


def __getattr__(name: str) -> Any:
    """Import on first use, so that listing names or printing help does not load torch."""
    if name in __all__:
        # These two modules import the remaining classes.
        module = "optimizer_entry" if name in ("OpenOptimizer", "OptimizerEntry", "Released") else "base"
        return getattr(import_module(f"ganno_bench.schedulers.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
