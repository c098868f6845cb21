"""Closed-form schedules in phases: warmup, plateau, cooldown, cycles. Lengths are shares of the horizon."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from ganno_bench.schedulers.base import ClosedForm
from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.values import require

__all__ = ["CosineRestarts", "OneCycle", "WarmupCosine", "WarmupStableDecay"]


@dataclass(frozen=True)
class WarmupCosine(Cosine):
    """A linear warmup, then a cosine over the rest: with n = round(warmup * total), `factor = (update + 1) / (n + 1)`.

    The first update has a factor above 0. The factor is 1 at the first update after the warmup. Goyal et al. 2017,
    "Accurate, Large Minibatch SGD"; torch's `SequentialLR` of `LinearLR(1 / (n + 1), total_iters=n)` and
    `CosineAnnealingLR(T_max=total - n)`.

    Attributes:
        final_factor: Factor at the end of the horizon, at least 0.
        warmup: Length of the warmup, as a share of the horizon.
    """

    revision: ClassVar[int | None] = 1

    warmup: float = 0.05

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        super().__post_init__()
        require(self, "warmup", 0 <= self.warmup <= 1, "in [0, 1]")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor and the warmup."""
        return {**super().search_space(), "warmup": FloatDistribution(0.0, 0.2)}

    def factor(self, update: int, total: int) -> float:
        """Return the value of the warmup, then of the cosine."""
        n = round(self.warmup * total)
        return (update + 1) / (n + 1) if update < n else super().factor(update - n, max(1, total - n))


@dataclass(frozen=True)
class WarmupStableDecay(ClosedForm):
    """A linear warmup, a plateau at the base learning rate, and a cooldown to 0 at the end of the horizon.

    x in [0, 1) is the share of the cooldown that is done. The factor of the cooldown is `1 - x` or `1 - sqrt(x)`. Where
    warmup and cooldown overlap, their factors are multiplied. Hägele et al. 2024, "Scaling Laws and Compute-Optimal
    Training Beyond Fixed Training Durations".

    Attributes:
        warmup: Length of the warmup, as a share of the horizon.
        cooldown: Length of the cooldown, as a share of the horizon.
        shape: Shape of the cooldown, `linear` or `1-sqrt`.
    """

    revision: ClassVar[int | None] = 1

    warmup: float = 0.05
    cooldown: float = 0.2
    shape: str = "1-sqrt"

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "warmup", 0 <= self.warmup <= 1, "in [0, 1]")
        require(self, "cooldown", 0 <= self.cooldown <= 1, "in [0, 1]")
        require(self, "shape", self.shape in ("linear", "1-sqrt"), "'linear' or '1-sqrt'")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune all three fields."""
        return {
            "warmup": FloatDistribution(0.0, 0.2),
            "cooldown": FloatDistribution(0.05, 0.5),
            "shape": CategoricalDistribution(["linear", "1-sqrt"]),
        }

    def factor(self, update: int, total: int) -> float:
        """Return the factor of the warmup times the factor of the cooldown."""
        n_warmup, n_cooldown = round(self.warmup * total), round(self.cooldown * total)
        rise = min(1.0, (update + 1) / (n_warmup + 1))
        x = max(0, update - (total - n_cooldown)) / max(1, n_cooldown)
        return rise * (1.0 - (x if self.shape == "linear" else math.sqrt(x)))


@dataclass(frozen=True)
class CosineRestarts(Cosine):
    """Cosines one after another, of which the last one ends with the horizon.

    Cycle i is `multiplier ** i` times as long as the first. Loshchilov & Hutter 2017, "SGDR". Equals torch's
    `CosineAnnealingWarmRestarts(T_0, T_mult=multiplier)` if T_0, the length of the first cycle, is a whole number.

    Attributes:
        final_factor: Factor at the end of each cycle, at least 0.
        n_cycles: Number of cycles, at least 1. 1 gives a cosine without restarts.
        multiplier: Length of a cycle divided by the length of the previous one, at least 1.
    """

    revision: ClassVar[int | None] = 1

    n_cycles: int = 3
    multiplier: int = 2

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        super().__post_init__()
        require(self, "n_cycles", self.n_cycles >= 1, "at least 1")
        require(self, "multiplier", self.multiplier >= 1, "at least 1")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the number and the lengths of the cycles."""
        return {"n_cycles": IntDistribution(2, 5), "multiplier": IntDistribution(1, 3)}

    def factor(self, update: int, total: int) -> float:
        """Return the value of the cosine of the current cycle."""
        # Whole numbers, in units of 1/n_parts updates: so rounding never misses a restart.
        n_parts = sum(self.multiplier**i for i in range(self.n_cycles))
        position, length = update * n_parts, total
        while position >= length:
            position, length = position - length, length * self.multiplier
        return super().factor(position, length)


@dataclass(frozen=True)
class OneCycle(ClosedForm):
    """A cosine from `start_factor` up to 1, then one down to `final_factor`, which the last update reaches.

    Smith & Topin 2018, "Super-Convergence", without the cycle of the momentum. Equals torch's
    `OneCycleLR(max_lr=base_lr, pct_start=peak, div_factor=1 / start_factor,
    final_div_factor=start_factor / final_factor, cycle_momentum=False)`.

    Attributes:
        peak: Where the factor reaches 1, as a share of the horizon.
        start_factor: Factor at the first update, at least 0.
        final_factor: Factor at the last update, at least 0.
    """

    revision: ClassVar[int | None] = 1

    peak: float = 0.3
    start_factor: float = 0.04
    final_factor: float = 4e-6

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "peak", 0 <= self.peak <= 1, "in [0, 1]")
        require(self, "start_factor", self.start_factor >= 0, "at least 0")
        require(self, "final_factor", self.final_factor >= 0, "at least 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the position of the peak and the first factor."""
        return {"peak": FloatDistribution(0.1, 0.5), "start_factor": FloatDistribution(0.01, 0.5, log=True)}

    def factor(self, update: int, total: int) -> float:
        """Return the value of the rising or the falling cosine."""
        top = self.peak * total - 1.0  # the update at the peak, possibly a fraction or negative
        if update <= top:
            begin, end, share = self.start_factor, 1.0, update / top if top > 0.0 else 1.0
        else:
            begin, end, share = 1.0, self.final_factor, (update - top) / (total - 1.0 - top)
        return end + (begin - end) / 2.0 * (1.0 + math.cos(math.pi * share))
