"""The scheduler warmup-power: a linear warmup, then a decay. Replace it by yours.

A scheduler is a frozen dataclass. Its fields are its hyperparameters. Its search space names those that Optuna tunes;
base learning rate and weight decay are tuned for every scheduler. An instance keeps no state: many runs share it.

This schedule depends on the update alone, so it derives from `ClosedForm` and defines `factor`. A scheduler that reacts
to losses or gradients derives from `Scheduler`: see `init`, `step` and `needs` in `ganno_bench/schedulers/base.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ganno_bench.schedulers import ClosedForm
from optuna.distributions import BaseDistribution, FloatDistribution

__all__ = ["WarmupPower"]


@dataclass(frozen=True)
class WarmupPower(ClosedForm):
    """A linear warmup, then a decay to 0 along a power of the remaining share of the run."""

    warmup: float = 0.1
    """Share of the run in which the learning rate rises. As a share it fits any horizon."""

    power: float = 1.0
    """1 gives a linear decay. A higher power decays earlier, a lower one later."""

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Return the distributions that Optuna tunes, by name; each default must lie within its distribution."""
        return {
            "warmup": FloatDistribution(0.01, 0.5, log=True),
            "power": FloatDistribution(0.3, 3.0, log=True),
        }

    def factor(self, update: int, total: int) -> float:
        """Return the number that multiplies the base learning rate at an update, which counts from 0 to `total - 1`."""
        rising = max(1.0, self.warmup * total)
        if update + 1 < rising:
            return (update + 1) / rising
        left = (total - update) / (total - rising + 1.0)
        return float(min(1.0, left) ** self.power)
