"""Statistics of collected episodes, and the fixed episodes that evaluate a policy in training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.policies.policy import Policy

__all__ = ["evaluate_greedily", "explained_variance", "mean_over_runs", "whole_episodes"]


def mean_over_runs(advantage: Tensor, alive: Tensor) -> Tensor:
    """Return the mean advantage at each decision, shape (1, T, 1, 1), over runs that have not diverged.

    Args:
        advantage: Shape (P, T, A, 1).
        alive: Whether a run has not diverged, shape (P, T, 1).
    """
    weight = alive[..., None].to(advantage.dtype)
    total = (advantage * weight).sum(dim=(0, 2), keepdim=True)
    return total / (weight.sum(dim=0, keepdim=True) * advantage.shape[2]).clamp(min=1.0)


def whole_episodes(episode: TensorDictBase) -> list[TensorDictBase]:
    """Cut each run where it diverged, and return the runs of each length together, shape (runs, length)."""
    lengths = (~episode["diverged"]).sum(dim=(1, 2))
    return [episode[lengths == length][:, :length] for length in lengths.unique().tolist()]


def explained_variance(parts: Sequence[TensorDictBase]) -> float:
    """Return the share of the returns' variance that the critic's values explain.

    It covers all decisions of a batch at once. Over a few runs it can be any number below 1, and so can a mean of such
    shares. The best value is 1; a critic with a constant value has 0; it is NaN if all returns are equal.
    """
    values, returns = (
        torch.cat([part["agents", key].flatten() for part in parts]).double() for key in ("state_value", "value_target")
    )
    variance = float(returns.var(correction=0))
    return 1.0 - float((returns - values).var(correction=0)) / variance if variance > 0 else math.nan


def evaluate_greedily(policy: Policy, env: LayerwiseLREnv) -> Tensor:
    """Return ln(final validation loss / chance loss) of each run of a fixed episode, shape (P,), at most ln 2.

    A third of the runs has a tenth of the optimizer's default base learning rate, a third the default, and a third ten
    times the default.

    Args:
        policy: The policy.
        env: An environment with the policy's observations and actions.
    """
    runs, spec = env.batch_size[0], env.engine.workload.spec
    defaults = env.defaults
    factors = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64).repeat(-(-runs // 3))[:runs]
    seeds = [stream_seed("policy-validation", index // 3) for index in range(runs)]
    env.begin(seeds, defaults.base_lr * factors, torch.full((runs,), defaults.weight_decay, dtype=torch.float64))
    memory = policy.controller.init(env.engine.run_info(defaults.base_lr * factors, factors)).hidden
    for _ in range(env.n_decisions):
        action, memory = policy.recall(env.seen, memory)
        env.act(action)
    assert env.n_updates == spec.n_updates
    return (env.validation_loss / env.engine.workload.dataset.chance_loss).log()
