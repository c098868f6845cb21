"""Rewards: small pure functions of the runs before and after a decision.

The agents of a run share a reward, shape (P, 1), or each has its own, shape (P, L). Losses are clipped at `CEILING`
times the chance loss, which is also the loss of a diverged run, so a reward is always finite. Validation losses are
computed on a small part of the validation split. No reward can read test data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.core.process_state import apart
from ganno_bench.core.registry import Registry
from ganno_bench.training.signals import Signals

__all__ = ["CEILING", "REWARDS", "Reward", "Transition", "load_reward", "load_rewards", "reward"]

CEILING = 2.0
"""Upper limit of losses, as a multiple of the chance loss."""


@dataclass(frozen=True)
class Transition:
    """One decision of P runs and its results. Losses are in nats and clipped.

    Attributes:
        before: Signals at the decision.
        after: Signals at the end of its decision interval.
        val_before: Validation loss at the decision, shape (P,).
        val_after: Validation loss at the end of the decision interval, shape (P,).
        train_before: Training loss of the previous decision interval, shape (P,); equal to `train_after` at the first
            decision.
        train_after: Training loss of the decision interval, shape (P,).
        chance_loss: Chance loss of the dataset, nats.
        lr_before: Learning rates of the last update before the decision, shape (P, L); the base learning rate at first.
        n_updates: The number of updates in the decision interval.
        done: Whether this was the last decision of the episode.
        val_without: For each layer, `val_after` if only that layer had kept its learning rate, shape (P, L). None
            unless a reward has `reruns`.
    """

    before: Signals
    after: Signals
    val_before: Tensor
    val_after: Tensor
    train_before: Tensor
    train_after: Tensor
    chance_loss: float
    lr_before: Tensor
    n_updates: int
    done: bool
    val_without: Tensor | None = None


@dataclass(frozen=True)
class Reward:
    """A registered reward.

    Attributes:
        compute: The function of a `Transition`.
        needs: Optional signals that it reads.
        per_agent: Whether each agent has its own reward.
        summary: One line about the reward.
        reruns: Whether it reads `val_without`, for which each decision interval is trained again once for each layer.
    """

    compute: Callable[[Transition], Tensor]
    needs: frozenset[str]
    per_agent: bool
    summary: str
    reruns: bool = False


def reward(
    *needs: str, per_agent: bool = False, reruns: bool = False
) -> Callable[[Callable[[Transition], Tensor]], Reward]:
    """Turn a function into a reward. The first line of its docstring becomes the summary.

    Args:
        needs: Optional signals that it reads.
        per_agent: Whether each agent has its own reward.
        reruns: Whether it reads `Transition.val_without`.
    """

    def wrap(compute: Callable[[Transition], Tensor]) -> Reward:
        return Reward(compute, frozenset(needs), per_agent, (compute.__doc__ or "").partition("\n")[0], reruns)

    return wrap


REWARDS = Registry(
    "reward",
    {
        "log-validation": "ganno_bench.marl.rewards:log_validation",
        "log-training": "ganno_bench.marl.rewards:log_training",
        "terminal": "ganno_bench.marl.rewards:terminal",
        "difference": "ganno_bench.marl.rewards:difference",
        "difference-exact": "ganno_bench.marl.rewards:difference_exact",
    },
    group="ganno_bench.rewards",
    accepts=lambda value: isinstance(value, Reward),
)
"""Reward name -> where its code is."""


def load_reward(ref: str) -> Reward:
    """Return a reward.

    Args:
        ref: A registered name, or `./file.py:name`.

    Raises:
        UnknownNameError: There is none; the message has the nearest name.
        PluginError: Importing it failed, or it is not a reward.
    """
    found = REWARDS.load(ref)
    if not isinstance(found, Reward):
        raise PluginError(
            f"reward {ref!r}: expected a Reward, got {type(found).__name__}; put @reward() above the function"
        )
    return found


def load_rewards(weights: Mapping[str, float]) -> list[tuple[str, Reward, float]]:
    """Return names, rewards and weights; see `load_reward`.

    Rewards of plugins get copies and cannot change the process.

    Args:
        weights: Name -> weight.
    """
    rewards = []
    for name, weight in weights.items():
        found = load_reward(name)
        if found.compute.__module__ != __name__:
            found = replace(found, compute=apart(f"reward {name!r}", found.compute))
        rewards.append((name, found, weight))
    return rewards


@reward()
def log_validation(transition: Transition) -> Tensor:
    """Decrease of ln(validation loss). Over an episode it adds up to ln(first loss / final loss)."""
    return (transition.val_before.log() - transition.val_after.log())[:, None]


@reward()
def log_training(transition: Transition) -> Tensor:
    """Decrease of ln(training loss)."""
    return (transition.train_before.log() - transition.train_after.log())[:, None]


@reward()
def terminal(transition: Transition) -> Tensor:
    """0 until the last decision, then ln(chance loss / final validation loss)."""
    final = (transition.chance_loss / transition.val_after).log()
    return (final if transition.done else torch.zeros_like(final))[:, None]


@reward("grad_norm", "direction_norm", "grad_cosine", per_agent=True)
def difference(transition: Transition) -> Tensor:
    """First-order estimate of how much the layer's choice lowered the loss, compared with keeping its learning rate.

    The counterfactual changes the learning rate of one layer only. To first order, the losses then differ by the
    difference of the learning rates times the number of updates times the inner product of gradient and direction. The
    estimate of the inner product is |gradient| |direction| cos(gradient, momentum); it neglects how the optimizer
    transforms the momentum. The reward is relative to the training loss, in [-1, 1], and 0 for a diverged run.
    """
    after = transition.after
    assert after.grad_norm is not None
    assert after.direction_norm is not None
    assert after.grad_cosine is not None
    slope = after.grad_norm * after.direction_norm * after.grad_cosine
    gain = (after.lr - transition.lr_before) * transition.n_updates * slope / transition.train_after[:, None]
    return gain.nan_to_num(0.0, 0.0, 0.0).clamp(-1.0, 1.0)


@reward(per_agent=True, reruns=True)
def difference_exact(transition: Transition) -> Tensor:
    """ln(validation loss if the layer had kept its learning rate / real validation loss).

    It measures what `difference` estimates. Each decision interval is trained again once for each layer, so an episode
    takes L times as many updates in addition. The reward is in [-1, 1]. It is 0 for a run that had diverged before, and
    for a layer that kept its learning rate.
    """
    assert transition.val_without is not None
    gain = transition.val_without.log() - transition.val_after.log()[:, None]
    return torch.where(transition.before.diverged[:, None], 0.0, gain.clamp(-1.0, 1.0))
