"""Schedulers: who decides the learning rates. What a plugin needs can be imported from here."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganno_bench.schedulers.base import ClosedForm, Scheduler, State
    from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["ClosedForm", "Controls", "RunInfo", "Scheduler", "Signals", "State"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that listing names or printing help does not load torch."""
    if name in __all__:
        # `base` imports the signals' classes, too.
        return getattr(import_module("ganno_bench.schedulers.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
