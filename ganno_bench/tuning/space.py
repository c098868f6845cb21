"""Search spaces: what belongs to every scheduler, and what it adds."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, FloatDistribution

from ganno_bench.schedulers.drive import Contestant
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.training.optimizers import OPTIMIZERS

__all__ = ["Config", "contestant", "default_config", "search_space"]

Config = dict[str, float | int | str | bool]
"""`base_lr`, `weight_decay` and a scheduler's hyperparameters."""


def search_space(entry: SchedulerEntry, optimizer: str) -> dict[str, BaseDistribution]:
    """Return what is tuned: base learning rate, weight decay, and the scheduler's own space."""
    defaults = OPTIMIZERS[optimizer]
    return {
        "base_lr": FloatDistribution(*defaults.base_lr_range, log=True),
        "weight_decay": FloatDistribution(*defaults.weight_decay_range, log=True),
        **entry.search_space,
    }


def default_config(entry: SchedulerEntry, optimizer: str) -> Config:
    """Return the configuration that is tried first."""
    defaults = OPTIMIZERS[optimizer]
    return {"base_lr": entry.base_lr(optimizer), "weight_decay": defaults.weight_decay, **entry.defaults()}


def contestant(entry: SchedulerEntry, config: Config) -> Contestant:
    """Return what a population trains for a configuration."""
    own = {name: value for name, value in config.items() if name not in ("base_lr", "weight_decay")}
    return Contestant(entry.build(own), float(config["base_lr"]), float(config["weight_decay"]), entry.name)
