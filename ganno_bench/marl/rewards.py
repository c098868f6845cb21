"""What agents are rewarded for: small pure functions of what a decision led from and to.

A reward is shared by the agents of a run, shape (P, 1), or each has its own, shape (P, L). Losses are cut off at
`CEILING` times the chance loss, which is also what a diverged run counts as; so a reward is always finite. Validation
losses are those of a small part of the validation split; test data is nowhere.
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
"""Losses count as at most so many times the chance loss."""


@dataclass(frozen=True)
class Transition:
    """One decision and what came of it.

    Attributes:
        before: Signals at the decision.
        after: Signals when the next one is due.
        val_before: Validation loss at the decision, nats, shape (P,), cut off.
        val_after: When the next one is due.
        train_before: Training loss of the interval before the decision, cut off; of the interval itself at the first.
        train_after: Training loss of the decision's interval, cut off.
        chance_loss: Of the dataset, nats.
        lr_before: Learning rates of the last update before the decision, shape (P, L); the base learning rate at first.
        n_updates: Updates in the interval.
        done: Whether this was the last decision.
        val_without: What `val_after` would be, had the layer's learning rate been left as it was, shape (P, L); None
            unless a reward asks for it.
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
        compute: The function.
        needs: Optional signals that it reads.
        per_agent: Whether each agent has its own.
        summary: What it is, in a line.
        reruns: Whether it reads `val_without`, for which each interval is run again once for each layer.
    """

    compute: Callable[[Transition], Tensor]
    needs: frozenset[str]
    per_agent: bool
    summary: str
    reruns: bool = False


def reward(
    *needs: str, per_agent: bool = False, reruns: bool = False
) -> Callable[[Callable[[Transition], Tensor]], Reward]:
    """Make a reward of a function, whose docstring's first line says what it is."""

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
"""Reward name -> where it is."""


def load_reward(ref: str) -> Reward:
    """Return a reward: of a registered name, or `./file.py:name`.

    Raises:
        UnknownNameError: There is none; the message has the nearest name.
        PluginError: Importing it failed, or it is no reward.
    """
    found = REWARDS.load(ref)
    if not isinstance(found, Reward):
        raise PluginError(f"reward {ref!r} is no Reward but of type {type(found).__name__}; put @reward() above it")
    return found


def load_rewards(weights: Mapping[str, float]) -> list[tuple[str, Reward, float]]:
    """Return names, rewards and weights; see `load_reward`. Those of others get copies, and leave the process alone."""
    rewards = []
    for name, weight in weights.items():
        found = load_reward(name)
        if found.compute.__module__ != __name__:
            found = replace(found, compute=apart(f"reward {name!r}", found.compute))
        rewards.append((name, found, weight))
    return rewards


@reward()
def log_validation(transition: Transition) -> Tensor:
    """Logarithm of the validation loss before, minus after: it adds up to that of the whole run."""
    return (transition.val_before.log() - transition.val_after.log())[:, None]


@reward()
def log_training(transition: Transition) -> Tensor:
    """Logarithm of the training loss before, minus after."""
    return (transition.train_before.log() - transition.train_after.log())[:, None]


@reward()
def terminal(transition: Transition) -> Tensor:
    """Nothing until the end, then the logarithm of the chance loss over the final validation loss."""
    final = (transition.chance_loss / transition.val_after).log()
    return (final if transition.done else torch.zeros_like(final))[:, None]


@reward("grad_norm", "direction_norm", "grad_cosine", per_agent=True)
def difference(transition: Transition) -> Tensor:
    """By how much the layer's choice lowered the loss, to first order, compared with leaving its learning rate alone.

    The counterfactual changes one layer's learning rate and nothing else. To first order the loss then differs by the
    difference of the learning rates times the updates times the inner product of gradient and direction, which is
    |gradient| |direction| cos(gradient, momentum) up to what the optimizer does to the momentum. Relative to the loss,
    and within [-1, 1]. 0 in a run that diverged.
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
    """Logarithm of the validation loss, had the layer's learning rate been left alone, minus the real one.

    The interval is run again, once for each layer: what `difference` estimates, at the price of as many more updates as
    there are layers. Within [-1, 1]. 0 in a run that had diverged before, and for a layer that was left alone.
    """
    assert transition.val_without is not None
    gain = transition.val_without.log() - transition.val_after.log()[:, None]
    return torch.where(transition.before.diverged[:, None], 0.0, gain.clamp(-1.0, 1.0))
