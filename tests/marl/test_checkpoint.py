"""A checkpoint that was edited, cut, damaged or taken from another training is refused, in one line that names it."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ganno_bench.core.errors import ConfigError, ResumeError
from ganno_bench.marl.checkpoint import load_checkpoint, save_checkpoint
from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.mappo import Trainer
from ganno_bench.policies.policy import load_policy
from tests.helpers.tiny_training import CONFIG

TRAINING = {"config": "c0ff", "datasets": {"digits": "da7a"}}
STATE: dict[str, Any] = {
    **TRAINING,
    "loss": {"weight": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0)},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
    "batches": [{"batch": 1, "validation": float("nan")}],
    "policy": {"card.toml": b"name"},
    "best": 0.25,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "checkpoint.pt", STATE)
    return tmp_path / "checkpoint.pt"


def test_what_was_written_is_read(file: Path) -> None:
    state = load_checkpoint(file, TRAINING)
    assert repr(state) == repr(STATE)
    assert [path.name for path in file.parent.iterdir()] == ["checkpoint.pt"]


def edits() -> list[Callable[[dict[str, Any]], None]]:
    return [
        lambda s: s["loss"]["weight"][1].__setitem__(2, 7.0),
        lambda s: s["loss"].pop("empty"),
        lambda s: s["optimizer"]["state"][0].update(step=torch.tensor(4.0)),
        lambda s: s["optimizer"]["param_groups"][0].update(lr=0.2),
        lambda s: s["batches"].pop(),
        lambda s: s["batches"][0].update(batch=2),
        lambda s: s.update(best=0.5),
        lambda s: s.update(policy={}),
    ]


@pytest.mark.parametrize("edit", edits(), ids=range(len(edits())))
def test_an_edited_checkpoint_is_refused(file: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    whole = torch.load(file, weights_only=True)
    state = torch.load(io.BytesIO(whole["state"].numpy().tobytes()), weights_only=True)
    edit(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    whole["state"] = torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)
    torch.save(whole, file)
    with pytest.raises(
        ResumeError, match=rf"^{file}: was changed after it was written: .*; restore the file, or start"
    ):
        load_checkpoint(file, TRAINING)


def test_whatever_rots_nothing_else_is_read(file: Path) -> None:
    content, rng = file.read_bytes(), random.Random(0)
    mutants = [content[: rng.randrange(len(content))] for _ in range(10)]
    for _ in range(150):
        at = rng.randrange(len(content))
        mutants.append(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
    noticed = 0
    for mutant in mutants:
        file.write_bytes(mutant)
        try:
            # What is not noticed changed nothing: the padding of the archive, a date.
            assert repr(load_checkpoint(file, TRAINING)) == repr(STATE)
        except ResumeError as error:
            noticed += str(error).startswith(f"{file}: ")
            assert "\n" not in str(error)  # noqa: PT017 - either is right
    assert noticed > 80


@pytest.mark.parametrize("key", TRAINING)
def test_one_of_another_training_is_refused(file: Path, key: str) -> None:
    with pytest.raises(
        ResumeError,
        match=rf"^{file}: key '{key}': belongs to another training, expected 'other' \(value: .*\); start again with",
    ):
        load_checkpoint(file, TRAINING | {key: "other"})


def test_formats(file: Path) -> None:
    torch.save({"format": 1, "best": 0.5}, file)  # had no checksum
    assert load_checkpoint(file, TRAINING) == {"format": 1, "best": 0.5}
    torch.save({"best": 0.5}, file)  # nor did the first ones say their format
    assert load_checkpoint(file, TRAINING) == {"best": 0.5}
    for format_, message in (
        (2, "cannot be read: KeyError: 'state'; restore"),
        (3, "key 'format' is 3; this version of gan"),
    ):
        torch.save({"format": format_, "best": 0.5}, file)
        with pytest.raises(ResumeError, match=rf"^{file}: {message}"):
            load_checkpoint(file, TRAINING)


# The folder of a training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two batches; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.toml").write_text(CONFIG)
    trainer_of(folder / "tiny.toml").train(env_steps=1)
    return folder


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def trainer_of(file: Path, *, resume: bool = False) -> Trainer:
    return Trainer(load_train_config(file), file, file.parent / "out", resume=resume)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"hash": "x"'])
def test_damaged_settings_are_named(copy: Path, content: str) -> None:
    (copy / "out" / "config.json").write_text(content)
    with pytest.raises(ResumeError, match=r"out/config\.json: cannot be read, or has no key 'hash': "):
        trainer_of(copy / "tiny.toml", resume=True)


def test_other_data_are_refused(copy: Path) -> None:
    checkpoint = copy / "out" / "checkpoint.pt"
    whole = torch.load(checkpoint, weights_only=True)
    state = torch.load(io.BytesIO(whole["state"].numpy().tobytes()), weights_only=True)
    save_checkpoint(checkpoint, state | {"datasets": {"digits": "0" * 16}})
    with pytest.raises(
        ResumeError, match=r"checkpoint\.pt: key 'datasets': belongs to another training, .*value: \{'digits': '0000"
    ):
        trainer_of(copy / "tiny.toml", resume=True)


def test_the_best_policy_is_that_of_the_checkpoint(copy: Path) -> None:
    best, kept = copy / "out" / "policy", load_policy(copy / "out" / "policy")
    content = bytearray((best / "policy.safetensors").read_bytes())
    content[-2] ^= 1
    (best / "policy.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"policy/card\.toml: key 'checksum': is '\w+', but card and policy\.saf"):
        load_policy(best)
    trainer_of(copy / "tiny.toml", resume=True)
    assert load_policy(best).hash == kept.hash
    shutil.rmtree(best)
    trainer_of(copy / "tiny.toml", resume=True)
    assert load_policy(best).hash == kept.hash


def test_a_checkpoint_of_format_1_goes_on(copy: Path) -> None:
    checkpoint = copy / "out" / "checkpoint.pt"
    whole = torch.load(checkpoint, weights_only=True)
    assert hashlib.sha256(whole["state"].numpy().tobytes()).hexdigest() == whole["checksum"]
    state = torch.load(io.BytesIO(whole["state"].numpy().tobytes()), weights_only=True)
    before = trainer_of(copy / "tiny.toml", resume=True)
    old = {key: value for key, value in state.items() if key not in ("config", "datasets", "policy")}
    learned = dict(old["loss"])
    mean, variance, weight = (learned.pop(f"value_norm.{name}") for name in ("mean", "variance", "weight"))
    learned |= {  # as TorchRL's norm of returns has it
        "value_norm.running_mean": (mean * weight).float(),
        "value_norm.running_mean_sq": ((variance + mean**2) * weight).float(),
        "value_norm.debiasing_term": weight.float(),
    }
    torch.save({"format": 1, **old, "loss": learned}, checkpoint)
    after = trainer_of(copy / "tiny.toml", resume=True)
    assert json.dumps([vars(b) for b in after.batches]) == json.dumps([vars(b) for b in before.batches])
    for mine, other in zip(after.loss.parameters(), before.loss.parameters(), strict=True):
        assert torch.equal(mine, other)
    scales = [trainer.loss.value_norm.scale() for trainer in (after, before)]
    torch.testing.assert_close(*scales, rtol=1e-4, atol=0.0)
