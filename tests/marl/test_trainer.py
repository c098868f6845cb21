"""The trainer: its files, resuming bit by bit, learning, and its messages for wrong input."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from ganno_bench.core.errors import ConfigError, PluginError, ResumeError, UserError
from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.episodes import evaluate_greedily, explained_variance, mean_over_runs, whole_episodes
from ganno_bench.marl.mappo import Batch, Trainer
from ganno_bench.marl.modules import Critic
from ganno_bench.marl.tasks import draw_tasks, load_task_data
from ganno_bench.policies.actor import Actor, ActorSpec
from ganno_bench.policies.policy import load_policy
from tests.helpers.tiny_training import CONFIG

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(CONFIG)
    return file


def trainer_of(file: Path, out: str = "out", *, resume: bool = False) -> Trainer:
    return Trainer(load_train_config(file), file, file.parent / out, resume=resume)


def without_time(batches: list[Batch]) -> list[tuple[float, ...]]:
    return [(b.batch, b.env_steps, b.mean_return, b.log_loss, b.entropy, b.kl, b.validation) for b in batches]


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.loss.parameters()])


def test_what_it_leaves(config_file: Path) -> None:
    trainer = trainer_of(config_file)
    trainer.train()
    with (trainer.out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["batch"]) for row in rows] == [b.batch for b in trainer.batches]
    assert int(float(rows[-1]["env_steps"])) == trainer.env_steps >= 300
    policy = load_policy(trainer.out / "policy")
    assert policy.card.name == "tiny"
    card = policy.card.training
    assert card.seed == 3
    assert 1 < card.max_layers <= 4
    assert set(card.datasets) == {"digits"}
    best = min(b.validation for b in trainer.batches)
    assert card.evaluation["validation_log_loss"] <= round(best, 6)
    found = torch.cat([evaluate_greedily(policy, env) for env in trainer.validation_envs]).mean()
    assert float(found) == pytest.approx(card.evaluation["validation_log_loss"], abs=1e-6)


@pytest.mark.parametrize(
    "action",
    ["max_step = 0.5", "decay_multipliers = [0.5, 1.0]", 'reference = "cosine"\nbound = 2.0', 'scope = "network"'],
)
@pytest.mark.parametrize("learner", ['critic = "independent"', 'critic = "centralised"'])
def test_other_actions_and_critics(config_file: Path, action: str, learner: str) -> None:
    text = CONFIG.replace("[learner]", f"[action]\n{action}\n\n[reward]\ndifference = 1.0\n\n[learner]\n{learner}")
    config_file.write_text(text)
    trainer = trainer_of(config_file)
    before = weights(trainer)
    trainer.train(env_steps=1)
    assert len(trainer.batches) == 1
    assert weights(trainer).isfinite().all()
    assert not torch.equal(weights(trainer), before)


@pytest.mark.parametrize("memory", [pytest.param(0, marks=pytest.mark.slow(group="policies")), 4])
def test_a_killed_training_goes_on_bit_by_bit(config_file: Path, memory: int) -> None:
    config_file.write_text(CONFIG.replace("hidden = [16]", f"hidden = [16]\nmemory = {memory}"))
    whole = trainer_of(config_file, "whole")
    whole.train()
    assert len(whole.batches) >= 4
    killed = trainer_of(config_file, "killed")

    class KilledError(Exception):
        pass

    def die(batch: Batch) -> None:
        if batch.batch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        killed.train(on_batch=die)
    resumed = trainer_of(config_file, "killed", resume=True)
    assert len(resumed.batches) == 2
    resumed.train()
    assert without_time(resumed.batches) == without_time(whole.batches)
    assert torch.equal(weights(resumed), weights(whole))
    assert load_policy(resumed.out / "policy").hash == load_policy(whole.out / "policy").hash


def test_what_is_refused(config_file: Path) -> None:
    with pytest.raises(ResumeError, match="there is no checkpoint to resume from; start without --resume"):
        trainer_of(config_file, resume=True)
    trainer_of(config_file)  # and is killed before it writes a checkpoint
    trainer_of(config_file, resume=True)
    trainer_of(config_file).train(env_steps=1)
    with pytest.raises(ResumeError, match="has a checkpoint; give --resume to resume from it, or another --out"):
        trainer_of(config_file)
    config_file.write_text(CONFIG.replace("seed = 3", "seed = 4"))
    with pytest.raises(ResumeError, match="was begun with another configuration"):
        trainer_of(config_file, resume=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_runs = 4", "n_run = 4", "unknown key 'learner.n_run'; did you mean 'n_runs'?"),
        ("[learner]", "[reward]\nlog-trainig = 1.0\n[learner]", "key 'reward': unknown reward 'log-trainig'; did you"),
        ("seed = 3", 'observation = ["log-rl"]', "key 'observation': unknown observation 'log-rl'; did you mean"),
        ('dataset = "digits"\nmodel', 'dataset = "digit"\nmodel', "key 'tasks.family[0].dataset': no dataset 'digit'"),
        ('family = "mlp"', 'family = "mpl"', "key 'tasks.family[0].model.family': unknown model 'mpl'; did you mean"),
        (
            "batch_size = [16]",
            "batch_size = [16, 9999]",
            "key 'tasks.family[0].batch_size': must be at most",
        ),
        (
            "[actor]",
            "[action]\nmultipliers = [0.5, 2.0]\n[actor]",
            "key 'action': multipliers must include 1.0",
        ),
    ],
)
def test_what_is_wrong_with_a_configuration(config_file: Path, old: str, new: str, message: str) -> None:
    assert old in CONFIG
    config_file.write_text(CONFIG.replace(old, new))
    with pytest.raises(UserError) as caught:
        trainer_of(config_file)
    assert str(caught.value).startswith(f"{config_file}: {message}")
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UserError | ConfigError)


def test_tasks_are_the_same_every_time_and_within_their_ranges(config_file: Path) -> None:
    distribution = load_train_config(config_file).tasks
    data = load_task_data(distribution, config_file)
    first, again, validation = (
        draw_tasks(distribution, data, stream, 12, config_file) for stream in ("training", "training", "validation")
    )
    assert [t.workload.spec for t in first] == [t.workload.spec for t in again]
    assert [t.workload.spec.model for t in first] != [t.workload.spec.model for t in validation]
    assert {t.workload.spec.model["depth"] for t in first} == {1, 2, 3}
    assert {t.workload.spec.optimizer.name for t in first} == {"sgd", "adamw"}
    for task in first:
        assert task.interval in (2, 3)
        assert 4 <= task.workload.spec.n_updates / task.interval <= 6
        assert 0.7 <= task.workload.spec.model["gain"] <= 1.5
    noisy = [
        t for t in first if not torch.equal(t.workload.dataset.train.targets, first[0].workload.dataset.train.targets)
    ]
    assert noisy
    assert torch.equal(noisy[0].workload.dataset.validation.targets, first[0].workload.dataset.validation.targets)


@pytest.mark.parametrize("centralised", [True, False])
def test_the_critic_takes_any_number_of_agents_in_any_order(centralised: bool) -> None:
    torch.manual_seed(0)
    critic = Critic(6, 8, centralised=centralised)
    seen = torch.randn(5, 7, 6)
    values = critic(seen)
    assert values.shape == (5, 7, 1)
    order = torch.randperm(7)
    torch.testing.assert_close(critic(seen[:, order]), values[:, order])
    other = seen.clone()
    other[:, 3] += 1.0
    assert torch.equal(critic(other)[:, 0], values[:, 0]) != centralised


def test_a_recurrent_actor_goes_through_an_episode_as_it_went_through_its_decisions() -> None:
    torch.manual_seed(0)
    actor = Actor(ActorSpec(hidden=(8,), memory=5), 3, 4)
    seen, memory = torch.randn(2, 6, 7, 3), torch.zeros(2, 7, 5)  # (P, T, A, F)
    one_by_one = []
    for decision in range(6):
        outputs, memory = actor.step(seen[:, decision], memory)
        one_by_one.append(outputs)
    torch.testing.assert_close(actor(seen), torch.stack(one_by_one, 1))
    assert not torch.allclose(actor(seen.flip(1)).flip(1), actor(seen))  # the order matters


def test_whole_episodes_end_where_a_run_diverged() -> None:
    diverged = torch.zeros(5, 4, 1, dtype=torch.bool)
    diverged[1, 2:] = diverged[3, 2:] = diverged[4, 1:] = True
    number = torch.arange(20).view(5, 4, 1)
    parts = whole_episodes(TensorDict({"diverged": diverged, "number": number}, [5, 4]))
    assert [part.shape for part in parts] == [(1, 1), (2, 2), (2, 4)]
    assert sorted(n for part in parts for n in part["number"].flatten().tolist()) == number[~diverged].tolist()
    assert parts[1]["number"].squeeze(-1).tolist() == [[4, 5], [12, 13]]


def test_the_mean_over_runs_leaves_out_the_diverged_ones() -> None:
    advantage = torch.tensor([[1.0, 5.0], [3.0, 100.0]])[..., None, None].expand(2, 2, 3, 1)  # (P, T, A, 1)
    alive = torch.tensor([[True, True], [True, False]])[..., None]
    assert mean_over_runs(advantage, alive).flatten().tolist() == [2.0, 5.0]


def test_what_is_measured_of_a_batch_is_that_of_all_its_decisions(
    config_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.replace("n_runs = 4", "n_runs = 3").replace("hidden = [16]", "hidden = [16]\nmemory = 4")
    config_file.write_text(text)
    collected: list[TensorDictBase] = []
    learned: list[tuple[int, float]] = []

    def keep(episode: TensorDictBase) -> list[TensorDictBase]:
        collected.extend(parts := whole_episodes(episode))
        return parts

    monkeypatch.setattr("ganno_bench.marl.mappo.whole_episodes", keep)
    trainer = trainer_of(config_file)
    trainer.loss.register_forward_hook(
        lambda module, given, terms: learned.append((given[0]["agents", "action"].numel(), float(terms["entropy"])))
    )
    trainer.train(env_steps=1)
    value, target = (
        torch.cat([part["agents", key].double().flatten() for part in collected])
        for key in ("state_value", "value_target")
    )
    share = 1.0 - float((target - value).var() / target.var())
    assert trainer.batches[0].explained_variance == pytest.approx(share, rel=1e-6)
    sizes, entropies = (torch.tensor(values, dtype=torch.float64) for values in zip(*learned, strict=True))
    assert len(sizes.unique()) > 2  # gradient steps are of one run of each workload, or of two
    assert trainer.batches[0].entropy == pytest.approx(float((sizes * entropies).sum() / sizes.sum()), abs=1e-9)


@pytest.mark.parametrize(
    ("value", "target", "share"),
    [
        ([[0.5, 0.5, 0.5]], [[1.0, 2.0, 6.0]], 0.0),  # it says the same of everything
        ([[1.0, 2.0, 6.0]], [[1.0, 2.0, 6.0]], 1.0),
        ([[1.0, 3.0]], [[4.0, 0.0]], -1.25),
        ([[1.0, 3.0]], [[4.0, 4.0]], math.nan),  # there is nothing to explain
        ([[1.0]], [[4.0]], math.nan),
    ],
)
def test_what_a_critic_explains(value: list[list[float]], target: list[list[float]], share: float) -> None:
    shape = [1, len(value[0])]
    agents = {
        "state_value": torch.tensor(value)[..., None, None],
        "value_target": torch.tensor(target)[..., None, None],
    }
    part = TensorDict({"agents": TensorDict(agents, shape)}, shape)
    assert explained_variance([part]) == pytest.approx(share, nan_ok=True)
    assert explained_variance([part[:, :1], part[:, 1:]]) == pytest.approx(share, nan_ok=True)


def test_a_single_decision_of_a_single_run_leaves_the_weights_finite(config_file: Path) -> None:
    text = CONFIG.replace("n_runs = 4", "n_runs = 1").replace("decisions = [4, 6]", "decisions = [1, 1]")
    text = text.replace("tasks_per_batch = 2", "tasks_per_batch = 1").replace(
        "[learner]", '[action]\nscope = "network"\n\n[learner]'
    )
    config_file.write_text(text)
    trainer = trainer_of(config_file)
    trainer.train(env_steps=1)
    assert weights(trainer).isfinite().all()
    assert math.isnan(trainer.batches[0].explained_variance)


FAULTY = """
import torch
from ganno_bench.marl.rewards import reward

