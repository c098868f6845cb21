"""Impossible numbers are refused, learning rates stay within bounds, and fine-tuning causes a warning."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from tests.helpers.plain_loop import Net

INPUTS = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
TARGETS = (INPUTS[:, 0] > 0).long()


def make(lr: float = 0.01, total: float = 60, policy: str = "ganno-light", **options: float) -> GannoScheduler:
    return GannoScheduler(torch.optim.SGD(layer_groups(Net()), lr=lr), total, policy, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [37.5, math.inf, math.nan])
@pytest.mark.parametrize("name", ["total_updates", "n_layers"])
def test_what_is_no_whole_number_is_refused(name: str, value: float) -> None:
    given = {"total": value} if name == "total_updates" else {"n_layers": value}
    with pytest.raises(ConfigError, match=rf"{name}: must be a whole number \(value: {value}\)"):
        make(**given)


def test_a_quotient_of_whole_numbers_may_be_one() -> None:
    scheduler = make(total=1200 / 4, n_layers=3.0)
    assert scheduler.state_dict()["total_updates"] == 300
    assert scheduler.get_last_lr() == make(total=300).get_last_lr()
    for _ in range(12):
        scheduler.step(1.0)


@pytest.mark.parametrize("policy", ["ganno-light", "ganno-anchored"])
def test_a_base_learning_rate_of_0_is_refused(policy: str) -> None:
    with pytest.raises(
        ConfigError, match=r"base learning rate must be above 0 and finite, .* multiples of it \(value: 0\)"
    ):
        make(0.0, policy=policy)
    with pytest.raises(ConfigError, match=r"the base learning rate must be above 0 and finite, .* \(value: inf\)"):
        make(math.inf, policy=policy)


@pytest.mark.parametrize("name", ["base_lr", "max_lr"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_so_are_others(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{name}: must be a finite number above 0 \(value: {value}\)"):
        make(**{name: value})


def highest(optimizer: torch.optim.Optimizer, scheduler: GannoScheduler, net: nn.Module) -> float:
    """Train for the horizon, and return the highest learning rate."""
    rates = scheduler.get_last_lr()
    for _ in range(scheduler._run.total_updates):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(INPUTS), TARGETS)
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        rates += scheduler.get_last_lr()
    return max(rates)


@pytest.mark.parametrize("policy", ["ganno-light", "ganno-anchored", "ganno"])
def test_a_small_base_is_not_multiplied_above_the_limit(policy: str) -> None:
    net = Net()
    optimizer = torch.optim.AdamW(layer_groups(net), lr=1e-5)
    with pytest.warns(
        UserWarning, match=r"1e-05 is far below 0.001, .* may multiply the base learning rate by up to .* give max_lr="
    ):
        scheduler = GannoScheduler(optimizer, 300, policy)
    assert highest(optimizer, scheduler, net) > 1e-4
    net = Net()
    optimizer = torch.optim.AdamW(layer_groups(net), lr=1e-5)
    assert highest(optimizer, GannoScheduler(optimizer, 300, policy, max_lr=5e-5), net) == pytest.approx(5e-5)


@pytest.fixture
def rising(tmp_path: Path) -> str:
    """Return a policy that doubles the learning rate at each decision."""
    policy = Policy(
        PolicyCard(name="rising", observation=("progress",), action=ActionSpec(scope="network"), interval=5)
    )
    with torch.no_grad():
        policy.actor.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 99.0]))
    policy.save(tmp_path / "rising")
    return str(tmp_path / "rising")


def rise(optimizer: torch.optim.Optimizer, policy: str, **options: float) -> float:
    """Return the learning rate after 12 decisions."""
    scheduler = GannoScheduler(optimizer, 60, policy, **options)  # type: ignore[arg-type]
    for _ in range(59):
        scheduler.step(1.0)
    return scheduler.get_last_lr()[0]


@pytest.mark.parametrize(
    ("optimizer", "top"), [(torch.optim.AdamW, 0.1), (torch.optim.Adam, 0.1), (torch.optim.SGD, 10.0)]
)
def test_no_rate_is_above_the_tuning_range(
    rising: str, optimizer: Callable[..., torch.optim.Optimizer], top: float
) -> None:
    def new(base: float) -> torch.optim.Optimizer:
        return optimizer(layer_groups(Net()), lr=base)

    assert rise(new(0.3 * top), rising) == pytest.approx(top)
    assert rise(new(3.0 * top), rising) == pytest.approx(3.0 * top)
    assert rise(new(0.3 * top), rising, max_lr=0.5 * top) == pytest.approx(0.5 * top)
    assert rise(new(0.3 * top), rising, max_lr=1e9) == pytest.approx(0.3 * top * 2**12)


def test_usual_base_learning_rates_are_not_warned_of() -> None:
    """Warnings are errors here."""
    for optimizer, rates in ((torch.optim.SGD, (1e-3, 0.3)), (torch.optim.AdamW, (1e-4, 1e-2))):
        for lr in rates:
            GannoScheduler(optimizer(layer_groups(Net()), lr=lr), 60, "ganno-light")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (-0.5, "losses must be at least 0, because policies read their logarithm (value: -0.5); give a positive loss"),
        (math.nan, "none of the last 10 losses is finite; the policy decides without a training loss"),
    ],
)
def test_losses_that_are_none_are_warned_of_once(loss: float, message: str) -> None:
    scheduler = make()
    for update in range(30):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            scheduler.step(loss)
        assert len(caught) == (update == 9)
        if caught:
            assert message in str(caught[0].message)


def test_below_the_limit_the_reference_schedule_shows() -> None:
    """Without the limit on the factor, a policy far above it would stay at the limit although the schedule decays."""
    net = Net()
    optimizer = torch.optim.AdamW(layer_groups(net), lr=1e-5)
    scheduler = GannoScheduler(optimizer, 300, "ganno-light", max_lr=3e-5)
    rates = []
    for _ in range(299):
        rates += scheduler.get_last_lr()[:1]
        scheduler.step(1.0)
    assert max(rates) == pytest.approx(3e-5)
    assert rates[-1] < 1e-6


@pytest.mark.parametrize("value", ["1e-3", torch.zeros(2)])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="max_lr: must be a finite number above 0"):
        make(max_lr=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="total_updates: must be a whole number"):
        make(total=value)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(layer_groups(Net()), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    with pytest.raises(ConfigError, match="the optimizer has no learning rate to set: it chooses its own"):
        GannoScheduler(optimizer, 60, "ganno-light")
