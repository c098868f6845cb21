"""Layers that are frozen, unfrozen or added during training are trained like the others."""

from __future__ import annotations

import copy
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError
from ganno_bench.marl.env import DEFAULT_OBSERVATION
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from tests.helpers.plain_loop import Net

GENERATOR = torch.Generator().manual_seed(1)
INPUTS = torch.randn(256, 6, generator=GENERATOR)
TARGETS = (INPUTS[:, 0] > 0).long() + (INPUTS[:, 1] > 0.5).long()


class Training:
    def __init__(self, policy: str | Path, net: nn.Module, groups: list[dict[str, object]], total: int = 200) -> None:
        self.net = net
        self.optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
        self.scheduler = GannoScheduler(self.optimizer, total, policy)

    def run(self, first: int, end: int) -> list[float]:
        for update in range(first, end):
            index = torch.arange(16 * update, 16 * update + 16) % 256
            self.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.net(INPUTS[index]), TARGETS[index])
            loss.backward()
            self.optimizer.step()
            self.scheduler.step(loss)
        return self.scheduler.get_last_lr()


def never_frozen(policy: str | Path, end: int) -> list[float]:
    net = Net()
    return Training(policy, net, layer_groups(net)).run(0, end)


@pytest.mark.parametrize("policy", ["ganno-anchored", "ganno", "ganno-global"])
@pytest.mark.parametrize("before", [False, True], ids=["frozen after", "frozen before the groups were made"])
def test_a_layer_that_is_unfrozen_is_looked_at_from_then_on(policy: str, before: bool) -> None:
    net = Net()
    if before:
        net.first.requires_grad_(False)
    groups = layer_groups(net)
    net.first.requires_grad_(False)
    training = Training(policy, net, groups)
    initial = net.first.weight.clone()
    frozen = training.run(0, 60)
    assert torch.equal(net.first.weight, initial)
    assert frozen[0] == pytest.approx(math.sqrt(frozen[1] * frozen[2]))
    net.first.requires_grad_(True)
    rates = training.run(60, 150)
    assert not torch.equal(net.first.weight, initial)
    for rate, other in zip(rates, never_frozen(policy, 150), strict=True):
        assert 0.2 < rate / other < 5.0


@pytest.mark.parametrize("policy", ["ganno-anchored", "ganno", "ganno-global", "ganno-light", "recurrent"])
def test_a_group_that_is_added_is_taken_in(policy: str, tmp_path: Path) -> None:
    folder: str | Path = policy
    if policy == "recurrent":
        torch.manual_seed(0)
        card = PolicyCard(name="some", observation=DEFAULT_OBSERVATION, actor=ActorSpec(memory=4), interval=10)
        Policy(card).save(tmp_path / "some")
        folder = tmp_path / "some"
    net = Net()
    groups = layer_groups(net)
    training = Training(folder, net, groups[1:])
    training.run(0, 57)
    training.optimizer.add_param_group(groups[0])
    training.run(57, 58)
    by_name = {group["name"]: group["lr"] for group in training.optimizer.param_groups}
    others = [by_name[name] for name in ("second", "third")]
    assert min(others) * 0.999 <= by_name["first"] <= max(others) * 1.001
    training.run(58, 120)
    assert training.scheduler.n_updates == 120
    assert training.scheduler._run.layer_names == ("first", "second", "third")
    if policy == "recurrent":  # untrained: small differences grow
        return
    whole = dict(zip(by_name, [*never_frozen(folder, 120)[1:], never_frozen(folder, 120)[0]], strict=True))
    for group in training.optimizer.param_groups:
        assert 0.2 < group["lr"] / whole[group["name"]] < 5.0


def test_a_training_that_took_in_a_group_resumes_exactly() -> None:
    net = Net()
    groups = layer_groups(net)
    training = Training("ganno-anchored", net, groups[1:])
    training.run(0, 34)
    training.optimizer.add_param_group(groups[0])
    training.run(34, 57)
    state = [copy.deepcopy(part.state_dict()) for part in (net, training.optimizer, training.scheduler)]
    expected = training.run(57, 100)
    net = Net()
    groups = layer_groups(net)
    again = Training("ganno-anchored", net, [*groups[1:], groups[0]])
    for part, saved in zip((net, again.optimizer, again.scheduler), state, strict=True):
        part.load_state_dict(saved)
    assert again.run(57, 100) == expected
    added = Training("ganno-anchored", net, groups[1:])
    added.optimizer.add_param_group(groups[0])
    added.scheduler.load_state_dict(state[2])
    assert added.scheduler.n_updates == 57


