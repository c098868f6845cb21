"""The learner's networks as TorchRL modules: an actor that is shared by all agents, and the critic."""

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
    """The value of a run, seen from each of its agents, for any number of agents.

    A centralised critic sees the mean of what all agents of the run make of their observations; an independent one
    (IPPO) sees the agent's own alone.
    """

    def __init__(self, n_inputs: int, hidden: int, *, centralised: bool) -> None:
        """Build the network.

        Args:
            n_inputs: Features of an observation.
            hidden: Units of the hidden layers.
            centralised: Whether agents' observations are pooled.
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
    """From the actor's outputs to the parameters of a distribution."""

    def __init__(self, actor: Actor, action: ActionSpec) -> None:
        super().__init__()
        self.actor = actor
        self._shape = NormalParamExtractor("biased_softplus_0.5") if action.continuous else action.logits

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the parameters, and the next memory if there is one.

        Observations are those of one decision, shape (P, A, F); for an actor with a memory also of whole episodes,
        shape (P, T, A, F), which it goes through from the beginning.
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
    """Return the stochastic policy that TorchRL collects with and differentiates."""
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
    """Return the critic as TorchRL's losses want it."""
    return TensorDictModule(critic, in_keys=[OBSERVATION], out_keys=[("agents", "state_value")])
