from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from ganno_bench.core.config import parse_config
from ganno_bench.core.errors import ConfigError
from ganno_bench.policies.actions import ACTIONS, REFERENCES, ActionSpec
from ganno_bench.policies.controller import Controller
from ganno_bench.testing.synthetic import synthetic_runs
from ganno_bench.training.signals import RunInfo
from tests.helpers.policy_cases import ACTION_KINDS, make_run

EVERY_KIND = pytest.mark.parametrize("action", (ACTIONS | ACTION_KINDS).values(), ids=(ACTIONS | ACTION_KINDS).keys())


def factors(action: ActionSpec, *decisions: list[float]) -> list[float]:
    """Return the factors of one run's layers after these decisions."""
    log_factor = torch.zeros(1, len(decisions[0]), dtype=torch.float64)
    for decision in decisions:
        dtype = torch.float32 if action.continuous else torch.int64
        log_factor = action.moved(log_factor, torch.tensor([decision], dtype=dtype))
    assert log_factor.dtype == torch.float64
    return log_factor.exp()[0].tolist()


# Factors


def test_a_categorical_action_multiplies_the_factor() -> None:
    assert factors(ActionSpec(), [0, 1, 2, 3, 4]) == pytest.approx([0.5, 0.8, 1.0, 1.25, 2.0])
    assert factors(ActionSpec(), [0, 4, 2], [0, 4, 2], [3, 1, 2]) == pytest.approx([0.3125, 3.2, 1.0])


def test_multipliers_are_taken_in_the_order_they_are_given() -> None:
    assert factors(ActionSpec(multipliers=(1.0, 10.0, 0.3)), [0, 1, 2]) == pytest.approx([1.0, 10.0, 0.3])


def test_a_continuous_action_is_a_share_of_the_largest_step() -> None:
    action = ActionSpec(max_step=0.7)
    assert factors(action, [-1.0, -0.5, 0.0, 0.5, 1.0]) == pytest.approx(
        [math.exp(0.7 * x) for x in (-1, -0.5, 0, 0.5, 1)]
    )
    assert factors(action, [0.5, -1.0], [0.25, -1.0]) == pytest.approx([math.exp(0.525), math.exp(-1.4)])


def test_a_continuous_action_is_cut_off_at_one() -> None:
    assert factors(ActionSpec(max_step=0.7), [5.0, -5.0]) == pytest.approx([math.exp(0.7), math.exp(-0.7)])


@pytest.mark.parametrize(
    ("action", "up", "down"), [(ActionSpec(bound=1.0), 4, 0), (ActionSpec(max_step=0.7, bound=1.0), 1.0, -1.0)]
)
def test_a_factor_stops_at_its_bound_and_comes_back_at_once(action: ActionSpec, up: float, down: float) -> None:
    step = 0.7 if action.continuous else math.log(2.0)
    assert factors(action, [up, down]) == pytest.approx([math.exp(step), math.exp(-step)])
    assert factors(action, *[[up, down]] * 5) == pytest.approx([math.e, 1 / math.e])
    assert factors(action, *[[up, down]] * 5, [down, up]) == pytest.approx([math.exp(1 - step), math.exp(step - 1)])


def test_the_default_bound_is_a_factor_of_ten_thousand() -> None:
    assert factors(ActionSpec(), *[[4, 0]] * 20) == pytest.approx([1e4, 1e-4], rel=0.02)


@EVERY_KIND
def test_the_neutral_action_leaves_the_factor_alone(action: ActionSpec) -> None:
    moved = 0.5 if action.continuous else 1
    assert factors(action, [moved], [action.neutral], [action.neutral]) == factors(action, [moved])
    assert factors(action, [moved]) != [1.0]


def test_outputs_of_the_actor() -> None:
    assert ActionSpec().n_outputs == 5
    assert ActionSpec(multipliers=(0.5, 1.0)).n_outputs == 2
    assert ActionSpec(max_step=0.1).n_outputs == 2
    assert [ActionSpec().continuous, ActionSpec(max_step=0.1).continuous] == [False, True]


DECAYS = ActionSpec(decay_multipliers=(0.5, 1.0, 4.0))


