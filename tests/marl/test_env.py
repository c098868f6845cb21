"""The TorchRL environment: specs, determinism, and episodes that equal harness runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import check_env_specs

from ganno_bench.core.errors import PluginError, UnknownNameError
from ganno_bench.marl import LayerwiseLREnv, make_env
from ganno_bench.marl.rewards import CEILING
from ganno_bench.policies.actions import ACTIONS, ActionSpec
from ganno_bench.policies.observations import LIMIT
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls, RunInfo, Signals
from tests.helpers.workload_cases import ADAMW, make_engine, make_workload

GLOBAL = ActionSpec(scope="network")
WITH_OWN_REWARDS = {"log-validation": 1.0, "difference": 0.5}


def engine_of(name: str = "mlp", n_updates: int = 23) -> Engine:
    return make_engine(make_workload(name, n_updates=n_updates), "vmap")


def env_of(name: str = "mlp", **settings: Any) -> LayerwiseLREnv:
    return LayerwiseLREnv(engine_of(name), n_runs=4, interval=5, **settings)


@pytest.mark.parametrize("action", [*ACTIONS.values(), GLOBAL], ids=[*ACTIONS, "global"])
@pytest.mark.parametrize("reward", [None, {"terminal": 1.0}, WITH_OWN_REWARDS], ids=["shared", "terminal", "own"])
def test_torchrl_finds_the_specs_kept(action: ActionSpec, reward: dict[str, float] | None) -> None:
    check_env_specs(env_of(action=action, reward=reward))


@pytest.mark.parametrize("name", ["mlp", "cnn", "decoder", "encoder"])
def test_an_episode_lasts_until_the_horizon(name: str) -> None:
    env = env_of(name)
    episode = env.rollout(100)
    assert episode.shape == (4, 5)  # 23 updates, 5 at a time
    assert env.n_updates == 23
    assert episode["next", "done"][:, -1].all()
    assert not episode["next", "done"][:, :-1].any()
    assert not episode["next", "truncated"].any()
    assert episode["agents", "observation"].shape[2:] == (env.engine.layout.n_layers, 17)
    assert episode["agents", "observation"].abs().max() <= LIMIT
    assert episode["next", "agents", "observation"].isfinite().all()


def test_the_same_seed_gives_the_same_episodes_and_another_one_others() -> None:
    def episodes(seed: int) -> list[TensorDict]:
        env = env_of(seed=3)
        env.set_seed(seed)
        torch.manual_seed(0)
        return [env.rollout(100) for _ in range(2)]

    first, again, other = episodes(1), episodes(1), episodes(2)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0]["loss"], other[0]["loss"])
    assert not torch.equal(first[0]["loss"], first[1]["loss"])


def test_rewards_add_up_to_the_final_loss() -> None:
    episode = env_of(base_lr=(0.1, 1.0)).rollout(100)
    ratio = episode["loss"][:, 0] / episode["next", "loss"][:, -1]
    torch.testing.assert_close(episode["next", "reward"].sum(1), ratio.log())


def test_the_terminal_reward_is_that_of_the_end() -> None:
    env = env_of(reward={"terminal": 2.0})
    episode = env.rollout(100)
    chance = env.engine.workload.dataset.chance_loss
    assert (episode["next", "reward"][:, :-1] == 0).all()
    torch.testing.assert_close(episode["next", "reward"][:, -1], 2.0 * (chance / episode["next", "loss"][:, -1]).log())


def test_a_run_that_diverged_is_blind_and_earns_no_more() -> None:
    env = env_of(base_lr=(1e6, 1e7), reward=WITH_OWN_REWARDS)
    episode = env.rollout(100)
    assert episode["next", "diverged"][:, -1].all()
    gone = episode["diverged"].squeeze(-1)
    assert gone.any()
    assert (episode["agents", "observation"][gone] == 0).all()
    assert (episode["next", "agents", "reward"][gone] == 0).all()
    ceiling = CEILING * env.engine.workload.dataset.chance_loss
    torch.testing.assert_close(episode["next", "loss"][:, -1], torch.full((4, 1), ceiling))


def test_the_difference_reward_favours_the_layer_that_moved_the_right_way() -> None:
    env = env_of(base_lr=(0.1, 0.1), reward={"difference": 1.0})
    td = env.reset()
    neutral = torch.full((4, env.n_agents), int(env.controller.action.neutral))
    action = neutral.clone()
    action[:, 1] = 4  # twice the learning rate
    td["agents", "action"] = action
    reward = env.step(td)["next", "agents", "reward"].squeeze(-1)
    assert (reward[:, [0, 2, 3]] == 0).all()  # they left it as it was
    assert (reward[:, 1] != 0).all()


def test_the_exact_difference_is_that_of_training_once_more_without_the_layers_choice() -> None:
    env, other = (env_of(base_lr=(0.1, 0.1), reward={"difference-exact": 1.0}, seed=2) for _ in range(2))
    td = env.reset()
    neutral = torch.full((4, env.n_agents), int(env.controller.action.neutral))
    action = neutral.clone()
    action[:, 1] = 4  # twice the learning rate
    td["agents", "action"] = action
    reward = env.step(td)["next", "agents", "reward"].squeeze(-1)
    other.reset()
    other.act(neutral)
    expected = (other.validation_loss / env.validation_loss).log()
    torch.testing.assert_close(reward[:, 1], expected.float())
    assert expected.any()
    assert (reward[:, [0, 2, 3]] == 0).all()  # they left it as it was
    factual = env_of(base_lr=(0.1, 0.1), seed=2)
    factual.reset()
    factual.act(action)
    assert torch.equal(factual.validation_loss, env.validation_loss)  # running it again left no trace


def test_an_actor_with_a_memory_is_handed_what_it_wrote() -> None:
    env = env_of(n_hidden=3)
    check_env_specs(env)
    td = env.reset()
    assert (td["agents", "memory"] == 0).all()
    td["agents", "action"] = torch.zeros(4, env.n_agents, dtype=torch.int64)
    td["next", "agents", "memory"] = torch.full((4, env.n_agents, 3), 7.0)
    assert (env.step(td)["next", "agents", "memory"] == 7.0).all()


@dataclass(frozen=True)
class Replay(Scheduler):
    """Replays learning rates, shape (n_updates, P, L)."""

    interval: ClassVar[int | None] = None
    table: ClassVar[torch.Tensor]

    def init(self, run: RunInfo) -> State:
        return {}

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        return Controls(self.table[signals.n_updates :]), state


@pytest.mark.parametrize("name", ["mlp", "cnn", "decoder"])
@pytest.mark.parametrize("kind", ["multipliers", "anchored"])
def test_an_episode_equals_a_harness_run_under_the_same_learning_rates(name: str, kind: str) -> None:
    engine = make_engine(make_workload(name, n_updates=23, optimizer=ADAMW), "vmap")
    env = LayerwiseLREnv(engine, n_runs=3, interval=5, action=ACTIONS[kind])
    seeds, base_lr, decay = [5, 6, 7], torch.full((3,), 2e-3, dtype=torch.float64), torch.full((3,), 0.01).double()
    env.begin(seeds, base_lr, decay)
    generator = torch.Generator().manual_seed(1)
    blocks = []
    for decision in range(env.n_decisions):
        action = torch.randint(5, (1, env.n_agents), generator=generator).expand(3, -1)
        state, n_updates = env._control, min(5, 23 - 5 * decision)
        controls, _ = env.controller.act(state, env._run, action, 5 * decision, n_updates)
        blocks.append(controls.lr)
        env.act(action)
    scheduler = type("Scripted", (Replay,), {"table": torch.cat(blocks)})()
    result = drive(engine, [Contestant(scheduler, 2e-3, float(decay[0]))], seeds)
    expected = result.population.evaluate(env.validation).loss
    assert torch.equal(env.validation_loss, expected)


def test_an_environment_of_a_suite_by_name() -> None:
    env = make_env("quickstart/digits-mlp-2", n_runs=2, interval=100)
    assert (env.n_agents, env.n_decisions) == (3, 3)
    with pytest.raises(UnknownNameError, match="no workload 'digits-mlp-3'; did you mean"):
        make_env("quickstart/digits-mlp-3")
    with pytest.raises(UnknownNameError, match="unknown reward 'log-validatoin'; did you mean 'log-validation'"):
        env_of(reward={"log-validatoin": 1.0})


GAIN = "(transition.val_before - transition.val_after)[:, None]"
SEEN = 'view.log_loss("train").tanh()'
FAULTS = {  # what is given in the place of the good one, and what is said of it
    "nan": (
        f"{GAIN} / 0 * 0",
        "decision 3 of 5 (after 10 updates), a sound run: expected a finite reward, got nan (run",
    ),
    "infinite": (
        f"{GAIN}.abs() / 0",
        "decision 3 of 5 (after 10 updates), a sound run: expected a finite reward, got inf",
    ),
    "huge": (f"{GAIN} * 0 + 1e30", "a sound run: expected a reward of at most 1e+06 in size, got 1e+30 (run 0 of 4)"),
    "flat": (f"{GAIN}[:, 0]", "of shape (4, 1), as per_agent is False, got torch.float64 of shape (4,)"),
    "for each layer": (f"{GAIN}.expand(-1, 4)", "as per_agent is False, got torch.float64 of shape (4, 4)"),
    "whole": (
        f"({GAIN} > 0).long()",
        "expected floating-point numbers of shape (4, 1), as per_agent is False, got torch.int64",
    ),
    "a number": ("1.0", "decision 3 of 5 (after 10 updates): expected floating-point numbers of shape (4, 1)"),
    "raises": ("1 / 0", "decision 3 of 5 (after 10 updates): raised ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("given", "said"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_reward_is_named_with_the_decision(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from ganno_bench.marl.rewards import reward\n\n@reward()\ndef mine(transition):\n"
        f"    return {GAIN} if transition.before.n_updates != 10 else {given}\n"
    )
    env = env_of(reward={f"{tmp_path}/mine.py:mine": 1.0, "terminal": 1.0}, base_lr=(0.1, 1.0))
    with pytest.raises(PluginError) as caught:
        env.rollout(100)
    assert str(caught.value).startswith(
        f"reward '{tmp_path}/mine.py:mine' on 'mlp', decision 3 of 5 (after 10 updates)"
    )
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_reward_may_be_too_large_by_its_weight_alone() -> None:
    with pytest.raises(PluginError, match=r"^reward 'terminal' on 'mlp', decision 5 .* got .*; its weight is 1e\+09$"):
        env_of(reward={"terminal": 1e9}).rollout(100)


SEEN_FAULTS = {
    "nan": (f"{SEEN} * float('nan')", "expected finite values, got nan (run "),
    "infinite": (f"{SEEN} + float('inf')", "expected finite values, got inf (run "),
    "flat": (
        f"{SEEN}[:, 0]",
        "expected floating-point numbers of shape (4, 4) or (4, 1), got torch.float64 of shape (4,)",
    ),
    "truth": (f"{SEEN} > 0", "got torch.bool of shape (4, 1)"),
    "raises": ("view.nothing", "raised AttributeError: 'View' object has no attribute 'nothing'"),
}


@pytest.mark.parametrize(("given", "said"), SEEN_FAULTS.values(), ids=SEEN_FAULTS)
def test_a_faulty_observation_is_named_with_the_updates(tmp_path: Path, given: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(
        "from ganno_bench.policies.observations import feature\n\n@feature()\ndef mine(view):\n"
        f"    return {SEEN} if view.signals.n_updates != 10 else {given}\n"
    )
    env = env_of(observation=["log-factor", f"{tmp_path}/mine.py:mine"], base_lr=(0.1, 1.0))
    with pytest.raises(PluginError) as caught:
        env.rollout(100)
    assert str(caught.value).startswith(f"observation '{tmp_path}/mine.py:mine' on 'mlp' after 10 updates: ")
    assert said in str(caught.value)


def test_an_observation_may_be_blind_at_first_and_of_what_diverged(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ganno_bench.policies.observations import feature\n\n@feature()\ndef mine(view):\n"
        "    return view.log_loss('train') - view.log_loss('last')\n"
    )
    env = env_of(observation=["log-factor", f"{tmp_path}/mine.py:mine"], base_lr=(1e6, 1e7))
    episode = env.rollout(100)
    assert episode["next", "diverged"][:, -1].all()
    assert episode["agents", "observation"].isfinite().all()
