"""A policy learns in minutes: `benchmarks/learning.py` with one seed instead of three."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path

import pytest

from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.mappo import Trainer
from ganno_bench.policies.policy import Policy, load_policy

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow(group="long")
def test_a_policy_beats_what_it_must_after_minutes(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("learning", ROOT / "benchmarks" / "learning.py")
    assert spec is not None
    assert spec.loader is not None
    learning = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(learning)
    file = ROOT / "policies" / "ganno" / "train.toml"
    trainer = Trainer(load_train_config(file), file, tmp_path)
    untrained = Policy(trainer.policy.card, copy.deepcopy(trainer.policy.actor))
    trainer.train(env_steps=70_000)  # what an idle core does in three minutes
    returns = learning.compare(load_policy(tmp_path / "policy"), untrained, trainer.validation_envs)
    assert returns["policy"] > returns["untrained"]
    assert returns["policy"] > returns["best fixed multiplier"]
    assert returns["policy"] > returns["mean curve"]
