"""Checks of the rewards and observations of plugins, before a policy learns from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError, one_line
from ganno_bench.marl.rewards import Reward, Transition
from ganno_bench.policies.observations import Feature, View

__all__ = ["LARGEST", "check_seen", "reward_fault", "rewarded", "value_fault"]

LARGEST = 1e6
"""Limit of |weight * reward|. In larger numbers, float32 cannot represent differences below 0.1."""


def reward_fault(reward: Reward, got: object, transition: Transition) -> str:
    """Return what is wrong with the type or shape of a reward's result, or an empty string."""
    n_runs, n_layers = transition.lr_before.shape
    expected = (n_runs, n_layers if reward.per_agent else 1)
    if isinstance(got, Tensor) and got.is_floating_point() and got.shape == expected:
        return ""
    return f"expected floating-point numbers of shape {expected}, as per_agent is {reward.per_agent}, got {_form(got)}"


def value_fault(got: Tensor, transition: Transition) -> str:
    """Return which of the rewards, shape (P, L) or (P, 1), is not finite or too large, or an empty string."""
    bad = (~(got.abs() <= LARGEST)).nonzero().tolist()
    if not bad:
        return ""
    value, state = float(got[tuple(bad[0])]), "diverged" if bool(transition.after.diverged[bad[0][0]]) else "sound"
    expected = f"a reward of at most {LARGEST:g} in size" if abs(value) < torch.inf else "a finite reward"
    return f"a {state} run: expected {expected}, got {value:g} (run {bad[0][0]} of {len(got)})"


def rewarded(name: str, reward: Reward, weight: float, transition: Transition, where: str) -> Tensor:
    """Return a reward times its weight, shape (P, L) or (P, 1).

    Args:
        name: The name of the reward in the configuration.
        reward: The reward.
        weight: Its weight.
        transition: The decision.
        where: Workload and decision, for messages.

    Raises:
        PluginError: The reward raised an exception, or its result has a wrong type or shape, is not finite, or exceeds
            `LARGEST`.
    """
    place = f"reward {name!r} on {where}"
    got = _called(lambda: reward.compute(transition), place)
    if fault := reward_fault(reward, got, transition):
        raise PluginError(f"{place}: {fault}")
    weighted: Tensor = weight * got
    if fault := value_fault(weighted, transition):
        raise PluginError(f"{place}, {fault}" + (f"; its weight is {weight:g}" if weight != 1.0 else ""))
    return weighted


def check_seen(name: str, feature: Feature, view: View, where: str, *, finite: bool) -> None:
    """Check the values of an observation.

    Args:
        name: The name of the observation in the configuration.
        feature: The observation.
        view: The runs.
        where: Workload and decision, for messages.
        finite: Whether values must be finite. Before all signals are measured, they may be NaN.

    Raises:
        PluginError: The observation raised an exception, or its result has a wrong type or shape, or is not finite for
            a run that has not diverged.
    """
    place = f"observation {name!r} on {where}"
    got, (n_runs, n_layers) = _called(lambda: feature.compute(view), place), view.lr.shape
    shapes = ((n_runs, n_layers), (n_runs, 1))
    if not isinstance(got, Tensor) or not got.is_floating_point() or got.shape not in shapes:
        raise PluginError(
            f"{place}: expected floating-point numbers of shape {shapes[0]} or {shapes[1]}, got {_form(got)}"
        )
    bad = (~got.isfinite() & ~view.signals.diverged[:, None]).nonzero().tolist()
    if finite and bad:
        value = float(got[tuple(bad[0])])
        raise PluginError(f"{place}: expected finite values, got {value:g} (run {bad[0][0]} of {n_runs})")


def _called(function: Callable[[], Any], place: str) -> Any:
    try:
        return function()
    except PluginError as error:
        raise PluginError(f"{place}: {error}") from error
    except Exception as error:
        raise PluginError(f"{place}: raised {one_line(error)}") from error


def _form(got: object) -> str:
    return f"{got.dtype} of shape {tuple(got.shape)}" if isinstance(got, Tensor) else type(got).__name__
