"""A saved state restores a loop in any order and fits no other; a second training begins like the first."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError
from ganno_bench.marl.env import DEFAULT_OBSERVATION
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from tests.helpers import plain_loop
from tests.helpers.plain_loop import Net

SHIPPED = ("ganno-light", "ganno-global", "ganno-anchored", "ganno")
TOTAL, STOP = 40, 17


@pytest.fixture(params=[*SHIPPED, "decay"])
def policy(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a policy; the last one also sets the weight decay and has a memory."""
    if request.param != "decay":
        return Path(request.param)
    torch.manual_seed(3)
    action = ActionSpec(decay_multipliers=(0.2, 1.0, 5.0))
    made = Policy(PolicyCard(name="decay", observation=DEFAULT_OBSERVATION, action=action, actor=ActorSpec(memory=4)))
    with torch.no_grad():
        made.actor.head.weight *= 300.0
    made.save(tmp_path / "decay")
    return tmp_path / "decay"


class Parts(plain_loop.Parts):
    """Parts with a weight decay, which `update` returns as well."""

    def __init__(self, policy: Path, total: int = TOTAL, **options: float) -> None:
        super().__init__(policy, total, weight_decay=1e-3, **options)

    def update(self, index: int) -> list[tuple[float, float]]:  # type: ignore[override]
        decays = [group["weight_decay"] for group in self.optimizer.param_groups]
        return list(zip(super().update(index), decays, strict=True))

    def saved(self) -> dict[str, Any]:
        names = ("net", "optimizer", "scheduler")
        return {name: copy.deepcopy(getattr(self, name).state_dict()) for name in names}


ORDERS = (
    ("make", "optimizer", "scheduler"),
    ("make", "scheduler", "optimizer"),
    ("optimizer", "make", "scheduler"),
)


@pytest.mark.parametrize("order", ORDERS, ids="-".join)
def test_any_order_is_exact(policy: Path, order: tuple[str, ...]) -> None:
    whole, first, second = Parts(policy), Parts(policy), Parts(policy)
    whole.make()
    first.make()
    expected = [whole.update(index) for index in range(TOTAL)]
    for index in range(STOP):
        first.update(index)
    state = first.saved()
    second.net.load_state_dict(state["net"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in order:
            if part == "make":
                second.make()
            else:
                getattr(second, part).load_state_dict(state[part])
        assert [second.update(index) for index in range(STOP, TOTAL)] == expected[STOP:]
    assert len({str(controls) for controls in expected}) > 1


@pytest.mark.parametrize("other", SHIPPED)
def test_the_state_of_another_policy_is_refused(policy: Path, other: str) -> None:
    if str(policy) == other:
        return
    theirs, own = Parts(Path(other)), Parts(policy)
    theirs.make()
    own.make()
    for index in range(13):
        theirs.update(index)
    with pytest.raises(
        ConfigError,
        match=f"the state comes from the policy '{other}' .*, this scheduler has .*; make the scheduler with",
    ):
        own.scheduler.load_state_dict(theirs.saved()["scheduler"])
    assert own.scheduler.n_updates == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"total": 2 * TOTAL},
            "the state's total_updates is 40, this scheduler's is 80; make the scheduler with total_updates=40",
        ),
        ({"lr": 0.2}, "the state's base_lr is 0.1, this scheduler's is 0.2; make the scheduler with base_lr=0.1"),
        ({"max_lr": 0.5}, "the state's max_lr is 10.0, this scheduler's is 0.5; make the scheduler with max_lr=10.0"),
    ],
)
def test_the_state_of_another_horizon_or_base_is_refused(policy: Path, changed: dict[str, Any], message: str) -> None:
    theirs, own = Parts(policy), Parts(policy, **changed)
    theirs.make()
    own.make()
    theirs.update(0)
    with pytest.raises(ConfigError, match=message):
        own.scheduler.load_state_dict(theirs.saved()["scheduler"])
    assert own.scheduler.n_updates == 0


def test_the_state_of_another_optimizer_is_refused() -> None:
    sgd, adam = (
        GannoScheduler(make(layer_groups(Net()), lr=0.01), TOTAL, "ganno-light")
        for make in (torch.optim.SGD, torch.optim.AdamW)
    )
    with pytest.raises(
        ConfigError, match="the state's optimizer is 'sgd', this scheduler's is 'adamw'; make the same optimizer"
    ):
        adam.load_state_dict(sgd.state_dict())


@pytest.mark.parametrize("state", [None, {}, {"last_epoch": 3}, {"control": None}, {"control": {"log_factor": 3}}])
def test_what_is_no_state_is_refused(state: Any) -> None:
    scheduler = GannoScheduler(torch.optim.SGD(layer_groups(Net()), lr=0.01), TOTAL, "ganno-light")
    with pytest.raises(ConfigError, match="not a state of a GannoScheduler"):
        scheduler.load_state_dict(state)


