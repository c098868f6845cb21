"""Actions: an agent changes the factor between the learning rate of its layer and a reference schedule.

    lr[layer, update] = base_lr * reference(update / horizon) * exp(log_factor[layer])

The factor is the state of the agents. A constant reference and a wide bound give the cumulative control of the GANNO
paper. A decaying reference and a narrow bound give control that is anchored to a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ganno_bench.core.config import Config
from ganno_bench.training.signals import RunInfo

__all__ = ["ACTIONS", "REFERENCES", "ActionSpec"]

REFERENCES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * progress)),
    "warmup-cosine": lambda progress: (
        progress / 0.05 if progress < 0.05 else 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (progress - 0.05) / 0.95))
    ),
    "linear": lambda progress: 1.0 - 0.99 * progress,
    "wsd": lambda progress: 1.0 if progress < 0.6 else 1.0 - 0.99 * (progress - 0.6) / 0.4,
}
"""Reference schedules: progress in [0, 1) -> multiple of the base learning rate."""


class ActionSpec(Config):
    """The choices of an agent at a decision, `[action]` in a training configuration or card."""

    multipliers: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)] = (0.5, 0.8, 1.0, 1.25, 2.0)
    """The numbers by which a categorical action can multiply the layer's factor. They must include 1."""
    max_step: Annotated[float, Field(gt=0)] | None = None
    """Largest change of ln(factor) by a continuous action, a number in [-1, 1]. None: actions are categorical."""
    bound: Annotated[float, Field(gt=0)] = 9.2
    """Upper limit of |ln(factor)|. 9.2 allows factors from 1e-4 to 1e4."""
    reference: Literal["constant", "cosine", "warmup-cosine", "linear", "wsd"] = "constant"
    """The reference schedule that the factor multiplies."""
    decay_multipliers: tuple[Annotated[float, Field(gt=0)], ...] | None = None
    """The numbers by which a second choice can multiply the weight decay; the geometric mean over agents counts. They
    must include 1. None: the weight decay stays."""
    scope: Literal["layer", "network"] = "layer"
    """`layer`: each layer has an agent. `network`: one agent controls the whole network."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if not self.continuous and 1.0 not in self.multipliers:
            raise ValueError("multipliers must include 1.0, so that an agent can leave the learning rate unchanged")
        if self.decay_multipliers is not None:
            if 1.0 not in self.decay_multipliers:
                raise ValueError(
                    "decay_multipliers must include 1.0, so that an agent can leave weight decay unchanged"
                )
            if self.continuous:
                raise ValueError("decay_multipliers need categorical actions; remove max_step or decay_multipliers")
        return self

    @property
    def continuous(self) -> bool:
        """Whether an action is a number rather than the index of a multiplier."""
        return self.max_step is not None

    @property
    def n_outputs(self) -> int:
        """The number of the actor's outputs for each agent: a logit per choice, or location and log-scale."""
        return 2 if self.continuous else len(self.multipliers) + len(self.decay_multipliers or ())

    @property
    def n_choices(self) -> int:
        """The number of categorical actions: one per multiplier, or one per pair of multiplier and decay multiplier."""
        return len(self.multipliers) * len(self.decay_multipliers or (1.0,))

    @property
    def neutral(self) -> float:
        """The action that changes nothing: an index, or 0 if actions are continuous."""
        if self.continuous:
            return 0.0
        decays = self.decay_multipliers or (1.0,)
        return float(self.multipliers.index(1.0) * len(decays) + decays.index(1.0))

    def logits(self, outputs: Tensor) -> Tensor:
        """Return the logits of the categorical actions, shape (..., n_choices), from the actor's outputs.

        The two choices are independent. The logit of a pair is the sum of both logits, so probabilities, entropies and
        gradients equal those of two separate heads.
        """
        if self.decay_multipliers is None:
            return outputs
        rate, decay = outputs[..., : len(self.multipliers)], outputs[..., len(self.multipliers) :]
        return (rate[..., :, None] + decay[..., None, :]).flatten(-2)

    def moved(self, log_factor: Tensor, action: Tensor) -> Tensor:
        """Return ln of the factors after an action, shape (P, L).

        Args:
            log_factor: ln of the factors before it, shape (P, L).
            action: Indices of choices, int64, or numbers in [-1, 1], shape (P, L).
        """
        if self.max_step is not None:
            step = action.to(log_factor.dtype).clamp(-1.0, 1.0) * self.max_step
        else:
            chosen = action if self.decay_multipliers is None else action // len(self.decay_multipliers)
            step = _logs(self.multipliers, log_factor.dtype, action.device)[chosen]
        return (log_factor + step).clamp(-self.bound, self.bound)

    def decayed(self, log_decay: Tensor, action: Tensor) -> Tensor:
        """Return ln of the factor of the weight decay, shape (P,), after an action, shape (P, agents)."""
        if self.decay_multipliers is None:
            return log_decay
        steps = _logs(self.decay_multipliers, log_decay.dtype, action.device)
        step = steps[action % len(steps)].mean(dim=1)
        return (log_decay + step).clamp(-self.bound, self.bound)

    def learning_rates(self, run: RunInfo, log_factor: Tensor, first: int, n_updates: int) -> Tensor:
        """Return the learning rates of the next updates, shape (n_updates, P, L).

        Args:
            run: The runs.
            log_factor: ln of the factors, shape (P, L).
            first: The number of updates done.
            n_updates: The number of updates that follow.
        """
        curve = self.curve(run.total_updates, first, n_updates)
        reference = torch.tensor(curve, dtype=torch.float64, device=log_factor.device)
        return reference[:, None, None] * (run.base_lr[:, None] * log_factor.exp())

    def curve(self, total_updates: int, first: int, n_updates: int) -> list[float]:
        """Return the reference schedule of the next updates, as multiples of the base learning rate."""
        shape = REFERENCES[self.reference]
        return [shape(min(update / total_updates, 1.0)) for update in range(first, first + n_updates)]


@cache
def _logs(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=dtype, device=device).log()


ACTIONS: dict[str, ActionSpec] = {
    "multipliers": ActionSpec(),
    "log-scale": ActionSpec(max_step=0.7),
    "anchored": ActionSpec(bound=2.3, reference="cosine"),
    "anchored-log-scale": ActionSpec(max_step=0.7, bound=2.3, reference="cosine"),
}
"""Action name -> action: the paper's cumulative multipliers, their continuous form, and both anchored to a cosine."""