def test_a_learning_rate_of_its_own_is_warned_of() -> None:
    net = Net()
    groups = layer_groups(net)
    training = Training("ganno-anchored", net, groups[1:])
    training.run(0, 5)
    training.optimizer.add_param_group({**groups[0], "lr": 1e-5})
    with pytest.warns(
        UserWarning,
        match="with the learning rate 1e-05; the policy overwrites it, from the base .* 0.01 .*; give max_lr=",
    ):
        training.run(5, 6)
    del training.optimizer.param_groups[2]
    with pytest.raises(ConfigError, match="the optimizer has 2 parameter groups, but had 3; make a new scheduler"):
        training.run(6, 7)
    assert training.scheduler.n_updates == 6


@pytest.mark.parametrize("policy", ["ganno-anchored", "ganno-global"])
def test_a_first_batch_without_gradients_is_no_mistake(policy: str) -> None:
    net = Net()
    training = Training(policy, net, layer_groups(net), total=40)
    loss = nn.functional.cross_entropy(net(INPUTS), TARGETS)
    (0.0 * loss).backward()  # of a batch whose examples are all masked
    training.optimizer.step()
    training.scheduler.step(loss)
    training.run(1, 20)
    assert training.scheduler.n_updates == 20


def test_gradients_that_are_zero_for_long_are_warned_of() -> None:
    net = Net()
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.01)  # without momentum nothing tells that they were cleared
    scheduler = GannoScheduler(optimizer, 40, "ganno-anchored")
    for update in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(INPUTS), TARGETS)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        if update == 9:
            with pytest.warns(
                UserWarning, match=r"all gradients of the first 10 updates are zero, .*; call scheduler\.step"
            ):
                scheduler.step(loss)
        else:
            scheduler.step(loss)


def test_a_frozen_part_of_a_layer_is_not_looked_at(tmp_path: Path) -> None:
    Policy(PolicyCard(name="some", observation=("log-param-norm", "log-update-ratio"), interval=2)).save(tmp_path / "p")
    net = Net()
    net.second.weight.requires_grad_(False)  # as beside an adapter
    training = Training(tmp_path / "p", net, layer_groups(net))
    assert training.scheduler._layers is not None
    norms = training.scheduler._layers.at_first()["param_norm"]
    assert norms[1] == pytest.approx(float(net.second.bias.detach().norm()), rel=1e-6)
    assert norms[0] > float(net.first.bias.detach().norm())


def test_a_group_that_comes_at_the_end_goes_along_too() -> None:
    net = Net()
    groups = layer_groups(net)
    training = Training("ganno-anchored", net, groups[1:], total=30)
    training.run(0, 30)
    training.optimizer.add_param_group(groups[0])
    with pytest.warns(UserWarning, match="more often than total_updates"):
        rates = training.run(30, 31)
    assert min(rates[:2]) * 0.999 <= rates[2] <= max(rates[:2]) * 1.001


def test_a_step_before_the_optimizers_is_warned_of() -> None:
    net = Net()
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.01, momentum=0.9)
    scheduler = GannoScheduler(optimizer, 60, "ganno-anchored")
    said = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(INPUTS), TARGETS)
        loss.backward()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step(loss)
        said += [str(warning.message) for warning in caught]
        optimizer.step()
    assert said == ["the optimizer has made no update yet; call scheduler.step() after optimizer.step()"]


def test_an_empty_group_is_no_obstacle() -> None:
    net = Net()
    training = Training("ganno-light", net, [{"params": []}, *layer_groups(net)], total=30)
    training.run(0, 25)
    assert training.scheduler.n_updates == 25


def test_a_first_update_that_a_scaler_skips_is_not() -> None:
    """Warnings are errors here."""
    net = Net()
    optimizer = torch.optim.AdamW(layer_groups(net), lr=0.001)
    scheduler = GannoScheduler(optimizer, 60, "ganno-light")
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    scheduler.step(1.0)


@pytest.mark.parametrize("frozen", [False, True])
def test_complex_parameters_count_by_their_size(tmp_path: Path, frozen: bool) -> None:
    Policy(PolicyCard(name="some", observation=DEFAULT_OBSERVATION, interval=2)).save(tmp_path / "p")
    first, second = nn.Parameter(torch.tensor([3.0 + 4.0j, 0.0])), nn.Parameter(torch.tensor([2.0]))
    first.requires_grad_(not frozen)
    optimizer = torch.optim.SGD([{"params": [first]}, {"params": [second]}], lr=0.1)
    scheduler = GannoScheduler(optimizer, 20, tmp_path / "p")
    assert scheduler._layers is not None
    assert scheduler._layers.at_first()["param_norm"].tolist() == [2.0 if frozen else 5.0, 2.0]
    for _ in range(6):
        optimizer.zero_grad()
        loss = (first.abs().square().sum() + second.square().sum()) / 10
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
