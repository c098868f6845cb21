"""What a scheduler is: a frozen dataclass whose fields are its hyperparameters, and whose state is explicit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from ganno_bench.training.signals import Controls, RunInfo, Signals

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["ClosedForm", "Scheduler", "State"]

State: TypeAlias = Any
"""Tensors, numbers, strings, and dicts, lists and tuples of them: what `torch.load(weights_only=True)` reads back."""


@dataclass(frozen=True)
class Scheduler(ABC):
    """Decides the learning rates of P runs that share one configuration, layer by layer.

    Subclasses are frozen dataclasses; every field is a hyperparameter with a default. An instance holds no state of a
    run: `init` makes it, and `step` takes it and returns the next one. Lengths among the hyperparameters are shares of
    the horizon, so that a configuration transfers to another one. What happens to a run must not depend on the others.

    The base learning rate and the weight decay are hyperparameters of every scheduler. They are tuned by the harness
    within bounds that are fixed per optimizer, and arrive in `RunInfo`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """Optional fields of `Signals` that `step` reads; the others are None. With `sampled`, estimates will do."""

    interval: ClassVar[int | None] = 1
    """Updates per decision; the last one may cover fewer. None: one decision covers as many updates as the returned
    block has, which has to be the same number for every configuration of the class."""

    zero_shot: ClassVar[bool] = False
    """Whether it competes as it is, with the optimizer's default base learning rate and weight decay, never tuned."""

    revision: ClassVar[int | None] = None
    """Of a scheduler of this project: 1, and one more whenever a decision of it changes, since results of before are
    then another scheduler's. It stands for the code in records, so a class can be moved and reworded. None for plugins,
    whose source stands for itself."""

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Return Optuna distributions for the fields that are tuned, by name; the others keep their value.

        What they propose has to be of the type that the field is declared with. A choice is a str, a bool, an int or a
        float, which is what records hold.
        """
        return {}

    @abstractmethod
    def init(self, run: RunInfo) -> State:
        """Return the state before the first update."""

    @abstractmethod
    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Decide. Called before the first update, and again whenever the last decision is used up.

        Args:
            state: What `init` or the last `step` returned; not to be changed in place.
            signals: What the runs look like now; not to be changed in place.

        Returns:
            The learning rates that are in force from now on, and the next state. The shape is (P, L), or (n, P, L) for
            n updates one by one: as many as this decision covers. With `interval = None` it is always (n, P, L). Those
            of a diverged run are ignored.
        """


@dataclass(frozen=True)
class ClosedForm(Scheduler):
    """A schedule that is known in advance: `lr = base_lr * factor(update, total)`, the same for all layers.

    A subclass defines `factor` and nothing else.
    """

    interval: ClassVar[int | None] = None
    _BLOCK: ClassVar[int] = 512

    @abstractmethod
    def factor(self, update: int, total: int) -> float:
        """Return the multiple of the base learning rate for one update.

        Args:
            update: Index of the update, from 0 to `total - 1`.
            total: Number of updates in the run, at least 1.

        Returns:
            A number >= 0.
        """

    def init(self, run: RunInfo) -> State:
        """Return the base learning rates, shape (P, L)."""
        return run.base_lr[:, None].expand(-1, run.n_layers).clone()

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Return the learning rates of the next updates in one block."""
        first, total = signals.n_updates, signals.total_updates
        base: Tensor = state
        updates = range(first, max(first + 1, min(total, first + self._BLOCK)))
        factors = torch.tensor([self.factor(update, total) for update in updates], dtype=base.dtype, device=base.device)
        return Controls(factors[:, None, None] * base), state
