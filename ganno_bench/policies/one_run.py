"""A policy's decisions for one run whose layers all have the same agent, in plain numbers.

They are those of `Policy.control`, which takes some sixty operations on tensors for them, however small those are: as
long as several updates of a small network.
"""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.observations import Loss, Memory, NumberView, observe_numbers
from ganno_bench.policies.policy import Policy
from ganno_bench.training.signals import RunInfo

__all__ = ["OneRun"]

_REMEMBERED: tuple[Loss, ...] = ("first", "last", "best", "last_val", "best_val")


class OneRun:
    """A run under a policy with one agent, which sees what all layers have in common, and remembers nothing else.

    Attributes:
        log_factor: ln of the run's departure from the reference schedule.
        losses: Those of `Memory`, and those last seen; NaN where there was none yet.
    """

    def __init__(self, policy: Policy, run: RunInfo) -> None:
        """Begin a run, with the weights that the policy has now.

        Args:
            policy: One that `fits`.
            run: A single run.
        """
        self._run, self._base_lr = run, float(run.base_lr)
        self._card = policy.card
        self._features = [feature.of_run for feature in policy.controller.features if feature.of_run is not None]
        self._steps = [math.log(multiplier) for multiplier in self._card.action.multipliers]
        linear = [part for part in chain(policy.actor.body, [policy.actor.head]) if isinstance(part, nn.Linear)]
        # Every layer has an input more, which is 1, and whose weight is the bias.
        *self._body, self._head = (np.column_stack((_doubles(part.weight), _doubles(part.bias))) for part in linear)
        self._hidden = [np.ones(len(weights) + 1) for weights in self._body]
        self.log_factor = 0.0
        self.losses: dict[Loss, float] = dict.fromkeys(_REMEMBERED, math.nan)

    @staticmethod
    def fits(policy: Policy) -> bool:
        """Whether a policy can be followed in plain numbers."""
        card = policy.card
        return (
            not policy.controller.needs_layers
            and card.action.decay_multipliers is None
            and card.actor.memory == 0
            and all(feature.of_run is not None for feature in policy.controller.features)
        )

    def decide(self, n_updates: int, lr: float, train_loss: float, val_loss: float = math.nan) -> list[float]:
        """See and act; return the learning rates of the updates until the next decision, at least one.

        Args:
            n_updates: Updates so far.
            lr: Learning rate of the last update; the base learning rate before the first.
            train_loss: Mean over the interval that has ended.
            val_loss: Validation loss now.
        """
        total = self._run.total_updates
        self.losses["train"], self.losses["val"] = train_loss, val_loss
        view = NumberView(self._run, n_updates / total, lr, self.log_factor, self.losses)
        inputs = np.array([*observe_numbers(self._features, view), 1.0])
        for weights, hidden in zip(self._body, self._hidden, strict=True):
            np.tanh(weights.dot(inputs), out=hidden[:-1])
            inputs = hidden
        outputs = self._head.dot(inputs)
        spec = self._card.action
        step = self._steps[outputs.argmax()] if spec.max_step is None else math.tanh(outputs[0]) * spec.max_step
        self.log_factor = max(-spec.bound, min(self.log_factor + step, spec.bound))
        self._remember()
        curve = spec.curve(total, n_updates, self._card.decided_updates(n_updates, total))
        factor = self._base_lr * math.exp(self.log_factor)
        return [multiple * factor for multiple in curve]

    def _remember(self) -> None:
        """See `Memory.updated`."""
        losses = self.losses
        if math.isnan(losses["first"]):
            losses["first"] = losses["train"]
        losses["last"], losses["last_val"] = losses["train"], losses["val"]
        losses["best"] = _least(losses["best"], losses["train"])
        losses["best_val"] = _least(losses["best_val"], losses["val"])

    @property
    def state(self) -> ControlState:
        """What `Policy.control` would go on from."""
        like, losses = self._run.base_lr, self.losses
        memory = Memory(*(torch.full_like(like, losses[name]) for name in _REMEMBERED))
        log_factor = like.new_full((1, self._run.n_layers), self.log_factor)
        return ControlState(log_factor, like.new_zeros(1), memory, like.new_zeros(1, 1, 0))

    @state.setter
    def state(self, state: ControlState) -> None:
        self.log_factor = float(state.log_factor[0, 0])
        self.losses = {name: float(getattr(state.memory, name)) for name in _REMEMBERED}


def _doubles(parameter: Tensor) -> npt.NDArray[np.float64]:
    return parameter.detach().cpu().double().numpy()


def _least(a: float, b: float) -> float:
    """Return the lesser one, or the one that is a number."""
    return a if a <= b or math.isnan(b) else b
