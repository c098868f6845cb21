"""Search spaces as plain data in files: the allowed values of each hyperparameter."""

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
"""Relative rounding error of a logarithm and its inverse."""


class FloatRange(Config):
    """A range of numbers."""

    distribution: Literal["FloatDistribution"]
    low: float
    high: float
    log: bool = False
    step: float | None = None
    default: float

    @property
    def problem(self) -> str | None:
        """Why it is invalid, or None."""
        if self.step is not None and (self.log or self.step <= 0):
            what = "must not have a step, because it is logarithmic" if self.log else "must have a step above 0"
            return f"{what} (value: {self.step!r})"
        return _range_problem(self)

    def optuna(self) -> BaseDistribution:
        """Return the range as an Optuna distribution."""
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        slack = _ROUNDING * max(abs(self.low), abs(self.high))
        return self.low - slack <= value <= self.high + slack


class IntRange(Config):
    """A range of integers."""

    distribution: Literal["IntDistribution"]
    low: int
    high: int
    log: bool = False
    step: Annotated[int, Field(ge=1)] = 1
    default: int

    @property
    def problem(self) -> str | None:
        """Why it is invalid, or None."""
        if self.log and self.step != 1:
            return f"must have step 1, because it is logarithmic (value: {self.step!r})"
        return _range_problem(self)

    def optuna(self) -> BaseDistribution:
        """Return the range as an Optuna distribution."""
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0


class Choices(Config):
    """A list of values."""

    distribution: Literal["CategoricalDistribution"]
    choices: Annotated[tuple[Value, ...], Field(min_length=1, max_length=100)]
    default: Value

    @property
    def problem(self) -> str | None:
        """Why it is invalid, or None."""
        return None if self.contains(self.default) else _outside(self.default)

    def optuna(self) -> BaseDistribution:
        """Return the range as an Optuna distribution."""
        return CategoricalDistribution(self.choices)

    def contains(self, value: Any) -> bool:
        """Whether a value is one of the choices."""
        return any(type(value) is type(choice) and value == choice for choice in self.choices)


Range = Annotated[FloatRange | IntRange | Choices, Field(discriminator="distribution")]


def space_faults(space: Mapping[str, Range], optimizer: str) -> Iterator[tuple[str, str]]:
    """Yield (hyperparameter, fault) of a search space; base learning rate and weight decay have fixed ranges."""
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
            yield name, f"must be [{low:g}, {high:g}], logarithmic, default {default:g}, as for every entry"
    for name, there in space.items():
        if name not in fixed and there.problem is not None:
            yield name, there.problem


def config_faults(config: Mapping[str, Value], space: Mapping[str, Range]) -> Iterator[tuple[str, str]]:
    """Yield (hyperparameter, fault) of a configuration that should lie in a search space."""
    for name in sorted(config.keys() | space.keys()):
        if name not in config:
            yield name, "is missing"
        elif name not in space:
            yield name, "is not in the search space"
        elif not space[name].contains(config[name]):
            yield name, f"must be in the search space (value: {config[name]!r})"


def _range_problem(found: FloatRange | IntRange) -> str | None:
    if found.low > found.high or (found.log and found.low <= 0):
        wanted = "0 < low <= high, because it is logarithmic" if found.log else "low <= high"
        return f"must have {wanted} (low: {found.low!r}, high: {found.high!r})"
    return None if found.contains(found.default) else _outside(found.default)


def _outside(default: Value) -> str:
    return f"must contain its default (default: {default!r})"