def in_first_format(state: dict[str, Any], n_groups: int) -> dict[str, Any]:
    """Return a state in format 1: without the settings it belongs to, and with a learning rate for each group."""
    kept = ("n_updates", "control", "block_begin", "losses", "layers")
    block = [row * (n_groups // len(row)) for row in state["lr_block"]]
    return {name: state[name] for name in kept} | {"format": 1, "lr_block": block}


def test_a_state_of_the_first_format_is_read_if_it_fits(policy: Path) -> None:
    whole, first, second, other = Parts(policy), Parts(policy), Parts(policy), Parts(policy, lr=0.2)
    for parts in (whole, first, second, other):
        parts.make()
    expected = [whole.update(index) for index in range(TOTAL)]
    for index in range(STOP):
        first.update(index)
    state = first.saved()
    state["scheduler"] = in_first_format(state["scheduler"], 3)
    for name in ("net", "optimizer", "scheduler"):
        getattr(second, name).load_state_dict(state[name])
    assert [second.update(index) for index in range(STOP, TOTAL)] == expected[STOP:]
    with pytest.raises(ConfigError, match=r"belong to another policy, horizon or base learning rate \(0.2 here"):
        other.scheduler.load_state_dict(state["scheduler"])


def test_a_second_training_does_not_begin_where_the_first_ended(policy: Path) -> None:
    parts = Parts(policy)
    parts.make()
    at_first = [group["lr"] for group in parts.optimizer.param_groups]
    for index in range(TOTAL):
        parts.update(index)
    assert [group["lr"] for group in parts.optimizer.param_groups] != at_first
    parts.make()
    assert parts.scheduler.state_dict()["base_lr"] == 0.1
    if "param_norm" not in parts.scheduler.policy.controller.needs:  # what it sees at first is the same
        assert [group["lr"] for group in parts.optimizer.param_groups] == at_first
    with pytest.warns(
        UserWarning,
        match=r"the base learning rate is 0.1, the groups' 'initial_lr'; their learning rate now is .*; give base_lr=",
    ):
        parts.update(0)
    parts.update(1)  # once
    assert parts.optimizer.param_groups[0].get("initial_weight_decay", 1e-3) == 1e-3


def test_a_base_learning_rate_may_be_given() -> None:
    parts = Parts(Path("ganno-light"))
    torch.optim.lr_scheduler.LinearLR(parts.optimizer, 0.5)
    given = GannoScheduler(parts.optimizer, TOTAL, "ganno-light", base_lr=0.02)
    assert given.state_dict()["base_lr"] == 0.02
    other = Parts(Path("ganno-light"), lr=0.02)
    other.make()
    assert given.get_last_lr() == other.scheduler.get_last_lr()
    parts.optimizer.param_groups[1]["initial_lr"] = 0.3
    with pytest.raises(
        ConfigError, match=r"begin with different learning rates: \[0.02, 0.3\]; give base_lr= to choose one"
    ):
        GannoScheduler(parts.optimizer, TOTAL, "ganno-light")


def test_groups_keep_their_proportions_of_weight_decay(tmp_path: Path) -> None:
    action = ActionSpec(decay_multipliers=(0.2, 1.0, 5.0))
    torch.manual_seed(3)
    made = Policy(PolicyCard(name="decay", observation=("progress", "log-train-loss"), action=action, interval=2))
    with torch.no_grad():
        made.actor.head.weight *= 300.0
    made.save(tmp_path / "decay")
    parts = Parts(tmp_path / "decay")
    parts.optimizer.param_groups[1]["weight_decay"] = 0.0
    parts.make()
    seen = [parts.update(index) for index in range(12)]
    assert {controls[1][1] for controls in seen} == {0.0}
    assert len({controls[0][1] for controls in seen}) > 1


def test_what_is_refused_changes_nothing(policy: Path) -> None:
    parts = Parts(policy)
    parts.make()
    for index in range(STOP):
        parts.update(index)
    before, state = str(parts.scheduler.state_dict()), parts.saved()["scheduler"]
    broken = [{**state, "losses": None}, {**state, "control": {**state["control"], "log_decay": None}}]
    broken += [{**state, "control": dict.fromkeys(state["control"], "meta")}]
    if state["layers"] is not None:
        broken += [{**state, "layers": {**state["layers"], "samples": torch.zeros(3)}}]
    for wrong in broken:
        with pytest.raises(ConfigError):
            parts.scheduler.load_state_dict(wrong)
        assert str(parts.scheduler.state_dict()) == before


def test_an_older_state_of_the_optimizer_does_not_change_the_base() -> None:
    parts = Parts(Path("ganno-light"))
    old = copy.deepcopy(parts.optimizer.state_dict())  # which has no initial_lr
    parts.make()
    parts.optimizer.load_state_dict(old)
    for index in range(TOTAL - 1):
        parts.update(index)
    parts.make()
    assert parts.scheduler.state_dict()["base_lr"] == 0.1
