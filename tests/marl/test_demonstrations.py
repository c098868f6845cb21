"""Demonstrations: curves from records, the demonstrator's actions, and the actor that imitates them."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch

from ganno_bench.bench.runner import Settings, run_suite
from ganno_bench.core.errors import ConfigError
from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.demonstrations import Curve, DemonstrationSpec, _line, demonstrate, imitate, load_curves
from ganno_bench.marl.mappo import Trainer
from ganno_bench.policies.actions import ActionSpec
from tests.helpers.tiny_training import CONFIG

SUITE = """
name = "shown"
schedulers = ["linear"]

[budget]
trials = 1
tuning_seeds = 1
report_seeds = 2

[dataset.digits]
source = "digits"
task = "image-classification"
input = "image"
target = "label"
max_train = 100

[[workload]]
id = "mlp-1"
dataset = "digits"
model = { family = "mlp", depth = 1, width = 8 }
optimizer = { name = "sgd" }
batch_size = 16
n_updates = 40
n_evaluations = 1
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run directory `shown`."""
    folder = tmp_path_factory.mktemp("demonstrations")
    (folder / "shown.toml").write_text(SUITE)
    run_suite(Settings(str(folder / "shown.toml"), schedulers=["linear"], out=folder / "shown"))
    return folder


def test_a_suite_that_is_not_that_of_the_records_is_refused(records: Path, tmp_path: Path) -> None:
    shutil.copytree(records / "shown", tmp_path / "shown")
    suite = tmp_path / "shown" / "suite.toml"
    suite.write_text(suite.read_text().replace("n_updates = 40", "n_updates = 400"))  # it says when a rate was used
    with pytest.raises(
        ConfigError, match=r"shown/suite\.toml: has hash \w{16}, but the records next to it belong to \w{16}; restore"
    ):
        load_curves(DemonstrationSpec(records="shown", scheduler="linear"), tmp_path / "train.toml")


def test_curves_are_those_of_the_report_runs(records: Path) -> None:
    curves = load_curves(DemonstrationSpec(records="shown", scheduler="linear"), records / "train.toml")
    assert set(curves) == {"sgd"}
    assert (curves["sgd"].slope == 0).all()  # one depth
    rates = curves["sgd"].level.exp()
    # One trial: the default, 0.01, falling linearly.
    torch.testing.assert_close(rates[:32], 0.01 * (1 - torch.linspace(0, 1, 33)[:32].double()), rtol=0.15, atol=5e-4)
    assert float(rates[0]) == pytest.approx(0.01)


def test_what_is_not_there_is_said(records: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.toml: key 'demonstrations': .*shown has no report runs of 'cosine'"):
        load_curves(DemonstrationSpec(records="shown", scheduler="cosine"), records / "train.toml")


def flat(level: float, slope: float) -> Curve:
    return Curve(torch.full((33,), level, dtype=torch.float64), torch.full((33,), slope, dtype=torch.float64))


def test_an_open_optimizer_shows_nothing(records: Path) -> None:
    run_suite(Settings(str(records / "shown.toml"), schedulers=["prodigy"], out=records / "open"))
    with pytest.raises(
        ConfigError, match=r"'demonstrations': 'prodigy' replaces the optimizer, so it shows no learning"
    ):
        load_curves(DemonstrationSpec(records="open", scheduler="prodigy"), records / "train.toml")


def test_a_curve_is_a_line_in_the_logarithm_of_the_number_of_layers() -> None:
    generator = torch.Generator().manual_seed(0)
    level, slope = torch.randn(2, 33, generator=generator, dtype=torch.float64)
    shown = [(math.log(n), level + slope * math.log(n)) for n in (2, 3, 5, 5)]
    line = _line(shown)
    torch.testing.assert_close(line.level, level)
    torch.testing.assert_close(line.slope, slope)
    assert float(line.at(0.5, 7)) == pytest.approx(float(level[16] + slope[16] * math.log(7)))


@pytest.mark.parametrize("action", [ActionSpec(), ActionSpec(reference="cosine"), ActionSpec(max_step=0.7)])
def test_the_demonstrator_brings_every_layer_to_the_curve(action: ActionSpec) -> None:
    curve = flat(math.log(0.05) - 0.5 * math.log(3), 0.5)
    base_lr, factor = torch.tensor([1e-3, 0.4], dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(12):
        factor = action.moved(factor, demonstrate(action, curve, base_lr, factor, 0.5))
    shape = 0.505 if action.reference == "cosine" else 1.0
    rates = shape * base_lr[:, None] * factor.exp()
    assert ((rates / 0.05).log().abs() < 0.12).all()  # half of the smallest multiplier


def test_a_decay_choice_is_left_alone() -> None:
    action = ActionSpec(decay_multipliers=(0.5, 1.0, 2.0))
    curve, ones = flat(0.0, 0.0), torch.ones(1, dtype=torch.float64)
    chosen = demonstrate(action, curve, 0.1 * ones, torch.zeros(1, 2, dtype=torch.float64), 0.0)
    assert (chosen % 3 == 1).all()
    assert (chosen // 3 == 4).all()  # up, as fast as possible


@pytest.mark.parametrize("memory", [0, 4])
def test_a_policy_that_begins_with_demonstrations_does_what_it_was_shown(records: Path, memory: int) -> None:
    file = records / f"train-{memory}.toml"
    text = CONFIG.replace('optimizer = ["sgd", "adamw"]', 'optimizer = ["sgd"]').replace(
        "hidden = [16]", f"hidden = [16]\nmemory = {memory}"
    )
    file.write_text(f'{text}\n[demonstrations]\nrecords = "shown"\nscheduler = "linear"\nlr = 0.01\n')
    config = load_train_config(file)
    trainer = Trainer(config, file, records / f"out-{memory}")
    assert config.demonstrations is not None
    curves = load_curves(config.demonstrations, file)
    agreement = imitate(trainer.policy.actor, trainer.envs, curves, config.demonstrations, 0)
    assert agreement > 0.6  # of five actions
    # The actor that was shown is the one that is rewarded afterwards.
    trainer.train(env_steps=1)
    env = trainer.envs[0]
    env.begin([1, 2, 3, 4], torch.full((4,), 1e-3).double(), torch.zeros(4).double())
    memory_now = trainer.policy.controller.init(env.engine.run_info(env.base_lr, env.base_lr)).hidden
    first, _ = type(trainer.policy)(trainer.policy.card, trainer.policy.actor).recall(env.seen, memory_now)
    assert (first >= 3).float().mean() > 0.5  # from a tenth of what was shown: up