calls = []

@reward()
def mine(transition):
    calls.append(1)
    gain = (transition.val_before.log() - transition.val_after.log())[:, None]
    return gain / (len(calls) != 14)
"""


def test_a_reward_that_is_no_number_is_named_and_training_goes_on_once_it_is_mended(config_file: Path) -> None:
    plugin = config_file.with_name("mine.py")
    config_file.write_text(CONFIG.replace("[learner]", f'[reward]\n"{plugin}:mine" = 1.0\n\n[learner]'))
    good = FAULTY.replace(" / (len(calls) != 14)", "")
    plugin.write_text(good)
    whole = trainer_of(config_file, "whole")
    whole.train(env_steps=60)
    plugin.write_text(FAULTY)
    broken = trainer_of(config_file, "broken")
    with pytest.raises(
        PluginError,
        match=r"^reward '.*mine.py:mine' on 'training-\d-mlp-\d', decision \d of \d \(after \d+ updates\), "
        r"a sound run: expected a finite reward, got (-?inf|nan) \(run 0 of 4\)$",
    ):
        broken.train(env_steps=60)
    assert [batch.batch for batch in broken.batches] == [1]
    assert weights(broken).isfinite().all()
    plugin.write_text(good)
    mended = trainer_of(config_file, "broken", resume=True)
    mended.train(env_steps=60)
    assert without_time(mended.batches) == without_time(whole.batches)
    assert torch.equal(weights(mended), weights(whole))
