from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from ganno_bench.core.errors import ConfigError, UnknownNameError, UserError
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.policy import Policy, TrainingCard, load_policy
from tests.helpers.policy_cases import ACTION_KINDS, OBSERVATION, make_policy

CARD, WEIGHTS = "card.toml", "policy.safetensors"


def observations(n_runs: int = 50, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return possible observations of 4 agents of each run."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_runs, 4, len(OBSERVATION), generator=generator, dtype=torch.float64).to(dtype)


# There and back


@pytest.mark.parametrize("action", ACTION_KINDS.values(), ids=ACTION_KINDS.keys())
def test_a_policy_that_is_read_decides_as_the_one_that_was_written(action: ActionSpec, tmp_path: Path) -> None:
    policy = make_policy(action=action, interval=7, description="Ours.")
    policy.save(tmp_path / "a" / "policy")
    found = load_policy(tmp_path / "a" / "policy")
    assert found.card == policy.card
    assert found.hash == policy.hash
    decisions = policy.decide(observations())
    assert decisions.shape == (50, 4)
    assert len(decisions.unique()) >= 3
    assert torch.equal(found.decide(observations()), decisions)


def test_a_folder_holds_weights_and_card_and_nothing_else(tmp_path: Path) -> None:
    make_policy().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, WEIGHTS]
    assert set(load((tmp_path / WEIGHTS).read_bytes())) == {
        f"{layer}.{part}" for layer in ("body.0", "body.2", "head") for part in ("weight", "bias")
    }


def test_saving_replaces_what_was_there(tmp_path: Path) -> None:
    make_policy(0).save(tmp_path)
    make_policy(1, interval=3, action=ActionSpec(max_step=0.1)).save(tmp_path)
    assert load_policy(tmp_path).hash == make_policy(1, interval=3, action=ActionSpec(max_step=0.1)).hash


def test_the_training_card_is_kept(tmp_path: Path) -> None:
    training = TrainingCard(
        config={"lr": 3e-4, "tasks": ["a", "b"], "nested": {"gamma": 1.0}},
        env_steps=10**12,
        seconds=1.5,
        seed=3,
        datasets={"digits": "0" * 64},
        max_layers=9,
        versions={"torch": "2.9"},
        test_looks=1,
        evaluation={"validation": 0.25},
    )
    make_policy(training=training).save(tmp_path)
    assert load_policy(tmp_path).card.training == training


def test_a_training_configuration_may_have_what_is_none(tmp_path: Path) -> None:
    config = {"action": ActionSpec().model_dump(mode="json"), "seed": 1}
    assert config["action"]["max_step"] is None
    make_policy(training=TrainingCard(config=config)).save(tmp_path)
    assert load_policy(tmp_path).card.training.config["seed"] == 1


def test_the_most_probable_multiplier_is_taken() -> None:
    policy = make_policy()
    seen = observations()
    with torch.no_grad():
        logits = policy.actor.to(torch.float64)(seen)
    assert torch.equal(policy.decide(seen), logits.argmax(-1))
    assert policy.decide(seen).dtype == torch.int64


def test_a_continuous_action_is_the_centre_of_its_distribution() -> None:
    policy = make_policy(action=ActionSpec(max_step=0.7))
    seen = observations()
    with torch.no_grad():
        location = policy.actor.to(torch.float64)(seen)[..., 0]
    assert torch.equal(policy.decide(seen), location.tanh())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decisions_are_made_in_float64_whatever_is_seen(dtype: torch.dtype) -> None:
    policy = make_policy(action=ActionSpec(max_step=0.7))
    assert policy.decide(observations(dtype=dtype)).dtype == torch.float64
    assert policy.actor.head.weight.dtype == torch.float32  # the actor stays as it is
    assert not policy.decide(observations(dtype=dtype)).requires_grad


def test_a_run_is_decided_on_by_itself() -> None:
    policy, seen = make_policy(action=ActionSpec(max_step=0.7)), observations()
    alone = torch.cat([policy.decide(seen[[run]]) for run in range(len(seen))])
    torch.testing.assert_close(alone, policy.decide(seen), rtol=0, atol=1e-12)


def test_an_untrained_policy_hardly_prefers_an_action() -> None:
    policy = Policy(make_policy(action=ActionSpec(max_step=0.7)).card)
    assert policy.decide(observations()).abs().max() < 0.2
    assert policy.decide(observations()).any()


# Hash


def test_the_hash_is_16_hexadecimal_digits_and_the_same_again() -> None:
    assert make_policy().hash == make_policy().hash
    assert len(make_policy().hash) == 16
    int(make_policy().hash, 16)


@pytest.mark.parametrize("name", [name for name, _ in make_policy().actor.named_parameters()])
def test_the_hash_follows_every_weight(name: str) -> None:
    policy = make_policy()
    with torch.no_grad():
        policy.actor.get_parameter(name).view(-1)[-1] += 1e-6
    assert policy.hash != make_policy().hash


