"""The shipped policies: their cards agree with their configurations, and their training was as described."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganno_bench.core.resources import resource_dir
from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.demonstrations import load_curves
from ganno_bench.policies.policy import load_policy
from ganno_bench.workloads.suite import load_suite

POLICIES = resource_dir("policies")
CARDS = sorted(POLICIES.glob("*/card.toml"))
CONFIGS = [*sorted(POLICIES.glob("*/train.toml")), *sorted(POLICIES.glob("ablations/*.toml"))]


def test_there_are_four() -> None:
    assert [card.parent.name for card in CARDS] == ["ganno", "ganno-anchored", "ganno-global", "ganno-light"]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_a_card_carries_the_configuration_beside_it(card: Path) -> None:
    policy, config = load_policy(card.parent), load_train_config(card.parent / "train.toml")
    assert policy.card.training.config == config.model_dump(mode="json", exclude_none=True)
    assert policy.card.name == config.name == card.parent.name
    assert policy.card.action == config.action
    assert policy.card.actor == config.actor
    assert policy.card.observation == config.observation
    assert policy.card.behaviour is not None
    assert policy.card.training.env_steps <= config.learner.env_steps + 20_000  # a batch more


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_configurations_keep_to_shallow_networks_of_digits(file: Path) -> None:
    config = load_train_config(file)
    assert {dataset.source for dataset in config.tasks.dataset.values()} == {"digits"}
    for family in config.tasks.family:
        assert family.depth[1] <= {"mlp": 6, "cnn": 3}[family.model["family"]]
    if config.demonstrations is not None:
        assert set(load_curves(config.demonstrations, file)) == {"sgd", "adamw"}


def test_demonstrations_are_of_networks_that_policies_are_trained_on() -> None:
    suite = load_suite(str(POLICIES / "demonstrations" / "suite.toml"))
    assert {dataset.source for dataset in suite.dataset.values()} == {"digits"}
    assert {(w.model["family"], w.model["depth"]) for w in suite.workload} == {("mlp", depth) for depth in (1, 2, 4, 6)}


@pytest.mark.parametrize("workload", load_suite("headline").workload, ids=lambda w: w.id)
def test_what_the_headline_is_about_was_never_seen(workload: object) -> None:
    model = workload.model  # type: ignore[attr-defined]
    for card in CARDS:
        for family in load_train_config(card.parent / "train.toml").tasks.family:
            assert family.model["family"] != model["family"] or model["depth"] > family.depth[1]
