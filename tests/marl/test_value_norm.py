"""The running scale of returns equals TorchRL's, except for large means, where float32 loses the variance."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F
from torchrl.modules import PopArtValueNorm
from torchrl.modules.value_norm import ValueNorm

from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.mappo import Trainer
from ganno_bench.marl.modules import Critic
from ganno_bench.marl.value_norm import RunningScale
from tests.helpers.tiny_training import CONFIG

FAR = [(1e3, 1.0, torch.float32), (-1e5, 10.0, torch.float32), (1e6, 1e-2, torch.float64)]


@pytest.fixture(scope="module")
def unused(tmp_path_factory: pytest.TempPathFactory) -> ValueNorm:
    file = tmp_path_factory.mktemp("training") / "tiny.toml"
    file.write_text(CONFIG)
    found = Trainer(load_train_config(file), file, file.parent / "out").loss.value_norm
    assert isinstance(found, ValueNorm)
    return found


@pytest.fixture
def norm(unused: ValueNorm) -> ValueNorm:
    return copy.deepcopy(unused)


def returns(mean: float, spread: float, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(30, 50, 4, 1, generator=generator, dtype=torch.float64)
    return list((mean + spread * drawn).to(dtype))


def test_ordinary_returns_are_scaled_as_by_torchrl(norm: ValueNorm) -> None:
    theirs = PopArtValueNorm(shape=1)
    for index, batch in enumerate(returns(0.0, 1.0, torch.float32)):
        drifting = batch * (1 + index / 10) + index / 5
        norm.update(drifting)
        theirs.update(drifting)
        torch.testing.assert_close(norm.scale().float(), theirs.scale(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(norm.normalize(drifting), theirs.normalize(drifting), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(norm.denormalize(batch), theirs.denormalize(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "spread", "dtype"), FAR)
def test_a_spread_far_from_zero_is_seen(norm: ValueNorm, mean: float, spread: float, dtype: torch.dtype) -> None:
    batches = returns(mean, spread, dtype)
    for batch in batches:
        norm.update(batch)
    assert float(norm.scale()) == pytest.approx(spread, rel=0.05)
    scaled = norm.normalize(torch.stack(batches))
    assert scaled.dtype == dtype
    assert float(scaled.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(scaled.std()) == pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(norm.denormalize(scaled), torch.stack(batches), rtol=1e-6, atol=0.0)


def test_returns_that_are_all_the_same_have_the_least_scale(norm: ValueNorm) -> None:
    for _ in range(3):
        norm.update(torch.full((5, 1), 1000.1))
    assert float(norm.scale()) == pytest.approx(norm.epsilon**0.5)
    assert norm.normalize(torch.full((5, 1), 1000.1)).abs().max() < 1e-3


@pytest.mark.parametrize(("mean", "spread", "dtype"), FAR)
def test_a_critic_learns_returns_far_from_zero(norm: ValueNorm, mean: float, spread: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    critic = Critic(3, 16, centralised=True).to(dtype)
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    seen = torch.randn(64, 4, 3, dtype=dtype)
    wanted = mean + spread * (seen[..., :1] - seen[..., 1:2].mean(1, keepdim=True))
    for _ in range(150):
        norm.update(wanted)
        optimizer.zero_grad()
        F.smooth_l1_loss(critic(seen), norm.normalize(wanted)).backward()
        optimizer.step()
    residue = wanted - norm.denormalize(critic(seen)).detach()
    assert float(residue.var() / wanted.var()) < 0.1


def test_what_torchrl_estimated_so_far_is_gone_on_with(norm: ValueNorm) -> None:
    theirs = PopArtValueNorm(shape=1)
    first, *batches = returns(2.0, 3.0, torch.float32)
    theirs.update(first)
    norm.load_state_dict(theirs.state_dict())
    for batch in batches:
        theirs.update(batch)
        norm.update(batch)
    torch.testing.assert_close(norm.normalize(first), theirs.normalize(first), rtol=1e-4, atol=1e-4)
    again = RunningScale()
    again.load_state_dict(norm.state_dict())
    assert torch.equal(again.normalize(first), norm.normalize(first))
