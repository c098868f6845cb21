"""Plain numbers decide what tensors do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from policy_cases import make_policy, make_run

from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.observations import OBSERVATIONS, NumberView, load_feature, observe_numbers
from ganno_bench.policies.one_run import OneRun
from ganno_bench.policies.policy import Policy
from ganno_bench.training.signals import RunInfo, Signals

SEEN = tuple(name for name in OBSERVATIONS.entries() if load_feature(name).of_run is not None)
ACTIONS = {
    "multipliers": ActionSpec(scope="network", bound=2.0, reference="wsd"),
    "log-scale": ActionSpec(scope="network", bound=1.0, max_step=0.7, reference="warmup-cosine"),
}
LOSSES = (math.nan, 2.5, 1.7, math.nan, 1.9, math.inf, 1.1, 0.0, 0.4)
"""NaN where no loss of an interval was finite, infinite where their sum was not."""


def episode(policy: Policy, run: RunInfo, val_losses: tuple[float, ...]) -> Iterator[tuple[OneRun, list[float]]]:
    """Yield the run in numbers and its learning rates, decision by decision, each compared with that of tensors."""
    one, state, lr = OneRun(policy, run), policy.controller.init(run), float(run.base_lr)
    for index, (train_loss, val_loss) in enumerate(zip(LOSSES, val_losses, strict=True)):
        signals = Signals(
            n_updates=7 * index,
            total_updates=run.total_updates,
            diverged=torch.tensor([False]),
            lr=torch.full((1, run.n_layers), lr if index else math.nan, dtype=torch.float64),
            train_loss=torch.tensor([train_loss], dtype=torch.float64),
            val_loss=torch.tensor([val_loss], dtype=torch.float64),
        )
        controls, state = policy.control(state, run, signals)
        rates = one.decide(7 * index, lr, train_loss, val_loss)
        expected = torch.tensor(rates, dtype=torch.float64)[:, None, None].expand(-1, 1, run.n_layers)
        torch.testing.assert_close(controls.lr, expected, rtol=1e-12, atol=0.0)
        for name, value in one.state.state_dict().items():
            torch.testing.assert_close(state.state_dict()[name], value, rtol=1e-12, atol=1e-12, equal_nan=True)
        yield one, rates
        lr = rates[-1]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_those_of_tensors(seed: int, action: ActionSpec, optimizer: str) -> None:
    policy = make_policy(seed, observation=SEEN, interval=7, action=action)
    run = make_run([0.03], 3, 60, optimizer)
    rates = [rate for _, several in episode(policy, run, tuple(1.1 * loss for loss in LOSSES)) for rate in several]
    assert len(rates) == 60
    assert len(set(rates)) > 8


@pytest.mark.parametrize("total", [1, 6])
def test_a_horizon_may_be_shorter_than_an_interval(total: int) -> None:
    policy = make_policy(observation=SEEN, interval=7, action=ACTIONS["multipliers"])
    _, rates = next(episode(policy, make_run([0.03], 3, total), LOSSES))
    assert len(rates) == total


def test_what_cannot_be_computed_shows_nothing() -> None:
    view = NumberView(make_run([0.03], 3), 0.5, 0.1, 0.0, dict.fromkeys(("train", "first"), 1.0))
    features = [lambda view: view.log_loss("train") / view.log_loss("first"), lambda view: 1.0, lambda view: 10.0**400]
    assert observe_numbers(features, view) == [0.0, 1.0, 0.0]


def test_a_run_goes_on_from_the_state_of_tensors() -> None:
    policy, run = make_policy(observation=SEEN, interval=7, action=ACTIONS["multipliers"]), make_run([0.03], 3)
    states, lr = [OneRun(policy, run).state], 0.03
    for index, (one, rates) in enumerate(episode(policy, run, LOSSES)):
        resumed = OneRun(policy, run)
        resumed.state = states[-1]
        assert resumed.decide(7 * index, lr, LOSSES[index], LOSSES[index]) == rates
        states.append(one.state)
        lr = rates[-1]


@pytest.mark.parametrize(
    "card",
    [
        {"action": ActionSpec()},
        {"action": ActionSpec(scope="network", decay_multipliers=(0.5, 1.0))},
        {"action": ACTIONS["log-scale"], "actor": ActorSpec(memory=3)},
        {"action": ACTIONS["log-scale"], "observation": ("progress", "relative-depth")},
        {"action": ACTIONS["log-scale"], "observation": ("progress", "log-grad-norm")},
    ],
)
def test_what_numbers_cannot_follow(card: dict[str, Any]) -> None:
    assert not OneRun.fits(make_policy(**{"observation": SEEN} | card))
    assert OneRun.fits(make_policy(observation=SEEN, action=ACTIONS["log-scale"]))


def test_what_all_agents_see_alike_is_told_in_numbers() -> None:
    layers = {"log-grad-norm", "log-param-norm", "log-update-ratio", "log-grad-ratio", "grad-cosine", "grad-snr"}
    assert set(OBSERVATIONS.entries()) - set(SEEN) == layers | {"relative-depth", "log-decay-factor"}
