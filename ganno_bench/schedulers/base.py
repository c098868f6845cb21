"""The base classes of schedulers: `Scheduler`, and `ClosedForm` for schedules that depend on the update alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from ganno_bench.training.signals import Controls, RunInfo, Signals

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["ClosedForm", "Scheduler", "State"]

State: TypeAlias = Any
"""Tensors, numbers, strings, and dicts, lists and tuples of them: what `torch.load(weights_only=True)` can read."""


@dataclass(frozen=True)
class Scheduler(ABC):
    """Decides the learning rate of each layer, for P runs that share one configuration.

    A subclass is a frozen dataclass. Each field is a hyperparameter and has a default. Give lengths as shares of the
    horizon, so that a configuration fits other horizons.

    An instance keeps no state. `init` returns the state of the runs; `step` takes it and returns the next one. The
    decisions for a run must not depend on the other runs.

    Base learning rate and weight decay belong to every scheduler, so they are not fields. The harness tunes them,
    within bounds that are fixed for each optimizer, and passes them in `RunInfo`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Optional fields of `Signals` that `step` reads; the others are None. Add `sampled` to accept estimates."""

    interval: ClassVar[int | None] = 1
    """Decision interval: updates per decision. The last decision may cover fewer. If None, each decision covers as many
    updates as the returned block has rows, the same number for every configuration of the class."""

    zero_shot: ClassVar[bool] = False
    """Whether it competes untuned, with the optimizer's default base learning rate and weight decay."""

    revision: ClassVar[int | None] = None
    """Version of a built-in scheduler's decisions. Increase it whenever a decision changes: earlier results then belong
    to another scheduler. Records name the revision instead of the code, so a class can be moved and reworded. Plugins
    leave it None: records identify them by a hash of their source."""

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Return the Optuna distribution of each field that is tuned, by name. The other fields keep their default.

        Each default must lie within its distribution. Proposed values must have the declared type of the field. The
        choices of a categorical distribution are str, bool, int or float: records hold no other types.
        """
        return {}

    @abstractmethod
    def init(self, run: RunInfo) -> State:
        """Return the state before the first update."""

    @abstractmethod
    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Decide. Called before the first update, and at the end of each decision interval.

        Args:
            state: The return value of `init` or of the last `step`. Do not change it in place.
            signals: The state of the runs. Do not change it in place.

        Returns:
            The controls for the next updates, and the next state. Learning rates have shape (P, L), the same for all
            updates of the decision, or (n, P, L), where n is the number of these updates. With `interval = None` the
            shape is always (n, P, L). Values for diverged runs are ignored.
        """


@dataclass(frozen=True)
class ClosedForm(Scheduler):
    """A schedule that depends on the update alone: `lr = base_lr * factor(update, total)`, the same for all layers.

    A subclass needs to define only `factor`.
    """

    interval: ClassVar[int | None] = None
    _BLOCK: ClassVar[int] = 512

    @abstractmethod
    def factor(self, update: int, total: int) -> float:
        """Return the number by which the base learning rate is multiplied at one update.

        Args:
            update: Index of the update, from 0 to `total - 1`.
            total: Number of updates in the run, at least 1.

        Returns:
            The factor, at least 0.
        """

    def init(self, run: RunInfo) -> State:
        """Return the base learning rates, shape (P, L)."""
        return run.base_lr[:, None].expand(-1, run.n_layers).clone()

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Return the learning rates of the next updates as one block."""
        first, total = signals.n_updates, signals.total_updates
        base: Tensor = state
        updates = range(first, max(first + 1, min(total, first + self._BLOCK)))
        values: list[Any] = [self.factor(update, total) for update in updates]
        try:
            factors = torch.tensor(values, dtype=base.dtype, device=base.device)
        except (TypeError, ValueError, RuntimeError):  # such as None, from a factor without a return
            for update, value in zip(updates, values, strict=True):
                if not isinstance(value, Real | Tensor):
                    what = f"factor({update}, {total}) must return a number (value: {value!r})"
                    raise TypeError(what) from None
            raise
        return Controls(factors[:, None, None] * base), state
