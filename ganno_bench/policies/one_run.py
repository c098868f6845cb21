"""A policy's decisions for one run, computed with plain numbers and NumPy arrays.

They equal the decisions of `Policy.control`. That needs sixty or more tensor operations, which take as long as several
updates of a small network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.observations import (
    Array,
    Feature,
    Loss,
    Memory,
    Number,
    NumberView,
    before_it_begins,
    observe_numbers,
)
from ganno_bench.policies.policy import Policy
from ganno_bench.training.signals import RunInfo

__all__ = ["AHEAD", "OneRun"]

AHEAD = 1_000
"""Updates for which the reference schedule is computed at once."""
_REMEMBERED: tuple[Loss, ...] = ("first", "last", "best", "last_val", "best_val")


class OneRun:
    """One run under a policy whose actor has no memory.

    Attributes:
        log_factor: ln of the factor that multiplies the reference schedule: of each layer, shape (L,), or one number.
        losses: The losses of `Memory`, and the latest ones; NaN if there was none yet.
    """

    log_factor: Number

    def __init__(self, policy: Policy, run: RunInfo, max_lr: float = math.inf) -> None:
        """Begin a run, with the policy's present weights.

        Args:
            policy: A policy for which `fits` is true.
            run: A single run.
            max_lr: The highest learning rate; see `Controller.act`.
        """
        self._run, self._base_lr = run, float(run.base_lr)
        self._card = policy.card
        self._highest = min(policy.card.action.bound, math.log(max_lr / self._base_lr))
        self._features = [_of_run(feature, run) for feature in policy.controller.features]
        self._each = self._card.action.scope == "layer"
        self.log_factor = np.zeros(run.n_layers) if self._each else 0.0
        self.losses: dict[Loss, float] = dict.fromkeys(_REMEMBERED, math.nan)
        shared = self._each and not self._card.layerwise_observation
        self._own = policy.controller.places.numpy()[:, None] if shared else None
        self._steps = np.log(self._card.action.multipliers)
        # All results go into preallocated arrays: an allocation takes as long as the computation. The last row of each
        # input of an actor's layer is 1; its weight is the bias.
        agents = (run.n_layers,) if self._each else ()
        linear = [part for part in chain(policy.actor.body, [policy.actor.head]) if isinstance(part, nn.Linear)]
        *self._body, self._head = (np.column_stack((_doubles(part.weight), _doubles(part.bias))) for part in linear)
        self._table = np.ones((len(self._features) + 1, run.n_layers))
        self._alike = None if self._each else np.ones(len(self._features) + 1)
        self._hidden = [np.ones((len(weights) + 1, *agents)) for weights in self._body]
        self._outputs = np.ones((len(self._head), *agents))
        self._curve: list[float] = []
        self._curve_first = 0

    @staticmethod
    def fits(policy: Policy) -> bool:
        """Whether a policy's decisions can be computed with plain numbers."""
        card = policy.card
        return (
            card.action.decay_multipliers is None
            and card.actor.memory == 0
            and all(feature.of_run is not None for feature in policy.controller.features)
        )

    def decide(
        self,
        n_updates: int,
        lr: Number,
        train_loss: float,
        val_loss: float = math.nan,
        layers: Mapping[str, Array] | None = None,
    ) -> list[list[float]]:
        """Observe and act; return the learning rates of the updates until the next decision, at least one.

        Args:
            n_updates: The number of updates so far.
            lr: The learning rate of the last update; of each layer, shape (L,), if layers may differ. Before the first
                update, the base learning rate.
            train_loss: Mean training loss over the decision interval that has ended.
            val_loss: The present validation loss.
            layers: The layer signals that the policy needs, each of shape (L,).

        Returns:
            For each update the learning rates of the layers, or the single one of all layers.
        """
        total, spec = self._run.total_updates, self._card.action
        self.losses["train"], self.losses["val"] = train_loss, val_loss
        view = NumberView(self._run, n_updates / total, lr, self.log_factor, self.losses, layers or {})
        if layers or self._each:
            with np.errstate(all="ignore"):  # entering it takes longer than the computation of a single agent
                inputs = observe_numbers(self._features, view, self._table, self._alike)
        else:
            inputs = observe_numbers(self._features, view, self._table, self._alike)
        if inputs is self._table and not self._each:
            inputs = inputs.mean(axis=1)
        elif self._own is not None:
            seen = inputs[:-1]
            seen[...] = np.where(self._own, seen, seen.mean(axis=1, keepdims=True))
        step = self._step(inputs)
        self._remember()
        curve = self._curve_of(n_updates, self._card.decided_updates(n_updates, total))
        if isinstance(self.log_factor, float):
            self.log_factor = min(max(self.log_factor + float(step), -spec.bound), self._highest)
            factor = self._base_lr * math.exp(self.log_factor)
            return [[multiple * factor] for multiple in curve]
        self.log_factor = np.minimum(np.maximum(self.log_factor + step, -spec.bound), self._highest)
        factors: list[float] = (self._base_lr * np.exp(self.log_factor)).tolist()
        return [[multiple * factor for factor in factors] for multiple in curve]

    def _step(self, inputs: Array) -> Number:
        """Return the actor's change of `log_factor`.

        Args:
            inputs: Observations and a row of 1, shape (F + 1, L), or (F + 1,) for a single agent.
        """
        for weights, hidden in zip(self._body, self._hidden, strict=True):
            units = hidden[:-1]
            np.tanh(weights.dot(inputs, units), units)
            inputs = hidden
        outputs, max_step = self._head.dot(inputs, self._outputs), self._card.action.max_step
        if max_step is not None:
            steps: Array = np.tanh(outputs[0]) * max_step
        elif self._each:
            steps = self._steps[outputs.argmax(axis=0)]
        else:
            numbers = outputs.tolist()
            steps = self._steps[numbers.index(max(numbers))]
        return steps

    def _curve_of(self, first: int, n_updates: int) -> list[float]:
        """Return the reference schedule of the next updates; see `ActionSpec.curve`."""
        begin = first - self._curve_first
        if begin < 0 or begin + n_updates > len(self._curve):
            total = self._run.total_updates
            self._curve = self._card.action.curve(total, first, max(n_updates, min(AHEAD, total - first)))
            self._curve_first, begin = first, 0
        return self._curve[begin : begin + n_updates]

    def _remember(self) -> None:
        """Update the earlier losses, as `Memory.updated` does."""
        losses = self.losses
        if math.isnan(losses["first"]):
            losses["first"] = losses["train"]
        losses["last"], losses["last_val"] = losses["train"], losses["val"]
        losses["best"] = _least(losses["best"], losses["train"])
        losses["best_val"] = _least(losses["best_val"], losses["val"])

    @property
    def state(self) -> ControlState:
        """The state from which `Policy.control` would continue."""
        like, losses, n_layers = self._run.base_lr, self.losses, self._run.n_layers
        memory = Memory(*(torch.full_like(like, losses[name]) for name in _REMEMBERED))
        log_factor = torch.tensor(np.broadcast_to(self.log_factor, (1, n_layers)), dtype=torch.float64)
        return ControlState(log_factor, like.new_zeros(1), memory, like.new_zeros(1, n_layers if self._each else 1, 0))

    @state.setter
    def state(self, state: ControlState) -> None:
        self.log_factor = state.log_factor[0].cpu().numpy().copy() if self._each else float(state.log_factor[0, 0])
        self.losses = {name: float(getattr(state.memory, name)) for name in _REMEMBERED}


def _of_run(feature: Feature, run: RunInfo) -> Callable[[NumberView], Number]:
    """Return the function that computes a feature at each decision."""
    compute = feature.of_run
    assert compute is not None
    if not feature.constant:
        return compute
    with suppress(ArithmeticError):  # `observe_numbers` handles it
        value = compute(before_it_begins(run))
        return lambda view: value
    return compute


def _doubles(parameter: Tensor) -> Array:
    return parameter.detach().cpu().double().numpy()


def _least(a: float, b: float) -> float:
    """Return the smaller value, or the one that is not NaN."""
    return a if a <= b or math.isnan(b) else b
