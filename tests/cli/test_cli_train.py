"""`train`, from a configuration to a policy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganno_bench.policies.policy import load_policy
from tests.helpers.command_line import Call
from tests.helpers.tiny_training import CONFIG

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tiny.toml").write_text(CONFIG)
    return "tiny.toml"


def test_it_ends_with_where_everything_lies(call: Call, config: str) -> None:
    said = call("train", config, "--env-steps", "20")
    assert said.code == 0
    for part in ("policy", "metrics.csv", "learning-curve.png"):
        assert str(Path("runs/train/tiny") / part) in said.out
        assert (Path("runs/train/tiny") / part).exists()
    assert ", validation " in said.err


def test_a_reward_that_is_no_number_ends_it_in_one_line_and_once_mended_it_goes_on(call: Call, config: str) -> None:
    good = (
        "from ganno_bench.marl.rewards import reward\n\n@reward()\ndef mine(transition):\n"
        "    return -transition.val_after[:, None]\n"
    )
    Path("mine.py").write_text(good.replace("return -", "return float('nan') * "))
    Path(config).write_text(CONFIG.replace("[learner]", '[reward]\n"./mine.py:mine" = 1.0\n\n[learner]'))
    said = call("train", config, "--env-steps", "20")
    assert (said.code, said.out) == (2, "")
    assert re.fullmatch(
        r"error: reward './mine.py:mine' on 'training-.*', decision 1 of \d \(after 0 updates\), a sound run: "
        r"expected a finite reward, got nan \(run 0 of 4\); fix it, then use --resume to continue from the last "
        r"checkpoint\n",
        said.err,
    )
    Path("mine.py").write_text(good)
    assert call("train", config, "--env-steps", "20", "--resume").code == 0  # though it was the first batch


@pytest.mark.slow(group="policies")
def test_another_seed_is_another_policy_of_its_own_name(call: Call, config: str) -> None:
    for options in ([], ["--seed", "3"], ["--seed", "5"]):
        out = "-".join(["out", *options])
        assert call("train", config, "--env-steps", "20", "--out", out, *options).code == 0
    folders = [Path(out) / "policy" for out in ("out", "out---seed-3", "out---seed-5")]
    cards = [load_policy(folder).card for folder in folders]
    assert [card.name for card in cards] == ["tiny", "tiny", "tiny-seed-5"]
    assert [card.training.seed for card in cards] == [3, 3, 5]
    own, same, other = ((folder / "policy.safetensors").read_bytes() for folder in folders)
    assert own == same != other


@pytest.mark.slow(group="policies")
def test_it_goes_on_with_the_seed_that_it_began_with(call: Call, config: str) -> None:
    begun = ("train", config, "--seed", "5", "--env-steps")
    assert call(*begun, "20").code == 0
    assert call(*begun, "40", "--resume").code == 0
    said = call("train", config, "--seed", "6", "--env-steps", "40", "--resume", "--out", "runs/train/tiny-seed-5")
    assert (said.code, said.out) == (2, "")
    assert "was begun with another configuration" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.toml"], "nowhere.toml"),
        (["tiny.toml", "--seed", "-1"], "option --seed: must be at least 0 (value: -1)"),
        (["tiny.toml", "--resume"], "there is no checkpoint to resume from; start without --resume"),
    ],
)
def test_one_line_says_it(call: Call, config: str, words: list[str], message: str) -> None:
    said = call("train", *words)
    assert (said.code, said.out) == (2, "")
    assert message in said.err
    assert len(said.err.splitlines()) == 1