def test_two_choices_are_independent() -> None:
    outputs = torch.randn(2, 3, DECAYS.n_outputs, generator=torch.Generator().manual_seed(0))
    pairs = torch.distributions.Categorical(logits=DECAYS.logits(outputs))
    rate, decay = (torch.distributions.Categorical(logits=part) for part in outputs.split([5, 3], dim=-1))
    for index in range(DECAYS.n_choices):
        expected = rate.log_prob(torch.tensor(index // 3)) + decay.log_prob(torch.tensor(index % 3))
        torch.testing.assert_close(pairs.log_prob(torch.tensor(index)), expected)
    torch.testing.assert_close(pairs.entropy(), rate.entropy() + decay.entropy())


def test_the_weight_decay_moves_by_the_geometric_mean_of_what_the_agents_choose() -> None:
    controller, run = Controller(["progress"], DECAYS), replace(make_run([0.1, 0.2], 2), weight_decay=torch.ones(2) / 8)
    state = controller.init(run)
    neutral = int(DECAYS.neutral)
    action = torch.tensor([[neutral + 1, neutral], [neutral - 1, neutral - 1]])  # x4 and x1; x0.5 and x0.5
    controls, state = controller.act(state, run, action, 0, 1)
    assert controls.weight_decay is not None
    assert controls.weight_decay.tolist() == pytest.approx([0.25, 0.0625])
    assert state.log_factor.tolist() == [[0.0, 0.0], [0.0, 0.0]]  # learning rates were left alone
    controls, _ = controller.act(state, run, action, 1, 1)
    assert controls.weight_decay is not None
    assert controls.weight_decay.tolist() == pytest.approx([0.5, 0.03125])


def test_without_that_choice_the_weight_decay_is_not_touched() -> None:
    controller, run = Controller(["progress"], ActionSpec()), make_run([0.1], 2)
    assert controller.act(controller.init(run), run, torch.tensor([[0, 4]]), 0, 1)[0].weight_decay is None


# Learning rates

TOTAL = 40


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("constant", {0: 1.0, 1: 1.0, 20: 1.0, 39: 1.0, 40: 1.0}),
        ("linear", {0: 1.0, 1: 0.97525, 10: 0.7525, 20: 0.505, 40: 0.01}),
        (
            "cosine",
            {0: 1.0, 10: 0.505 + 0.495 * math.sqrt(0.5), 20: 0.505, 30: 0.505 - 0.495 * math.sqrt(0.5), 40: 0.01},
        ),
        ("wsd", {0: 1.0, 23: 1.0, 24: 1.0, 32: 0.505, 40: 0.01}),
        ("warmup-cosine", {0: 0.0, 1: 0.5, 2: 1.0, 21: 0.505, 40: 0.01}),
    ],
)
def test_learning_rates_of_each_reference(reference: Any, expected: dict[int, float]) -> None:
    run = make_run([0.1, 0.02], 3, TOTAL)
    log_factor = torch.tensor([[1.0, 2.0, 0.5], [4.0, 1.0, 1.0]], dtype=torch.float64).log()
    lr = ActionSpec(reference=reference).learning_rates(run, log_factor, 0, TOTAL + 1)
    assert lr.shape == (TOTAL + 1, 2, 3)
    assert lr.dtype == torch.float64
    for update, factor in expected.items():
        of_layers = [[0.1 * factor, 0.2 * factor, 0.05 * factor], [0.08 * factor, 0.02 * factor, 0.02 * factor]]
        assert lr[update].tolist() == [pytest.approx(row, abs=1e-15) for row in of_layers]


def test_every_reference_is_a_choice() -> None:
    for name in REFERENCES:
        parse_config(ActionSpec, {"reference": name}, "card.toml")
        assert all(0.0 <= REFERENCES[name](update / 100) <= 1.0 for update in range(100))


def test_a_reference_stays_at_its_end() -> None:
    run = make_run([0.1], 1, TOTAL)
    lr = ActionSpec(reference="linear").learning_rates(run, torch.zeros(1, 1, dtype=torch.float64), TOTAL, 3)
    assert lr.flatten().tolist() == pytest.approx([0.001] * 3)


def formula(reference: str, progress: float) -> float:
    cosine = 0.505 + 0.495 * math.cos(math.pi * progress)
    after_warmup = 0.505 + 0.495 * math.cos(math.pi * (progress - 0.05) / 0.95)
    warmup_cosine = 20.0 * progress if progress < 0.05 else after_warmup
    shapes = {"constant": 1.0, "cosine": cosine, "warmup-cosine": warmup_cosine, "linear": 1.0 - 0.99 * progress}
    return shapes[reference]


