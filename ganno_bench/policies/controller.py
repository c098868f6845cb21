"""From signals to observations and from actions to learning rates: what training, harness and users have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.observations import Feature, Memory, View, load_features, observe
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["ControlState", "Controller"]


@dataclass(frozen=True)
class ControlState:
    """State of P runs under control.

    Attributes:
        log_factor: ln of each layer's departure from the reference schedule, shape (P, L).
        memory: Losses of the past.
    """

    log_factor: Tensor
    memory: Memory


class Controller:
    """The part of a policy that is not learned. It holds nothing of a run: all state is in `ControlState`.

    Attributes:
        features: What an agent sees, in order.
        action: What it can do.
        needs: Optional signals that are read.
    """

    def __init__(self, observation: Sequence[str], action: ActionSpec) -> None:
        """Look up the features.

        Raises:
            UnknownNameError: There is no such feature.
        """
        self.features: tuple[Feature, ...] = load_features(observation)
        self.action = action
        self.needs = frozenset().union(*(feature.needs for feature in self.features))

    def n_agents(self, n_layers: int) -> int:
        """Return the number of agents of a network."""
        return n_layers if self.action.scope == "layer" else 1

    def init(self, run: RunInfo) -> ControlState:
        """Return the state before the first update."""
        log_factor = torch.zeros(run.n_runs, run.n_layers, dtype=torch.float64, device=run.base_lr.device)
        return ControlState(log_factor, Memory.blank(run))

    def observe(self, state: ControlState, run: RunInfo, signals: Signals) -> tuple[Tensor, ControlState]:
        """Return what the agents see, shape (P, agents, features), and the state that remembers it."""
        lr = torch.where(signals.lr.isnan(), run.base_lr[:, None].expand_as(signals.lr), signals.lr)
        seen = observe(self.features, View(signals, run, state.memory, lr, state.log_factor))
        if self.action.scope == "network":
            seen = seen.mean(dim=1, keepdim=True)
        return seen, replace(state, memory=state.memory.updated(signals))

    def act(
        self, state: ControlState, run: RunInfo, action: Tensor, first: int, n_updates: int
    ) -> tuple[Controls, ControlState]:
        """Return the learning rates of the next updates, shape (n_updates, P, L), and the next state.

        Args:
            state: The state.
            run: The runs.
            action: Shape (P, agents).
            first: Updates done.
            n_updates: How many the decision is for.
        """
        log_factor = self.action.moved(state.log_factor, action.expand(state.log_factor.shape))
        lr = self.action.learning_rates(run, log_factor, first, n_updates)
        return Controls(lr), replace(state, log_factor=log_factor)
