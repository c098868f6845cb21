"""The networks of MAPPO as TorchRL modules: the actor, which all agents share, and the critic."""

from __future__ import annotations

import torch
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import Tensor, nn
from torch.distributions import Categorical
from torchrl.modules import ProbabilisticActor, TanhNormal

from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import Actor

OBSERVATION, MEMORY = ("agents", "observation"), ("agents", "memory")

__all__ = ["Critic", "actor_module", "critic_module"]


class Critic(nn.Module):
    """Estimates the value of a run for each of its agents, for any number of agents.

    A centralised critic sees an agent's embedded observation and the mean over all agents of the run. An independent
    one (IPPO) sees only the agent's own.
    """

    def __init__(self, n_inputs: int, hidden: int, *, centralised: bool) -> None:
        """Build the network.

        Args:
            n_inputs: The number of features of an observation.
            hidden: Units of the hidden layers.
            centralised: Whether the critic pools over the agents.
        """
        super().__init__()
        self.centralised = centralised
        self.embed = nn.Sequential(nn.Linear(n_inputs, hidden), nn.Tanh())
        self.head = nn.Sequential(
            nn.Linear(hidden * (2 if centralised else 1), hidden), nn.Tanh(), nn.Linear(hidden, 1)
        )

    def forward(self, observation: Tensor) -> Tensor:
        """Return values, shape (..., A, 1), for observations, shape (..., A, F)."""
        seen = self.embed(observation)
        if self.centralised:
            seen = torch.cat([seen, seen.mean(-2, keepdim=True).expand_as(seen)], dim=-1)
        values: Tensor = self.head(seen)
        return values


class _Head(nn.Module):
    """Computes the parameters of the action distribution from the actor's outputs."""

    def __init__(self, actor: Actor, action: ActionSpec) -> None:
        super().__init__()
        self.actor = actor
        self._shape = NormalParamExtractor("biased_softplus_0.5") if action.continuous else action.logits

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the parameters, and the next memory if the actor has one.

        Observations are those of one decision, shape (P, A, F). An actor with a memory also accepts whole episodes,
        shape (P, T, A, F), from their beginning.
        """
        if memory is None:
            outputs: Tensor = self.actor(observation)
            kept: tuple[Tensor, ...] = ()
        elif observation.dim() == 3:
            outputs, after = self.actor.step(observation, memory)
            kept = (after,)
        else:
            outputs, kept = self.actor(observation), (memory,)
        parameters = self._shape(outputs)
        return (*(parameters if isinstance(parameters, tuple) else (parameters,)), *kept)


def actor_module(actor: Actor, action: ActionSpec) -> ProbabilisticActor:
    """Return the stochastic policy with which TorchRL collects episodes, and which it differentiates."""
    observation, kept = ([OBSERVATION], []) if actor.memory is None else ([OBSERVATION, MEMORY], [("next", *MEMORY)])
    log_prob = ("agents", "action_log_prob")
    head = _Head(actor, action)
    if action.continuous:
        parameters = [("agents", "loc"), ("agents", "scale")]
        return ProbabilisticActor(
            TensorDictModule(head, in_keys=observation, out_keys=[*parameters, *kept]),
            in_keys=parameters,
            out_keys=[("agents", "action")],
            distribution_class=TanhNormal,
            return_log_prob=True,
            log_prob_key=log_prob,
        )
    return ProbabilisticActor(
        TensorDictModule(head, in_keys=observation, out_keys=[("agents", "logits"), *kept]),
        in_keys={"logits": ("agents", "logits")},
        out_keys=[("agents", "action")],
        distribution_class=Categorical,
        return_log_prob=True,
        log_prob_key=log_prob,
    )


def critic_module(critic: Critic) -> TensorDictModule:
    """Return the critic in the form that TorchRL's losses need."""
    return TensorDictModule(critic, in_keys=[OBSERVATION], out_keys=[("agents", "state_value")])