@EVERY_KIND
def test_neutral_agents_follow_the_reference_at_every_update(action: ActionSpec) -> None:
    controller, run = Controller(["progress"], action), make_run([0.1, 0.02], 3, TOTAL)
    neutral = torch.full((2, controller.n_agents(3)), action.neutral)
    state, done = controller.init(run), 0
    for n_updates in (7, 1, 30, 2):
        controls, state = controller.act(state, run, neutral if action.continuous else neutral.long(), done, n_updates)
        assert controls.lr.shape == (n_updates, 2, 3)
        assert controls.momentum is None
        assert (controls.weight_decay is None) == (action.decay_multipliers is None)
        assert controls.weight_decay is None or torch.equal(controls.weight_decay, run.weight_decay)
        for update, lr in enumerate(controls.lr, done):
            factor = formula(action.reference, update / TOTAL)
            assert lr.tolist() == [pytest.approx([base * factor] * 3, rel=1e-12) for base in (0.1, 0.02)]
        done += n_updates
    assert done == TOTAL


def test_a_factor_stays_while_the_reference_goes_on() -> None:
    controller, run = Controller(["progress"], ActionSpec(reference="linear")), make_run([0.1], 2, TOTAL)
    before = controller.init(run)
    _, state = controller.act(before, run, torch.tensor([[4, 0]]), 0, 10)
    controls, state = controller.act(state, run, torch.tensor([[4, 2]]), 10, 10)
    assert not before.log_factor.any()  # nothing is changed in place
    for update, lr in enumerate(controls.lr, 10):
        reference = 1.0 - 0.99 * update / TOTAL
        assert lr[0].tolist() == pytest.approx([0.1 * 4.0 * reference, 0.1 * 0.5 * reference])


# One agent for the network


@pytest.mark.parametrize("max_step", [None, 0.7])
def test_one_agent_moves_all_layers_of_a_network(max_step: float | None) -> None:
    controller = Controller(["progress"], ActionSpec(scope="network", max_step=max_step))
    run = make_run([0.1, 0.02], 3)
    assert controller.n_agents(3) == 1
    assert Controller(["progress"], ActionSpec()).n_agents(3) == 3
    action = torch.tensor([[4], [1]]) if max_step is None else torch.tensor([[1.0], [-0.5]])
    expected = [2.0, 0.8] if max_step is None else [math.exp(0.7), math.exp(-0.35)]
    controls, state = controller.act(controller.init(run), run, action, 0, 2)
    assert state.log_factor.exp().tolist() == [pytest.approx([factor] * 3) for factor in expected]
    assert (
        controls.lr.tolist() == [[pytest.approx([0.1 * expected[0]] * 3), pytest.approx([0.02 * expected[1]] * 3)]] * 2
    )


def test_one_agent_sees_the_mean_of_what_the_layers_would() -> None:
    names, runs = ["log-grad-norm", "grad-cosine", "relative-depth", "progress"], synthetic_runs(60)
    run: RunInfo = runs.info()
    seen = {}
    for scope in ("layer", "network"):
        controller = Controller(names, ActionSpec(scope=scope))
        signals = runs.signals(20, 10, run.base_lr[:, None].expand(-1, run.n_layers))
        seen[scope], _ = controller.observe(controller.init(run), run, signals)
    assert seen["network"].shape == (3, 1, 4)
    torch.testing.assert_close(seen["network"][:, 0], seen["layer"].sum(1) / 4)


# Errors


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"multipliers": [0.5, 2.0]},
            "multipliers must include 1.0, so that an agent can leave the learning rate",
        ),
        ({"multipliers": [1.0]}, "key 'multipliers': Tuple should have at least 2 items"),
        ({"multipliers": [0.0, 1.0]}, "key 'multipliers[0]': Input should be greater than 0 (value: 0.0)"),
        ({"multipliers": [1.0, -2.0]}, "key 'multipliers[1]': Input should be greater than 0 (value: -2.0)"),
        ({"bound": -1.0}, "key 'bound': Input should be greater than 0 (value: -1.0)"),
        ({"bound": math.inf}, "key 'bound': Input should be a finite number"),
        ({"max_step": 0.0}, "key 'max_step': Input should be greater than 0 (value: 0.0)"),
        ({"reference": "cosin"}, "key 'reference': Input should be 'constant', 'cosine', 'warmup-cosine', 'linear' or"),
        ({"scope": "layers"}, "key 'scope': Input should be 'layer' or 'network' (value: 'layers')"),
        ({"bond": 1.0}, "unknown key 'bond'; did you mean 'bound'?"),
    ],
)
def test_errors(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(ActionSpec, data, "card.toml")
    assert str(caught.value).startswith("card.toml: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_continuous_actions_need_no_neutral_multiplier() -> None:
    assert parse_config(ActionSpec, {"multipliers": [0.5, 2.0], "max_step": 0.1}, "card.toml").neutral == 0.0
