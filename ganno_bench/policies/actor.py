"""The actor: the network that all agents share, with one set of weights for all layers of all networks."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ganno_bench.core.config import Config

__all__ = ["Actor", "ActorSpec"]


class ActorSpec(Config):
    """Architecture of the actor."""

    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (64, 64)
    """Units of each hidden layer."""
    memory: Annotated[int, Field(ge=0)] = 0
    """Units of a GRU between the hidden layers and the outputs. 0: no GRU, so the actor remembers nothing."""


class Actor(nn.Module):
    """A network from an agent's observation to the parameters of its action's distribution; recurrent with a memory.

    The weights of its last layer start near 0, so an untrained actor finds all actions nearly equally probable.
    """

    def __init__(self, spec: ActorSpec, n_inputs: int, n_outputs: int) -> None:
        """Build the network.

        Args:
            spec: The architecture.
            n_inputs: The number of features of an observation.
            n_outputs: The number of logits, or 2 for location and log-scale.
        """
        super().__init__()
        sizes = (n_inputs, *spec.hidden)
        parts: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            parts += [nn.Linear(fan_in, fan_out), nn.Tanh()]
        self.body = nn.Sequential(*parts)
        self.memory = nn.GRU(sizes[-1], spec.memory, batch_first=True) if spec.memory else None
        self.head = nn.Linear(spec.memory or sizes[-1], n_outputs)
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                nn.init.orthogonal_(linear.weight, 2**0.5)
                nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.head.weight *= 0.01 / 2**0.5

    def forward(self, observation: Tensor) -> Tensor:
        """Return the parameters of distributions, shape (..., n_outputs), for observations, shape (..., n_inputs).

        With a memory, observations must be whole episodes, shape (P, T, agents, n_inputs).
        """
        hidden = self.body(observation)
        if self.memory is not None:
            runs, steps, agents, _ = hidden.shape
            sequences = hidden.transpose(1, 2).reshape(runs * agents, steps, -1)
            hidden = self.memory(sequences)[0].view(runs, agents, steps, -1).transpose(1, 2)
        outputs: Tensor = self.head(hidden)
        return outputs

    def step(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the parameters for one decision, shape (P, agents, n_outputs), and the next memory.

        Args:
            observation: Shape (P, agents, n_inputs).
            memory: Shape (P, agents, units of the GRU); 0 at first.
        """
        runs, agents, _ = observation.shape
        if self.memory is None:
            return self(observation.flatten(0, 1)).unflatten(0, (runs, agents)), memory
        seen = self.body(observation).view(runs * agents, 1, -1)
        output, kept = self.memory(seen, memory.reshape(1, runs * agents, -1))
        return self.head(output).view(runs, agents, -1), kept.view(runs, agents, -1)