@pytest.mark.parametrize(
    "change",
    [
        {"name": "yours"},
        {"interval": 20},
        {"observation": OBSERVATION[::-1]},
        {"observation": (*OBSERVATION[:-1], "log-param-norm")},
        {"action": ActionSpec(multipliers=(0.5, 0.8, 1.0, 1.25, 4.0))},
        {"action": ActionSpec(bound=1.0)},
        {"action": ActionSpec(reference="cosine")},
        {"action": ActionSpec(scope="network")},
    ],
    ids=str,
)
def test_the_hash_follows_what_the_card_says_of_the_policy(change: dict[str, Any]) -> None:
    changed = make_policy(**change)
    assert all(
        torch.equal(a, b) for a, b in zip(changed.actor.parameters(), make_policy().actor.parameters(), strict=True)
    )
    assert changed.hash != make_policy().hash


@pytest.mark.parametrize(
    "change",
    [{"description": "Better."}, {"training": TrainingCard(seed=1, env_steps=5, evaluation={"x": 1.0})}],
    ids=["description", "training"],
)
def test_the_hash_does_not_follow_how_it_was_trained(change: dict[str, Any]) -> None:
    assert make_policy(**change).card != make_policy().card
    assert make_policy(**change).hash == make_policy().hash


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_deciding_does_not_change_the_hash(dtype: torch.dtype) -> None:
    policy = make_policy()
    policy.decide(observations(dtype=dtype))
    assert policy.hash == make_policy().hash


# What is corrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_policy().save(tmp_path / "policy")
    return tmp_path / "policy"


def edit(old: str, new: str) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        text = (folder / CARD).read_text()
        assert old in text
        (folder / CARD).write_text(text.replace(old, new, 1))

    return corrupt


