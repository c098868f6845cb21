"""Closed-form schedules that decay from the first update to the last, without phases.

In the formulas z = update / total is the progress: 0 at the first update and just below 1 at the last. Lengths are
shares of the horizon, so that a configuration fits any horizon.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from ganno_bench.schedulers.base import ClosedForm
from ganno_bench.schedulers.values import require

__all__ = ["Constant", "Cosine", "Exponential", "Linear", "Polynomial", "Rex", "Step"]


@dataclass(frozen=True)
class Constant(ClosedForm):
    """The base learning rate throughout: `factor = 1`."""

    revision: ClassVar[int | None] = 1

    def factor(self, update: int, total: int) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Step(ClosedForm):
    """Drops at equal distances: `factor = gamma ** floor(z * (n_drops + 1))`.

    Equals torch's `StepLR(step_size=total / (n_drops + 1))` if that is a whole number. He et al. 2016, "Deep Residual
    Learning", divide by 10 two or three times.

    Attributes:
        n_drops: Number of drops, at least 0.
        gamma: Factor of each drop, at least 0.
    """

    revision: ClassVar[int | None] = 1

    n_drops: int = 2
    gamma: float = 0.1

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "n_drops", self.n_drops >= 0, "at least 0")
        require(self, "gamma", self.gamma >= 0, "at least 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune both fields."""
        return {"n_drops": IntDistribution(1, 6), "gamma": FloatDistribution(0.05, 0.8, log=True)}

    def factor(self, update: int, total: int) -> float:
        """Return gamma to the power of the number of drops so far."""
        return self.gamma ** (update * (self.n_drops + 1) // total)


@dataclass(frozen=True)
class Cosine(ClosedForm):
    """Half a cosine: `factor = final_factor + (1 - final_factor) * (1 + cos(pi * z)) / 2`.

    Loshchilov & Hutter 2017, "SGDR", without restarts; torch's `CosineAnnealingLR(T_max=total)`.

    Attributes:
        final_factor: Factor at the end of the horizon, at least 0.
    """

    revision: ClassVar[int | None] = 1

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "final_factor", self.final_factor >= 0, "at least 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor; publications use 0 to 0.1."""
        return {"final_factor": FloatDistribution(0.0, 0.2)}

    def factor(self, update: int, total: int) -> float:
        """Return the cosine's value."""
        # (1 + cos) / 2 loses precision near the end, in the same way as torch's formula.
        return self.final_factor + (1.0 - self.final_factor) * (1.0 + math.cos(math.pi * update / total)) / 2.0


@dataclass(frozen=True)
class Linear(ClosedForm):
    """A straight line: `factor = 1 + (final_factor - 1) * z`.

    Defazio et al. 2023, "When, Why and How Much?"; torch's `LinearLR(1, final_factor, total_iters=total)`.

    Attributes:
        final_factor: Factor at the end of the horizon, at least 0.
    """

    revision: ClassVar[int | None] = 1

    final_factor: float = 0.0

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "final_factor", self.final_factor >= 0, "at least 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor."""
        return {"final_factor": FloatDistribution(0.0, 0.2)}

    def factor(self, update: int, total: int) -> float:
        """Return the line's value."""
        return 1.0 + (self.final_factor - 1.0) * update / total


@dataclass(frozen=True)
class Polynomial(ClosedForm):
    """A power of the remaining share of the horizon: `factor = (1 - z) ** power`.

    Chen et al. 2018, "DeepLab" (power 0.9); You et al. 2017, "LARS" (power 2); torch's
    `PolynomialLR(total_iters=total, power=power)`.

    Attributes:
        power: The exponent, at least 0. 1 gives a straight line to 0.
    """

    revision: ClassVar[int | None] = 1

    power: float = 2.0

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "power", self.power >= 0, "at least 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the exponent."""
        return {"power": FloatDistribution(0.5, 4.0, log=True)}

    def factor(self, update: int, total: int) -> float:
        """Return the polynomial's value."""
        return float((1.0 - update / total) ** self.power)


@dataclass(frozen=True)
class Exponential(ClosedForm):
    """The same ratio at every update: `factor = final_factor ** z`.

    Equals torch's `ExponentialLR(gamma=final_factor ** (1 / total))`.

    Attributes:
        final_factor: Factor at the end of the horizon, above 0.
    """

    revision: ClassVar[int | None] = 1

    final_factor: float = 0.01

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "final_factor", self.final_factor > 0, "above 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor."""
        return {"final_factor": FloatDistribution(1e-4, 0.5, log=True)}

    def factor(self, update: int, total: int) -> float:
        """Return the exponential's value."""
        return float(self.final_factor ** (update / total))


@dataclass(frozen=True)
class Rex(ClosedForm):
    """Reflected exponential: `factor = (1 - z) / (1 - beta + beta * (1 - z))`.

    Chen, Wolfe & Kyrillidis 2022, "REX: Revisiting Budgeted Training with an Improved Schedule", where beta is 1/2.

    Attributes:
        beta: How long the learning rate stays high, in [0, 1). 0 gives a straight line to 0; near 1, the schedule is
            nearly constant.
    """

    revision: ClassVar[int | None] = 1

    beta: float = 0.5

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "beta", 0 <= self.beta < 1, "in [0, 1)")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the curvature between a straight line and a late, steep fall."""
        return {"beta": FloatDistribution(0.0, 0.9)}

    def factor(self, update: int, total: int) -> float:
        """Return the reflected exponential's value."""
        left = 1.0 - update / total
        return left / (1.0 - self.beta + self.beta * left)
