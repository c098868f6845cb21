"""Curve and profile on a policy's card describe the policy, so that replaying them equals the policy where possible."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ganno_bench.marl.behaviour import measure_behaviour
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.policies.actions import REFERENCES, ActionSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from ganno_bench.training.population import Engine
from ganno_bench.workloads.workload import Workload
from tests.helpers.workload_cases import make_engine, make_workload

TOTAL = 64


def env_of(family: str = "mlp") -> LayerwiseLREnv:
    return LayerwiseLREnv(make_engine(make_workload(family, n_updates=TOTAL), "vmap"), n_runs=2, interval=8)


class Linear(Workload):
    """Logistic regression."""

    def build(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(nn.Flatten(), nn.Linear(128, 5))


def policy_of(action: ActionSpec, outputs: list[float], slope: float = 0.0) -> Policy:
    """Return a policy that observes the relative depth; its first output is linear in it, with this slope."""
    torch.manual_seed(0)
    policy = Policy(PolicyCard(name="some", observation=("relative-depth",), action=action, interval=8))
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.zero_()
        for layer in (0, 2):  # tanh(x) is nearly x
            policy.actor.body[layer].weight[0, 0] = 0.01 if layer == 0 else 1.0
        policy.actor.head.weight[0, 0] = 100.0 * slope
        policy.actor.head.bias.copy_(torch.tensor(outputs))
    return policy


def test_a_neutral_policy_has_the_reference_schedule_for_a_curve() -> None:
    behaviour = measure_behaviour(policy_of(ActionSpec(max_step=0.5, reference="cosine"), [0.0, 0.0]), [env_of()])
    expected = [math.log(REFERENCES["cosine"](knot / 32)) for knot in range(32)]
    assert behaviour.curve == pytest.approx([*expected, math.log(REFERENCES["cosine"](63 / 64))], abs=1e-5)
    assert behaviour.profile == (0.0,) * 9


def test_steps_add_up_and_an_update_at_rate_0_does_not_count() -> None:
    action = ActionSpec(max_step=0.5, reference="warmup-cosine")
    curve = measure_behaviour(policy_of(action, [math.atanh(0.4), 0.0]), [env_of()]).curve
    assert REFERENCES["warmup-cosine"](0.0) == 0.0
    for knot in range(1, 32):
        step = 0.2 * (1 + 2 * knot // 8)
        assert curve[knot] == pytest.approx(math.log(REFERENCES["warmup-cosine"](knot / 32)) + step, abs=1e-5)
    assert curve[0] == pytest.approx(math.log(REFERENCES["warmup-cosine"](1 / 64)) + 0.2, abs=1e-5)


def test_the_profile_goes_from_input_to_output_and_is_the_mean_over_time() -> None:
    policy = policy_of(ActionSpec(max_step=0.1), [0.0, 0.0], slope=0.01)
    behaviour = measure_behaviour(policy, [env_of()])
    assert behaviour.curve == pytest.approx([0.0] * 33, abs=1e-5)
    slope = 0.1 * math.tanh(0.01) * 4.5  # 8 decisions: 4.5 steps in the mean
    assert behaviour.profile == pytest.approx([slope * (index - 4) / 4 for index in range(9)], rel=0.01, abs=1e-6)


def test_networks_of_one_layer_are_no_part_of_the_profile() -> None:
    policy = policy_of(ActionSpec(max_step=0.1), [0.0, 0.0], slope=0.01)
    workload = make_workload("mlp", n_updates=TOTAL)
    single = LayerwiseLREnv(Engine(Linear(workload.spec, workload.dataset), backend="loop"), n_runs=2, interval=8)
    assert single.engine.layout.n_layers == 1
    assert measure_behaviour(policy, [single]).profile == (0.0,) * 9
    assert measure_behaviour(policy, [single, env_of()]).profile == measure_behaviour(policy, [env_of()]).profile


def test_all_environments_weigh_the_same() -> None:
    torch.manual_seed(1)
    policy = Policy(PolicyCard(name="some", observation=("relative-depth", "loss-change", "log-grad-norm"), interval=8))
    with torch.no_grad():
        policy.actor.head.weight *= 100.0
    envs = [env_of(), env_of("decoder")]
    parts = [measure_behaviour(policy, [env]) for env in envs]
    together = measure_behaviour(policy, envs)
    assert parts[0] != parts[1]
    for name in ("curve", "profile"):
        means = [sum(pair) / 2 for pair in zip(*(getattr(part, name) for part in parts), strict=True)]
        assert getattr(together, name) == pytest.approx(means, abs=2e-6)
    assert measure_behaviour(policy, envs) == together


def test_runs_that_diverge_at_once_leave_nothing() -> None:
    policy = policy_of(ActionSpec(max_step=80.0, bound=80.0), [10.0, 0.0])
    behaviour = measure_behaviour(policy, [env_of()])
    assert behaviour.curve == (0.0,) * 33