def reweigh(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        weights = load((folder / WEIGHTS).read_bytes())
        change(weights)
        (folder / WEIGHTS).write_bytes(save(weights))

    return corrupt


def cut(n_bytes: int) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        content = (folder / WEIGHTS).read_bytes()
        (folder / WEIGHTS).write_bytes(content[:n_bytes])

    return corrupt


def make_a_folder(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


def flip(n_bytes_before_the_end: int) -> Callable[[Path], None]:
    def corrupt(folder: Path) -> None:
        content = bytearray((folder / WEIGHTS).read_bytes())
        content[-n_bytes_before_the_end] ^= 1
        (folder / WEIGHTS).write_bytes(content)

    return corrupt


@pytest.mark.parametrize(
    "change",
    [
        flip(1), flip(400),
        reweigh(lambda weights: weights["head.bias"].add_(1e-6)),
        edit("interval = 10", "interval = 11"), edit('"mine"', '"other"'),
        edit("layerwise_observation = true", "layerwise_observation = false"),
        edit('description = ""', 'description = "Better."'),
        edit("test_looks = 0", "test_looks = 1"), edit("seconds = 0.0\n", ""),
    ],
)  # fmt: skip
def test_a_change_of_card_or_weights_is_noticed(change: Callable[[Path], None], folder: Path) -> None:
    change(folder)
    with pytest.raises(ConfigError) as caught:
        load_policy(folder)
    text = (folder / CARD).read_text()
    assert str(caught.value).startswith(f"{folder / CARD}: key 'checksum': is '")
    assert str(caught.value).endswith("restore it, or remove the key if you meant to change it")
    (folder / CARD).write_text("".join(line for line in text.splitlines(keepends=True) if "checksum" not in line))
    load_policy(folder)  # as every card of before, which had none


def test_other_words_for_the_same_card_are_no_change(folder: Path) -> None:
    checksum, _, rest = (folder / CARD).read_text().partition("\n")
    (folder / CARD).write_text(f"# Ours.\r\n{checksum}\r\n\r\n" + rest.replace("\n", "\r\n"))
    assert load_policy(folder).hash == make_policy().hash


@pytest.mark.parametrize(
    ("corrupt", "error", "file", "message"),
    [
        pytest.param(shutil.rmtree, ConfigError, "", "does not exist", id="no folder"),
        pytest.param(lambda f: (f / CARD).unlink(), ConfigError, CARD, "cannot be read", id="no card"),
        pytest.param(lambda f: (f / CARD).write_bytes(b"\xff"), ConfigError, CARD, "cannot be read", id="no text"),
        pytest.param(lambda f: (f / CARD).write_text("="), ConfigError, CARD, "is not valid TOML", id="no TOML"),
        pytest.param(
            edit("interval =", "intervall ="),
            ConfigError,
            CARD,
            "unknown key 'intervall'; did you mean 'interval'?",
            id="unknown key",
        ),
        pytest.param(
            edit("bound =", "bond ="),
            ConfigError,
            CARD,
            "unknown key 'action.bond'; did you mean 'bound'?",
            id="unknown key in a table",
        ),
        pytest.param(edit('name = "mine"', ""), ConfigError, CARD, "key 'name' is missing", id="no name"),
        pytest.param(edit('"mine"', '"My Policy"'), ConfigError, CARD, "key 'name'", id="bad name"),
        pytest.param(edit("interval = 10", "interval = 0"), ConfigError, CARD, "key 'interval'", id="bad interval"),
        pytest.param(edit("format = 1", "format = 2"), ConfigError, CARD, "key 'format'", id="another format"),
        pytest.param(
            edit("    1.0,\n", "    1.1,\n"), ConfigError, CARD, "multipliers must include 1.0", id="no neutral action"
        ),
        pytest.param(
            edit('"progress"', '"progres"'),
            UnknownNameError,
            "",
            "unknown observation 'progres'; did you mean 'progress'?",
            id="unknown feature",
        ),
        pytest.param(
            edit('"progress"', '"progres"'),
            UnknownNameError,
            CARD,
            "unknown observation 'progres'; did you mean 'progress'?",
            id="unknown feature, named",
        ),
        pytest.param(lambda f: (f / WEIGHTS).unlink(), ConfigError, WEIGHTS, "cannot be read", id="no weights"),
        pytest.param(make_a_folder, ConfigError, WEIGHTS, "cannot be read: Is a directory", id="weights are a folder"),
        pytest.param(cut(0), ConfigError, WEIGHTS, "is not a valid safetensors file", id="empty weights"),
        pytest.param(cut(50), ConfigError, WEIGHTS, "is not a valid safetensors file", id="cut in the header"),
        pytest.param(cut(-1), ConfigError, WEIGHTS, "is not a valid safetensors file", id="cut at the end"),
        pytest.param(
            edit("8,\n    5,", "8,\n    6,"),
            ConfigError,
            WEIGHTS,
            "'body.2.weight' has shape (5, 8), but card.toml describes an actor with (6, 8)",
            id="another actor",
        ),
        pytest.param(
            edit('    "progress",\n', ""),
            ConfigError,
            WEIGHTS,
            "'body.0.weight' has shape (8, 6), but card.toml describes an actor with (8, 5)",
            id="a feature less",
        ),
        pytest.param(
            edit("    0.5,\n", ""),
            ConfigError,
            WEIGHTS,
            "'head.weight' has shape (5, 5), but card.toml describes an actor with (4, 5)",
            id="a multiplier less",
        ),
        pytest.param(
            reweigh(lambda weights: weights.pop("head.bias")),
            ConfigError,
            WEIGHTS,
            "'head.bias' has shape None, but card.toml describes an actor with (5,)",
            id="a tensor less",
        ),
        pytest.param(
            reweigh(lambda weights: weights.update(extra=torch.zeros(2))),
            ConfigError,
            WEIGHTS,
            "'extra' has shape (2,), but card.toml describes an actor with None",
            id="a tensor more",
        ),
        pytest.param(
            reweigh(lambda weights: weights["head.bias"].fill_(torch.nan)),
            ConfigError,
            WEIGHTS,
            "has weights that are not finite",
            id="NaN",
        ),
        pytest.param(
            reweigh(lambda weights: weights["body.0.weight"].view(-1)[3:4].fill_(torch.inf)),
            ConfigError,
            WEIGHTS,
            "has weights that are not finite",
            id="inf",
        ),
    ],
)
def test_what_is_corrupt_is_named_in_a_line(
    folder: Path, corrupt: Callable[[Path], None], error: type[UserError], file: str, message: str
) -> None:
    load_policy(folder)
    corrupt(folder)
    with pytest.raises(error) as caught:
        load_policy(folder)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    if error is ConfigError or file:
        assert str(folder / file) in text


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("protocol", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_opened(folder: Path, tmp_path: Path, protocol: str) -> None:
    trap, file = Trap(tmp_path / "sprung"), folder / WEIGHTS
    if protocol == "pickle":
        file.write_bytes(pickle.dumps(trap))
    else:
        torch.save({**load(file.read_bytes()), "trap": trap}, file)
    with pytest.raises(ConfigError, match="is not a valid safetensors file"):
        load_policy(folder)
    assert not trap.file.exists()
    pickle.loads(pickle.dumps(trap))
    assert trap.file.exists()  # the trap works


def test_no_code_runs_that_a_card_names(folder: Path, tmp_path: Path) -> None:
    (folder / "feature.py").write_text(
        f"from pathlib import Path\n"
        f"from ganno_bench.policies.observations import progress as mine\n"
        f"Path({str(tmp_path / 'ran')!r}).touch()\n"
    )
    edit('"progress"', f'"{folder}/feature.py:mine"')(folder)
    with pytest.raises(UserError):
        load_policy(folder)
    assert not (tmp_path / "ran").exists()
