"""Computes observations from signals, and learning rates from actions: one code for training, harness and users."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.observations import Feature, Memory, View, load_features, observe
from ganno_bench.training.signals import LAYER_SIGNALS, SAMPLED, Controls, RunInfo, Signals

__all__ = ["ControlState", "Controller"]


@dataclass(frozen=True)
class ControlState:
    """State of P runs whose learning rates a policy controls.

    Attributes:
        log_factor: ln of each layer's factor, which multiplies the reference schedule, shape (P, L).
        log_decay: ln of the factor of the base weight decay, shape (P,).
        memory: Earlier losses.
        hidden: The memory of a recurrent actor, shape (P, agents, units); 0 units for other actors.
    """

    log_factor: Tensor
    log_decay: Tensor
    memory: Memory
    hidden: Tensor

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors in dictionaries."""
        return {**vars(self), "memory": dict(vars(self.memory))}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return a state from the result of `state_dict`; other keys are ignored."""
        return cls(state["log_factor"], state["log_decay"], Memory(**state["memory"]), state["hidden"])


class Controller:
    """The part of a policy that is not learned. It holds no state of a run: all state is in `ControlState`.

    Attributes:
        features: The observations of an agent, in order.
        action: The choices of an agent.
        layerwise: True: an agent sees its own layer. False: it sees the mean over layers, and its own relative depth.
        needs: Optional signals that the features read. Estimates are enough.
        places: Which features an agent sees of its own layer in any case, bool, shape (F,).
    """

    def __init__(
        self,
        observation: Sequence[str],
        action: ActionSpec,
        *,
        layerwise: bool = True,
        n_hidden: int = 0,
        files: bool = False,
    ) -> None:
        """Look up the features.

        Args:
            observation: Names of features.
            action: The choices of an agent.
            layerwise: Whether agents see their own layers.
            n_hidden: Units of a recurrent actor's memory.
            files: Whether features may be named as `./file.py:name`. A card may not name files.

        Raises:
            UnknownNameError: There is no such feature.
            PluginError: A feature's package is broken.
        """
        self.features: tuple[Feature, ...] = load_features(observation, files=files)
        self.action = action
        self.layerwise = layerwise
        self._n_hidden = n_hidden
        self.places = torch.tensor([name == "relative-depth" for name in observation])
        needs = frozenset().union(*(feature.needs for feature in self.features))
        self.needs = needs | {SAMPLED} if needs & set(LAYER_SIGNALS) else needs

    @property
    def needs_layers(self) -> bool:
        """Whether the policy reads signals of layers, or sets a learning rate for each layer."""
        return self.action.scope == "layer" or not self.needs.isdisjoint(LAYER_SIGNALS)

    def n_agents(self, n_layers: int) -> int:
        """Return the number of agents of a network."""
        return n_layers if self.action.scope == "layer" else 1

    def init(self, run: RunInfo) -> ControlState:
        """Return the state before the first update."""
        zeros = torch.zeros(run.n_runs, run.n_layers, dtype=torch.float64, device=run.base_lr.device)
        hidden = zeros.new_zeros(run.n_runs, self.n_agents(run.n_layers), self._n_hidden)
        return ControlState(zeros, zeros.new_zeros(run.n_runs), Memory.blank(run), hidden)

    def observe(self, state: ControlState, run: RunInfo, signals: Signals) -> tuple[Tensor, ControlState]:
        """Return the observations, shape (P, agents, features), and the state with the losses remembered."""
        lr = torch.where(signals.lr.isnan(), run.base_lr[:, None], signals.lr)
        seen = observe(self.features, View(signals, run, state.memory, lr, state.log_factor, state.log_decay))
        if self.action.scope == "network":
            seen = seen.mean(dim=1, keepdim=True)
        elif not self.layerwise:
            seen = torch.where(self.places.to(seen.device), seen, seen.mean(dim=1, keepdim=True))
        return seen, replace(state, memory=state.memory.updated(signals))

    def act(
        self,
        state: ControlState,
        run: RunInfo,
        action: Tensor,
        first: int,
        n_updates: int,
        max_lr: float = math.inf,
    ) -> tuple[Controls, ControlState]:
        """Return the controls of the next updates, learning rates of shape (n_updates, P, L), and the next state.

        Args:
            state: The present state.
            run: The runs.
            action: Shape (P, agents).
            first: The number of updates done.
            n_updates: The number of updates that the decision lasts.
            max_lr: The highest learning rate. It limits the factor to `max_lr / base_lr`, so the learning rate still
                falls below `max_lr` where the reference schedule falls.
        """
        log_factor = self.action.moved(state.log_factor, action.expand(state.log_factor.shape))
        if max_lr < math.inf:
            log_factor = torch.minimum(log_factor, (max_lr / run.base_lr).log()[:, None])
        lr = self.action.learning_rates(run, log_factor, first, n_updates)
        log_decay, decay = self.action.decayed(state.log_decay, action), None
        if self.action.decay_multipliers is not None:
            decay = run.weight_decay * log_decay.exp()
        return Controls(lr, decay), replace(state, log_factor=log_factor, log_decay=log_decay)
