"""Search spaces as they are written down: plain data that says what a value of a hyperparameter may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from pydantic import Field

from ganno_bench.core.config import Config
from ganno_bench.training.optimizers import OPTIMIZERS

__all__ = ["Choices", "FloatRange", "IntRange", "Range", "Value", "config_faults", "space_faults"]

Value = float | int | str | bool
_ROUNDING = 1e-9
"""Relative; what a logarithm and its inverse may leave of a bound."""


class FloatRange(Config):
    """Numbers of an interval."""

    distribution: Literal["FloatDistribution"]
    low: float
    high: float
    log: bool = False
    step: float | None = None
    default: float

    @property
    def problem(self) -> str | None:
        """Why it is no interval, or None."""
        if self.step is not None and (self.log or self.step <= 0):
            return f"cannot have such a step (value: {self.step!r})"
        return _interval_problem(self.low, self.high, self.log, self.contains(self.default))

    def optuna(self) -> BaseDistribution:
        """Return it as Optuna's distribution."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        slack = _ROUNDING * max(abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack


class IntRange(Config):
    """Whole numbers of an interval."""

    distribution: Literal["IntDistribution"]
    low: int
    high: int
    log: bool = False
    step: Annotated[int, Field(ge=1)] = 1
    default: int

    @property
    def problem(self) -> str | None:
        """Why it is no interval, or None."""
        if self.log and self.step != 1:
            return f"cannot have such a step (value: {self.step!r})"
        return _interval_problem(self.low, self.high, self.log, self.contains(self.default))

    def optuna(self) -> BaseDistribution:
        """Return it as Optuna's distribution."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0


class Choices(Config):
    """A few values."""

    distribution: Literal["CategoricalDistribution"]
    choices: Annotated[tuple[Value, ...], Field(min_length=1, max_length=100)]
    default: Value

    @property
    def problem(self) -> str | None:
        """Why it is no choice, or None."""
        return None if self.contains(self.default) else "its default is outside of it"

    def optuna(self) -> BaseDistribution:
        """Return it as Optuna's distribution."""
        return CategoricalDistribution(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return any(type(value) is type(choice) and value == choice for choice in self.choices)


Range = Annotated[FloatRange | IntRange | Choices, Field(discriminator="distribution")]


def space_faults(space: Mapping[str, Range], optimizer: str) -> Iterator[tuple[str, str]]:
    """Yield (hyperparameter, what is wrong) of a search space; base learning rate and weight decay are as for all."""
    defaults = OPTIMIZERS[optimizer]
    fixed = {
        "base_lr": (*defaults.base_lr_range, defaults.base_lr),
        "weight_decay": (*defaults.weight_decay_range, defaults.weight_decay),
    }
    for name, (low, high, default) in fixed.items():
        there = space.get(name)
        wanted = FloatRange(distribution="FloatDistribution", low=low, high=high, log=True, default=default)
        if there is None:
            yield name, "is missing"
        elif there != wanted:
            yield name, f"is not [{low:g}, {high:g}], logarithmic, default {default:g}, as for every entry"
    for name, there in space.items():
        if name not in fixed and there.problem is not None:
            yield name, there.problem


def config_faults(config: Mapping[str, Value], space: Mapping[str, Range]) -> Iterator[tuple[str, str]]:
    """Yield (hyperparameter, what is wrong) of a configuration, in and outside of a search space."""
    for name in sorted(config.keys() | space.keys()):
        if name not in config:
            yield name, "is missing"
        elif name not in space:
            yield name, "is not in the search space"
        elif not space[name].contains(config[name]):
            yield name, f"is outside of the search space (value: {config[name]!r})"


def _interval_problem(low: float, high: float, log: bool, holds_default: bool) -> str | None:
    if low > high or (log and low <= 0):
        return f"is no {'logarithmic ' if log else ''}interval (low: {low!r}, high: {high!r})"
    return None if holds_default else "its default is outside of it"
