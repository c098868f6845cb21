"""What the tests of policies share: policies whose weights are drawn from a fixed seed, so that they do something."""

from __future__ import annotations

from typing import Any

import torch

from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from ganno_bench.training.signals import RunInfo

OBSERVATION = ("progress", "relative-depth", "log-lr-to-default", "loss-change", "grad-cosine", "log-grad-norm")

ACTION_KINDS = {
    "categorical": ActionSpec(),
    "continuous": ActionSpec(max_step=0.7),
    "anchored": ActionSpec(bound=2.3, reference="warmup-cosine"),
    "anchored-continuous": ActionSpec(max_step=0.5, bound=1.0, reference="linear"),
    "network": ActionSpec(scope="network", reference="cosine"),
    "decay": ActionSpec(decay_multipliers=(0.5, 1.0, 2.0)),
    "continuous-network": ActionSpec(scope="network", max_step=0.7),
}


def make_policy(seed: int = 2, **card: Any) -> Policy:
    """Return a policy with random weights; what isn't said of its card has a value of its own."""
    common = {"name": "mine", "observation": OBSERVATION, "actor": ActorSpec(hidden=(8, 5))}
    policy = Policy(PolicyCard(**{**common, **card}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return policy


def set_outputs(policy: Policy, *outputs: float) -> Policy:
    """Let the actor return the same numbers whatever it sees."""
    with torch.no_grad():
        policy.actor.head.weight.zero_()
        policy.actor.head.bias.copy_(torch.tensor(outputs))
    return policy


def make_run(base_lr: list[float], n_layers: int, total: int = 60, optimizer: str = "sgd") -> RunInfo:
    """Return the description of runs with these base learning rates."""
    lr = torch.tensor(base_lr, dtype=torch.float64)
    names = tuple(f"layer{index}" for index in range(n_layers))
    return RunInfo(names, (10,) * n_layers, lr, torch.zeros_like(lr), total, optimizer)
