"""The network of the agents: one set of weights for all layers of all networks."""

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
    """Units of the hidden layers."""


class Actor(nn.Module):
    """A multilayer perceptron from an agent's observation to the parameters of its action's distribution.

    Its last layer starts near 0, so that an untrained actor prefers no action to another.
    """

    def __init__(self, spec: ActorSpec, n_inputs: int, n_outputs: int) -> None:
        """Build the network.

        Args:
            spec: Its hidden layers.
            n_inputs: Features of an agent's observation.
            n_outputs: Logits, or location and log-scale.
        """
        super().__init__()
        sizes = (n_inputs, *spec.hidden)
        parts: list[nn.Module] = []
        for fan_in, fan_out in pairwise(sizes):
            parts += [nn.Linear(fan_in, fan_out), nn.Tanh()]
        self.body = nn.Sequential(*parts)
        self.head = nn.Linear(sizes[-1], n_outputs)
        for linear in self.modules():
            if isinstance(linear, nn.Linear):
                nn.init.orthogonal_(linear.weight, 2**0.5)
                nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.head.weight *= 0.01 / 2**0.5

    def forward(self, observation: Tensor) -> Tensor:
        """Return the distributions' parameters, shape (..., n_outputs), for observations, shape (..., n_inputs)."""
        outputs: Tensor = self.head(self.body(observation))
        return outputs
