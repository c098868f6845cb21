"""The controls that are made from a policy, which it should beat: each does what its name says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from ganno_bench.cli.main import app
from ganno_bench.core.errors import ConfigError, UnknownNameError, UserError
from ganno_bench.policies.policy import BehaviourCard, load_policy
from ganno_bench.schedulers.controls import CONTROLS
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler, parse_reference
from ganno_bench.testing.playing import play
from ganno_bench.testing.scheduler_contract import CHECKS
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from tests.helpers.policy_cases import ACTION_KINDS, OBSERVATION, make_policy, make_run

CURVE = tuple(math.sin(7.0 * index / 32) - 2.0 * (index / 32) ** 2 for index in range(33))
PROFILE = (0.5, -0.25, 0.75, 0.0, -0.5, 0.25, -1.0, 1.0, -0.75)
BEHAVIOUR = BehaviourCard(curve=CURVE, profile=PROFILE)
PLACES = np.linspace(0.0, 1.0, 9)
KINDS = {kind: "without:loss-change" if kind == "without" else kind for kind in CONTROLS}
REPLAYS = ("mean-curve", "profile", "curve-profile")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policies") / "some"
    make_policy(interval=7, behaviour=BEHAVIOUR).save(path)
    return path


def log_factors(ref: str, runs: SyntheticRuns) -> Tensor:
    """Return ln(lr / base learning rate) of each update, shape (T, P, L)."""
    lr = play(load_scheduler(ref), runs).controls[..., :-2]
    return (lr / runs.base_lr[:, None]).log()


def changed(runs: SyntheticRuns, name: str) -> SyntheticRuns:
    """Return the runs with a changed value of a signal."""
    return replace(runs, layers={**runs.layers, name: -runs.layers[name].flip(0)})


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("kind", CONTROLS)
def test_contract(folder: Path, kind: str, check: Callable[[SchedulerEntry], None]) -> None:
    check(load_scheduler(f"{KINDS[kind]}:{folder}"))


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_entry_of_a_control(folder: Path, kind: str) -> None:
    entry = load_scheduler(f"{KINDS[kind]}:{folder}")
    assert (entry.name, entry.zero_shot, entry.search_space) == (f"{KINDS[kind]}:mine", True, {})
    assert entry.cls is load_scheduler(f"default:{KINDS[kind]}:{folder}").cls  # as a run demands


def test_no_two_controls_are_the_same(folder: Path) -> None:
    refs = ["policy", *KINDS.values()]
    played = [log_factors(f"{ref}:{folder}", synthetic_runs(64)) for ref in refs]
    for index, one in enumerate(played):
        assert not any(torch.equal(one, other) for other in played[:index])
    assert len({load_scheduler(f"{ref}:{folder}").code for ref in refs}) == len(refs)


# Replays


def test_the_mean_curve_is_the_cards_and_that_of_all_layers(folder: Path) -> None:
    log = log_factors(f"mean-curve:{folder}", synthetic_runs(64))
    for knot, value in enumerate(CURVE[:-1]):
        torch.testing.assert_close(log[2 * knot], torch.full((3, 4), value, dtype=torch.float64))
    between = torch.tensor([(a + b) / 2 for a, b in pairwise(CURVE)], dtype=torch.float64)
    torch.testing.assert_close(log[1::2], between[:, None, None].expand(32, 3, 4))


def test_the_profile_is_constant_in_time(folder: Path) -> None:
    log = log_factors(f"profile:{folder}", synthetic_runs(64))
    assert torch.equal(log, log[:1].expand_as(log))
    mean = np.interp(np.linspace(0.0, 1.0, 100_001), np.linspace(0.0, 1.0, 33), CURVE).mean()
    expected = torch.from_numpy(np.interp([0.0, 1 / 3, 2 / 3, 1.0], PLACES, PROFILE) + mean)
    torch.testing.assert_close(log[0], expected.expand(3, 4), rtol=0.0, atol=1e-4)


def test_curve_and_profile_are_a_product(folder: Path) -> None:
    runs = synthetic_runs(50)
    curve, profile, both = (log_factors(f"{kind}:{folder}", runs) for kind in REPLAYS)
    mean = BEHAVIOUR.mean_log_factor
    torch.testing.assert_close(both, curve + profile - mean)


@pytest.mark.parametrize("kind", REPLAYS)
def test_a_replay_looks_at_nothing(folder: Path, kind: str) -> None:
    entry, runs = load_scheduler(f"{kind}:{folder}"), synthetic_runs(30)
    assert entry.cls.needs == frozenset()
    other = replace(runs, train_loss=runs.train_loss.flip(0))
    assert torch.equal(log_factors(f"{kind}:{folder}", runs), log_factors(f"{kind}:{folder}", other))


@pytest.mark.parametrize("kind", REPLAYS)
def test_a_network_of_one_layer_has_no_profile(folder: Path, kind: str) -> None:
    lr = load_scheduler(f"{kind}:{folder}").build({}).init(make_run([0.1, 0.2], 1))
    torch.testing.assert_close(lr, torch.tensor([[0.1], [0.2]], dtype=torch.float64))


@pytest.mark.parametrize("n_layers", [2, 3, 9, 20])
def test_a_profile_is_stretched_over_the_layers(n_layers: int) -> None:
    profile = BEHAVIOUR.log_profile(n_layers)
    assert profile == pytest.approx(np.interp(np.linspace(0.0, 1.0, n_layers), PLACES, PROFILE).tolist())
    assert (profile[0], profile[-1]) == (PROFILE[0], PROFILE[-1])


# Masked observations


def test_a_masked_observation_has_no_influence(folder: Path) -> None:
    runs = synthetic_runs(64)
    other = changed(runs, "grad_cosine")

    def same(ref: str) -> bool:
        return torch.equal(log_factors(f"{ref}:{folder}", runs), log_factors(f"{ref}:{folder}", other))

    assert same("without:grad-cosine")
    assert not same("policy")
    assert not same("without:progress")


@pytest.mark.parametrize("feature", OBSERVATION)
def test_masked_is_zero_at_every_decision(folder: Path, tmp_path: Path, feature: str) -> None:
    policy = load_policy(folder)
    with torch.no_grad():
        first = policy.actor.body[0]
        assert isinstance(first, torch.nn.Linear)
        first.weight[:, OBSERVATION.index(feature)] = 0.0
    policy.save(tmp_path)
    runs = synthetic_runs(64)
    assert torch.equal(log_factors(f"without:{feature}:{folder}", runs), log_factors(f"policy:{tmp_path}", runs))


# An untrained policy


def test_an_untrained_policy_has_the_card_and_none_of_the_weights(folder: Path, tmp_path: Path) -> None:
    make_policy(3, interval=7).save(tmp_path)
    runs = synthetic_runs(64)
    assert not torch.equal(log_factors(f"untrained:{folder}", runs), log_factors(f"policy:{folder}", runs))
    assert torch.equal(log_factors(f"untrained:{folder}", runs), log_factors(f"untrained:{tmp_path}", runs))
    fresh, card = load_scheduler(f"untrained:{folder}").cls.policy, load_policy(folder).card  # type: ignore[attr-defined]
    assert fresh.card == card


def test_an_untrained_policy_leaves_no_trace_in_the_random_numbers(folder: Path) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_scheduler(f"untrained:{folder}")
    assert torch.equal(torch.rand(3), expected)


# Random actions


def test_random_actions_are_uniform(tmp_path: Path) -> None:
    make_policy(interval=1).save(tmp_path)
    log = log_factors(f"random:{tmp_path}", synthetic_runs(400))
    steps = log.diff(dim=0)[(log[1:].abs() < 8.0) & (log[:-1].abs() < 8.0)]  # at the bound steps are cut off
    values, counts = steps.mul(1e6).round().unique(return_counts=True)
    assert values.div(1e6).tolist() == pytest.approx(torch.tensor([0.5, 0.8, 1.0, 1.25, 2.0]).log().tolist(), abs=1e-5)
    assert (counts / counts.sum()).tolist() == pytest.approx([0.2] * 5, abs=0.03)


def test_continuous_random_actions_are_uniform(tmp_path: Path) -> None:
    make_policy(interval=1, action=ACTION_KINDS["continuous"]).save(tmp_path)
    log = log_factors(f"random:{tmp_path}", synthetic_runs(400))
    steps = log.diff(dim=0)[(log[1:].abs() < 8.0) & (log[:-1].abs() < 8.0)] / 0.7
    assert steps.abs().max() <= 1.0 + 1e-9
    quartiles = steps.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64))
    assert quartiles.tolist() == pytest.approx([-0.5, 0.0, 0.5], abs=0.05)


def test_each_agent_of_each_run_acts_for_itself(folder: Path, tmp_path: Path) -> None:
    log = log_factors(f"random:{folder}", synthetic_runs(200))
    agents = log.flatten(1)
    assert len(agents.unique(dim=1).T) == 12
    make_policy(interval=7, action=ACTION_KINDS["network"]).save(tmp_path)
    one = log_factors(f"random:{tmp_path}", synthetic_runs(200))
    assert torch.allclose(one, one[..., :1].expand_as(one))


def test_random_actions_depend_on_the_initial_parameters_alone(folder: Path) -> None:
    runs = synthetic_runs(50)
    expected = log_factors(f"random:{folder}", runs)
    unlike = replace(runs, base_lr=2.0 * runs.base_lr, train_loss=runs.train_loss.flip(0))
    torch.testing.assert_close(log_factors(f"random:{folder}", unlike), expected)
    norms = runs.layers["param_norm"].clone()
    norms[0, 1] *= 1.0 + 1e-7  # another device
    norms[0, 2] *= 1.01  # another seed
    other = log_factors(f"random:{folder}", replace(runs, layers={**runs.layers, "param_norm": norms}))
    assert torch.equal(other[:, :2], expected[:, :2])
    assert not torch.equal(other[:, 2], expected[:, 2])


# References and messages


@pytest.mark.parametrize("kind", CONTROLS)
def test_a_folder_may_have_parentheses_and_colons(tmp_path: Path, kind: str) -> None:
    make_policy(behaviour=BEHAVIOUR).save(tmp_path / "a (b=1):c")
    ref = f"{KINDS[kind]}:{tmp_path}/a (b=1):c"
    assert parse_reference(ref).pinned == {}
    assert load_scheduler(ref).name == f"{KINDS[kind]}:mine"


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("without:grad-cosin:{}", UnknownNameError, "'mine' has no observation 'grad-cosin'; did you mean 'grad-cos"),
        ("without:{}", ConfigError, "must have the form without:FEATURE:POLICY"),
        ("without::{}", ConfigError, "must have the form without:FEATURE:POLICY"),
        ("untrained:nobody", ConfigError, "policy 'nobody' is neither a folder nor the name of a shipped policy"),
        ("random:", ConfigError, "policy '' is neither a folder nor the name of a shipped policy"),
        ("randon:{}", UnknownNameError, "unknown scheduler 'randon:"),
    ],
)
def test_errors_of_references(folder: Path, ref: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        load_scheduler(ref.format(folder))


@pytest.mark.parametrize("kind", REPLAYS)
def test_a_card_without_behaviour_cannot_be_replayed(tmp_path: Path, kind: str) -> None:
    make_policy().save(tmp_path)
    message = f"{tmp_path}/card.toml: key 'behaviour' is missing, which '{kind}:mine' replays"
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_scheduler(f"{kind}:{tmp_path}")


# The card


def test_behaviour_is_read_back(folder: Path) -> None:
    assert load_policy(folder).card.behaviour == BEHAVIOUR


def test_a_curve_has_33_points(folder: Path, tmp_path: Path) -> None:
    make_policy(behaviour=BEHAVIOUR).save(tmp_path)
    card = tmp_path / "card.toml"
    card.write_text(card.read_text().replace(f"    {CURVE[3]},\n", ""))
    with pytest.raises(ConfigError, match=r"card.toml: key 'behaviour.curve'.*at least 33 items"):
        load_policy(tmp_path)


def test_what_the_hashes_follow(tmp_path: Path) -> None:
    policies = {
        "a": make_policy(behaviour=BEHAVIOUR),
        "weights": make_policy(1, behaviour=BEHAVIOUR),
        "behaviour": make_policy(behaviour=BehaviourCard(curve=CURVE, profile=PROFILE[::-1])),
    }
    for name, policy in policies.items():
        policy.save(tmp_path / name)
    assert policies["a"].hash == policies["behaviour"].hash != policies["weights"].hash
    for kind in KINDS.values():
        assert len({load_scheduler(f"{kind}:{tmp_path}/{name}").code for name in policies}) == 3
    assert len({load_scheduler(f"policy:{tmp_path}/{name}").code for name in policies}) == 2


@pytest.mark.parametrize(
    ("kind", "description"),
    [
        ("untrained", "The policy 'mine' before any training: its most probable actions with fresh weights."),
        (
            "random",
            "Random actions of the policy 'mine' every 7 updates, uniformly: the layer's learning rate times "
            "0.5 or 0.8 or 1 or 1.25 or 2.",
        ),
        ("profile", "The mean learning rate of each layer, the same at all times, of the policy 'mine': replayed"),
        ("without:progress", "The policy 'mine' without its observation 'progress', which is masked."),
    ],
)
def test_it_can_be_shown(folder: Path, kind: str, description: str) -> None:
    result = CliRunner().invoke(app, ["show", f"{kind}:{folder}"])
    assert result.exit_code == 0
    assert result.output.startswith(description)
    assert f"name   {kind}:mine" in result.output
    assert "tuned  nothing; base_lr and weight_decay are the optimizer's defaults" in result.output
