"""The contract of a reward.

class TestMine(RewardContract):
    ref = "./mine.py:steady"
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError, did_you_mean
from ganno_bench.marl.guards import reward_fault, value_fault
from ganno_bench.marl.rewards import CEILING, Reward, Transition, load_reward
from ganno_bench.testing.contract import Check, CheckResult, Contract, check_all, unchanged
from ganno_bench.testing.playing import ContractError, first_line
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.training.signals import OPTIONAL_SIGNALS

__all__ = ["CHECKS", "RewardContract", "check_reward", "load_entry"]

_CHANCE = 2.3
_DECISIONS = (0, 10, 25, 60)


def load_entry(ref: str) -> Reward:
    """Return a reward, given a registered name or `./file.py:name`.

    Raises:
        UnknownNameError: There is no such reward.
        PluginError: It is not a reward, or it needs an unknown signal.
    """
    found = load_reward(ref)
    if unknown := sorted(found.needs - set(OPTIONAL_SIGNALS)):
        nearest = did_you_mean(unknown[0], OPTIONAL_SIGNALS)
        raise PluginError(f"reward {ref!r} needs the unknown signal {unknown[0]!r}{nearest}")
    return found


def check_shape(reward: Reward) -> None:
    """It is a floating-point tensor: shape (P, L) if each agent has its own reward, otherwise (P, 1)."""
    for transition in transitions(synthetic_runs(60), reward):
        if fault := reward_fault(reward, reward.compute(transition), transition):
            raise ContractError(f"{_when(transition)}: {fault}")


def check_finite(reward: Reward) -> None:
    """It is finite and at most 1e6 in size at every decision, also if a run diverges or its losses are 0."""
    runs = synthetic_runs(60)
    solved = replace(
        runs,
        train_loss=torch.zeros_like(runs.train_loss),
        val_loss=torch.zeros_like(runs.val_loss),
        layers={name: torch.zeros_like(values) for name, values in runs.layers.items()},
    )
    for episode in (runs, runs.diverging(1, n_updates=15), runs.diverging(0, n_updates=1), solved):
        for transition in transitions(episode, reward, decisions=range(runs.total + 1)):
            if fault := value_fault(reward.compute(transition), transition):
                raise ContractError(f"{_when(transition)}, {fault}")


def check_needs(reward: Reward) -> None:
    """Its values are the same if the signals that `needs` does not name are None."""
    both = (transitions(synthetic_runs(60), reward), transitions(synthetic_runs(60), reward, reward.needs))
    for transition, less in zip(*both, strict=True):
        try:
            got = reward.compute(less)
        except Exception as error:
            raise ContractError(
                f"{_when(transition)}, with needs = {sorted(reward.needs)} and the other signals None: "
                f"raised {first_line(error)}"
            ) from error
        unchanged(reward.compute(transition), got, f"{_when(transition)}: with needs = {sorted(reward.needs)}")


def check_deterministic(reward: Reward) -> None:
    """The same decision gives the same reward again."""
    for transition in transitions(synthetic_runs(60), reward):
        unchanged(reward.compute(transition), reward.compute(transition), f"{_when(transition)}: the second time")


def check_inputs_unchanged(reward: Reward) -> None:
    """It does not change the transition in place."""
    for transition in transitions(synthetic_runs(60), reward):
        before = copy.deepcopy(transition)
        reward.compute(transition)
        unchanged(before, transition, f"{_when(transition)}: changed transition")


def check_independent_runs(reward: Reward) -> None:
    """The reward of a run is the same at any place among the runs, and alone."""
    runs = synthetic_runs(60)
    for others in ([2, 0, 1], [1]):
        for all_of_them, some in zip(transitions(runs, reward), transitions(runs.select(others), reward), strict=True):
            expected, got = reward.compute(all_of_them)[others], reward.compute(some)
            if not torch.allclose(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True):
                raise ContractError(f"{_when(some)}: expected the same for runs {others} as among [0, 1, 2]")


_GATES = (check_shape,)
CHECKS: tuple[Check, ...] = (
    *_GATES,
    check_finite,
    check_needs,
    check_deterministic,
    check_inputs_unchanged,
    check_independent_runs,
)
"""Each check takes a `Reward`."""


def check_reward(ref: str) -> list[CheckResult]:
    """Check a reward against the contract.

    Args:
        ref: A registered name, or `./file.py:name`.
    """
    return check_all(lambda: load_entry(ref), CHECKS, _GATES)


class RewardContract(Contract):
    """The contract as pytest tests. Derive a class `Test...` and set `ref`."""

    checks: ClassVar[Sequence[Check]] = CHECKS
    load = staticmethod(load_entry)


def transitions(
    runs: SyntheticRuns,
    reward: Reward,
    needs: Collection[str] = OPTIONAL_SIGNALS,
    decisions: Sequence[int] = _DECISIONS,
) -> Iterator[Transition]:
    """Yield transitions: by default three, the first, one in between, and the last.

    Args:
        runs: The runs.
        reward: The reward, which decides whether transitions have `val_without`.
        needs: Optional signals; the others are None.
        decisions: Number of updates done at each decision, then at the end.
    """
    run = runs.info()
    rates = run.base_lr[:, None] * torch.linspace(0.5, 2.0, run.n_layers, dtype=torch.float64)
    lr_before, since = run.base_lr[:, None].expand_as(rates), 0
    for first, last in pairwise(decisions):
        lr = rates / (1 + first)
        before, after = runs.signals(first, since, lr_before, needs), runs.signals(last, first, lr, needs)
        train_after = _cut(after.train_loss)
        val_before, val_after = (
            _cut(torch.where(signals.diverged, torch.nan, runs.val_loss[done]))
            for signals, done in ((before, first), (after, last))
        )
        factors = torch.linspace(0.9, 1.1, run.n_layers, dtype=torch.float64)
        yield Transition(
            before=before,
            after=after,
            val_before=val_before,
            val_after=val_after,
            train_before=_cut(before.train_loss) if first else train_after,
            train_after=train_after,
            chance_loss=_CHANCE,
            lr_before=lr_before,
            n_updates=last - first,
            done=last == decisions[-1],
            val_without=_cut(val_after[:, None] * factors) if reward.reruns else None,
        )
        lr_before, since = lr, first


def _cut(loss: Tensor) -> Tensor:
    """Return losses, limited as the environment limits them for rewards."""
    return loss.nan_to_num(CEILING * _CHANCE, CEILING * _CHANCE).clamp(1e-6, CEILING * _CHANCE)


def _when(transition: Transition) -> str:
    return f"decision after {transition.before.n_updates} updates"
