"""Search spaces: base learning rate, weight decay, and the hyperparameters of a scheduler."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, FloatDistribution

from ganno_bench.schedulers.drive import Contestant
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.training.optimizers import OPTIMIZERS

__all__ = ["Config", "contestant", "default_config", "search_space"]

Config = dict[str, float | int | str | bool]
"""Values of `base_lr`, `weight_decay` and the hyperparameters of a scheduler."""


def search_space(entry: SchedulerEntry, optimizer: str) -> dict[str, BaseDistribution]:
    """Return the distributions of base learning rate, weight decay, and the tuned hyperparameters of a scheduler."""
    defaults = OPTIMIZERS[optimizer]
    return {
        "base_lr": FloatDistribution(*defaults.base_lr_range, log=True),
        "weight_decay": FloatDistribution(*defaults.weight_decay_range, log=True),
        **entry.search_space,
    }


def default_config(entry: SchedulerEntry, optimizer: str) -> Config:
    """Return the configuration of the first trial."""
    defaults = OPTIMIZERS[optimizer]
    return {"base_lr": entry.base_lr(optimizer), "weight_decay": defaults.weight_decay, **entry.defaults()}


def contestant(entry: SchedulerEntry, config: Config) -> Contestant:
    """Return the contestant that a population trains for a configuration."""
    own = {name: value for name, value in config.items() if name not in ("base_lr", "weight_decay")}
    return Contestant(entry.build(own), float(config["base_lr"]), float(config["weight_decay"]), entry.name)
