"""Decisions computed with plain numbers equal those computed with tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from ganno_bench.policies import one_run
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.observations import (
    OBSERVATIONS,
    Array,
    Number,
    NumberView,
    before_it_begins,
    load_feature,
    observe_numbers,
    run_feature,
)
from ganno_bench.policies.one_run import OneRun
from ganno_bench.policies.policy import Policy
from ganno_bench.training.signals import LAYER_SIGNALS, RunInfo, Signals
from tests.helpers.policy_cases import make_policy, make_run

SEEN = tuple(name for name in OBSERVATIONS.entries() if load_feature(name).of_run is not None)
OF_LAYERS = {"log-grad-norm", "log-param-norm", "log-update-ratio", "log-grad-ratio", "grad-cosine", "grad-snr"}
ALIKE = tuple(name for name in SEEN if name not in OF_LAYERS | {"relative-depth"})
ACTIONS = {
    "multipliers": ActionSpec(bound=2.0, reference="wsd"),
    "log-scale": ActionSpec(bound=1.0, max_step=0.7, reference="warmup-cosine"),
}
LOSSES = (math.nan, 2.5, 1.7, math.nan, 1.9, math.inf, 1.1, 0.0, 0.4)
"""NaN: no loss of the decision interval was finite. Infinite: their sum was not finite."""


def episode(policy: Policy, run: RunInfo, val_losses: tuple[float, ...]) -> Iterator[tuple[OneRun, list[list[float]]]]:
    """Yield the run in numbers and its learning rates at each decision, after comparing them with those of tensors."""
    one, state = OneRun(policy, run), policy.controller.init(run)
    lr = np.full(run.n_layers, float(run.base_lr))
    each = policy.card.action.scope == "layer"
    for index, (train_loss, val_loss) in enumerate(zip(LOSSES, val_losses, strict=True)):
        layers = layer_signals(run, index)
        signals = Signals(
            n_updates=7 * index,
            total_updates=run.total_updates,
            diverged=torch.tensor([False]),
            lr=torch.from_numpy(lr if index else lr * math.nan)[None],
            train_loss=torch.tensor([train_loss], dtype=torch.float64),
            val_loss=torch.tensor([val_loss], dtype=torch.float64),
            **{name: torch.from_numpy(values)[None] for name, values in layers.items()},
        )
        controls, state = policy.control(state, run, signals)
        rates = one.decide(7 * index, lr if each else float(lr[0]), train_loss, val_loss, layers)
        expected = torch.tensor(rates, dtype=torch.float64)[:, None].expand(-1, 1, run.n_layers)
        torch.testing.assert_close(controls.lr, expected, rtol=1e-12, atol=0.0)
        for name, value in one.state.state_dict().items():
            torch.testing.assert_close(state.state_dict()[name], value, rtol=1e-12, atol=1e-12, equal_nan=True)
        yield one, rates
        lr = np.broadcast_to(rates[-1], run.n_layers).copy()


def layer_signals(run: RunInfo, index: int) -> dict[str, Array]:
    """Return the layer signals at a decision, including extreme ones; NaN before the first update."""
    generator = np.random.default_rng(index)
    signals = {name: 10.0 ** generator.uniform(-6.0, 2.0, run.n_layers) for name in LAYER_SIGNALS}
    for name, value in zip(LAYER_SIGNALS, (0.0, math.inf, math.nan, 1e30, 1e-30), strict=False):
        signals[name][index % run.n_layers] = value
    return signals if index else {name: values * math.nan for name, values in signals.items()}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ["each", "no-layerwise", "network", "alike", "each-alike"])
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
@pytest.mark.parametrize("seed", range(3))
def test_decisions_are_those_of_tensors(seed: int, action: ActionSpec, kind: str, optimizer: str) -> None:
    if kind in ("network", "alike"):
        action = action.model_copy(update={"scope": "network"})
    observation = ALIKE if kind == "alike" else ("progress", "val-gap") if kind == "each-alike" else SEEN
    policy = make_policy(
        seed, observation=observation, interval=7, action=action, layerwise_observation=kind != "no-layerwise"
    )
    run = make_run([0.03], 3, 60, optimizer)
    val_losses = tuple(1.1 * loss for loss in LOSSES)
    rates = [tuple(rate) for _, several in episode(policy, run, val_losses) for rate in several]
    assert len(rates) == 60
    assert {len(rate) for rate in rates} == {3 if action.scope == "layer" else 1}
    assert len(set(rates)) > 8
    if action.max_step is not None:  # multipliers may be the same by chance
        assert (max(len(set(rate)) for rate in rates) > 1) == (kind in ("each", "no-layerwise"))


@pytest.mark.parametrize("total", [1, 6])
@pytest.mark.parametrize("n_layers", [1, 3])
def test_a_horizon_may_be_shorter_than_an_interval(total: int, n_layers: int) -> None:
    policy = make_policy(observation=SEEN, interval=7, action=ACTIONS["multipliers"])
    _, rates = next(episode(policy, make_run([0.03], n_layers, total), LOSSES))
    assert len(rates) == total


def test_what_cannot_be_computed_shows_nothing() -> None:
    view = NumberView(make_run([0.03], 3), 0.5, 0.1, 0.0, dict.fromkeys(("train", "first"), 1.0))
    features = [lambda view: view.log_loss("train") / view.log_loss("first"), lambda view: 1.0, lambda view: 10.0**400]
    table, alike = np.ones((5, 3)), np.ones(4)
    assert observe_numbers(features, view, table, alike).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert observe_numbers(features, view, table).T.tolist() == [[0.0, 1.0, 0.0, 1.0, 1.0]] * 3
    features.append(lambda view: np.array([math.nan, 5.0, -math.inf]))
    seen = observe_numbers(features, view, table, alike)
    assert seen.T.tolist() == [[0.0, 1.0, 0.0, last, 1.0] for last in (0.0, 3.0, -3.0)]


@pytest.mark.parametrize("name", SEEN)
def test_what_is_constant_is_known_of_the_run_alone(name: str) -> None:
    feature, known = load_feature(name), before_it_begins(make_run([0.03], 3))
    assert feature.of_run is not None
    if feature.constant:
        assert feature.of_run(known) != 0.0
    else:
        with pytest.raises(AttributeError):
            feature.of_run(known)


def test_what_is_constant_and_cannot_be_computed_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(observation=("progress", "log-layers"), interval=7)
    nothing = run_feature(constant=True)(lambda view: view.everywhere(1.0 / (view.run.n_layers - 3)))
    monkeypatch.setattr(policy.controller, "features", (policy.controller.features[0], nothing))
    one = OneRun(policy, make_run([0.03], 3, 60))
    one.decide(7, np.full(3, 0.03), 1.0)
    assert one._table[1].tolist() == [0.0] * 3


@pytest.mark.parametrize("ahead", [1, 7, 17, 41])
def test_how_far_ahead_the_curve_is_computed_makes_no_difference(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_run, "AHEAD", ahead)
    policy = make_policy(observation=SEEN, interval=7, action=ACTIONS["log-scale"])
    several = [one for one, _ in episode(policy, make_run([0.03], 3, 60), LOSSES)]
    lr = np.full(3, 0.03)
    back = [several[-1].decide(first, lr, 1.0, 1.0, layer_signals(several[-1]._run, 1)) for first in (56, 7, 21, 20)]
    assert [len(rates) for rates in back] == [4, 7, 7, 7]
    multiples = [[rate[0] / rates[0][0] for rate in rates] for rates in back]
    curves = [policy.card.action.curve(60, first, n) for first, n in ((56, 4), (7, 7), (21, 7), (20, 7))]
    np.testing.assert_allclose(
        np.concatenate(multiples), np.concatenate([np.array(curve) / curve[0] for curve in curves]), rtol=1e-12
    )


@pytest.mark.parametrize("scope", ["layer", "network"])
def test_a_run_goes_on_from_the_state_of_tensors(scope: str) -> None:
    action = ACTIONS["multipliers"].model_copy(update={"scope": scope})
    policy, run = make_policy(observation=SEEN, interval=7, action=action), make_run([0.03], 3)
    states = [OneRun(policy, run).state]
    lr: Number = np.full(3, 0.03) if scope == "layer" else 0.03
    for index, (one, rates) in enumerate(episode(policy, run, LOSSES)):
        resumed = OneRun(policy, run)
        resumed.state = states[-1]
        again = resumed.decide(7 * index, lr, LOSSES[index], LOSSES[index], layer_signals(run, index))
        assert again == rates
        states.append(one.state)
        lr = np.array(rates[-1]) if scope == "layer" else rates[-1][0]


@pytest.mark.parametrize(
    "card",
    [
        {"action": ActionSpec(decay_multipliers=(0.5, 1.0))},
        {"actor": ActorSpec(memory=3)},
        {"observation": ("progress", "log-decay-factor")},
    ],
)
def test_what_numbers_cannot_follow(card: dict[str, Any]) -> None:
    assert not OneRun.fits(make_policy(**{"observation": SEEN} | card))
    assert OneRun.fits(make_policy(observation=SEEN))


def test_what_is_told_in_numbers() -> None:
    assert set(OBSERVATIONS.entries()) - set(SEEN) == {"log-decay-factor"}


def test_layers_may_look_alike_at_one_decision_and_differ_at_the_next() -> None:
    policy, run = make_policy(observation=("progress",), action=ActionSpec(max_step=0.1)), make_run([0.03], 3)
    with torch.no_grad():
        policy.actor.head.weight *= 0.1  # the step is no limit
    one = OneRun(policy, run)
    seen: list[Number] = [0.5, np.array([0.5, -0.5, 0.5]), 0.5]
    rates = []
    for index, value in enumerate(seen):
        one._features[0] = lambda view, value=value: value
        rates.append(one.decide(7 * index, np.full(3, 0.03), 1.0)[0])
    assert [len(set(several)) for several in rates] == [1, 2, 2]
