from __future__ import annotations

import math

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ganno_bench.schedulers.base import Scheduler
from ganno_bench.schedulers.layerwise import TrustRatio
from ganno_bench.schedulers.reactive import Hypergradient, Plateau
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.playing import play
from ganno_bench.testing.synthetic import synthetic_runs
from ganno_bench.training.signals import RunInfo
from tests.helpers.scheduler_cases import signals

BASE = torch.tensor([0.1, 3.0], dtype=torch.float64)


def run_info(total: int) -> RunInfo:
    return RunInfo(("a", "b", "c"), (4, 5, 6), BASE, torch.zeros(2, dtype=torch.float64), total, "sgd")


def plateau_rates(scheduler: Plateau, losses: torch.Tensor) -> torch.Tensor:
    """Feed losses of shape (checks + 1, 2), the first before the first update; return rates (checks + 1, 2)."""
    total = len(losses)
    state = scheduler.init(run_info(total))
    rates = []
    for update, loss in enumerate(losses):
        controls, state = scheduler.step(state, signals(update, total, val_loss=loss))
        assert controls.lr.shape == (1, 2, 3)
        assert controls.lr.eq(controls.lr[..., :1]).all()
        rates.append(controls.lr[0, :, 0])
    return torch.stack(rates)


@pytest.mark.parametrize("factor", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("patience", [0.0, 0.03, 0.2])
def test_plateau_equals_torch_for_each_run(factor: float, patience: float) -> None:
    total = 100
    noise = torch.rand(total, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    losses = torch.exp(-torch.arange(total) / torch.tensor([[10.0], [40.0]])).T + 0.2 * noise
    losses[70, 0] = torch.nan  # a diverged run
    losses[70:, 1] *= 1e-3  # a run that improves again
    rates = plateau_rates(Plateau(factor, patience), losses)
    for run in range(2):
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=float(BASE[run]))
        theirs = ReduceLROnPlateau(optimizer, factor=factor, patience=round(patience * total))
        for update in range(total):
            if update > 0:  # torch gets a loss after each epoch, not before the first
                theirs.step(float(losses[update, run]))
            assert float(rates[update, run]) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert (rates[-1] < BASE).any()


def test_plateau_reduces_only_after_patience() -> None:
    losses = torch.ones(20, 2, dtype=torch.float64)
    losses[:, 1] = torch.linspace(1.0, 0.1, 20)
    rates = plateau_rates(Plateau(0.5, 0.2), losses)
    # The check after update 1 sets the lowest loss. 4 bad checks are allowed, the 5th is a plateau.
    assert rates[:, 0].tolist() == [0.1] * 6 + [0.05] * 5 + [0.025] * 5 + [0.0125] * 4
    assert rates[:, 1].tolist() == [3.0] * 20


def test_plateau_counts_a_tiny_fall_as_none() -> None:
    losses = torch.stack([1.0 - 5e-6 * torch.arange(10), 1.0 - 5e-4 * torch.arange(10)], dim=1).double()
    assert plateau_rates(Plateau(0.5, 0.2), losses)[-1].tolist() == [0.025, 3.0]


def test_plateau_looks_at_most_as_often_as_it_says() -> None:
    entry = load_scheduler("plateau")
    assert play(entry, synthetic_runs(60)).decided_at == tuple(range(60))
    assert play(entry, synthetic_runs(250)).decided_at == tuple(range(0, 250, 3))
    assert play(load_scheduler("plateau(n_checks=5)"), synthetic_runs(52)).decided_at == (0, 11, 22, 33, 44)


def step_once(scheduler: Scheduler, *measured: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the learning rates after these measurements. The first is taken before the first update."""
    state = scheduler.init(run_info(10))
    for update, values in enumerate(measured):
        controls, state = scheduler.step(state, signals(update, 10, **values))
    return controls.lr


def cosines(*rows: tuple[float, float, float]) -> dict[str, torch.Tensor]:
    return {"grad_cosine": torch.tensor(rows, dtype=torch.float64)}


UNKNOWN = (math.nan,) * 3


def test_hypergradient_raises_on_agreement_and_lowers_on_disagreement() -> None:
    lr = step_once(Hypergradient(beta=0.1), cosines(UNKNOWN, UNKNOWN), cosines((1.0, 0.0, -1.0), (0.5, -0.5, 0.2)))
    expected = BASE[:, None] * torch.tensor([[1.1, 1.0, 0.9], [1.05, 0.95, 1.02]], dtype=torch.float64)
    assert lr.allclose(expected)


def test_hypergradient_compounds() -> None:
    lr = step_once(Hypergradient(beta=0.1), *[cosines(UNKNOWN, UNKNOWN)], *[cosines((1.0,) * 3, (-1.0,) * 3)] * 3)
    assert lr.allclose(BASE[:, None] * torch.tensor([[1.1**3], [0.9**3]], dtype=torch.float64))


def test_hypergradient_starts_at_the_base_and_keeps_it_without_a_measurement() -> None:
    lr = step_once(Hypergradient(), cosines(UNKNOWN, UNKNOWN), cosines(UNKNOWN, (1.0, 1.0, 1.0)))
    assert lr[0].equal(BASE[0].expand(3))
    assert (lr[1] > BASE[1]).all()


def test_hypergradient_is_bounded() -> None:
    state = Hypergradient(beta=0.1).init(run_info(10))
    state = {**state, "factor": torch.full_like(state["factor"], 1e6)}
    controls, _ = Hypergradient(beta=0.1).step(state, signals(5, 10, **cosines((1.0,) * 3, (1.0,) * 3)))
    assert controls.lr.allclose(1e6 * BASE[:, None].expand(2, 3))


def norms(params: list[float], direction: list[float]) -> dict[str, torch.Tensor]:
    return {
        "param_norm": torch.tensor([params] * 2, dtype=torch.float64),
        "direction_norm": torch.tensor([direction] * 2, dtype=torch.float64),
    }


def test_trust_ratio_gives_layers_with_larger_weights_larger_steps() -> None:
    first = norms([1.0, 2.0, 4.0], [math.nan] * 3)
    lr = step_once(TrustRatio(final_factor=1.0), first, norms([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]))
    assert lr.allclose(BASE[:, None] * torch.tensor([[0.5, 1.0, 2.0]], dtype=torch.float64))


def test_trust_ratio_moves_each_layer_by_the_same_share_of_its_norm() -> None:
    params, direction = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([3.0, 0.5, 7.0])
    lr = step_once(TrustRatio(), norms(params.tolist(), direction.tolist()))
    assert (lr * direction / params).allclose(BASE[:, None].expand(2, 3))


def test_trust_ratio_stands_still_where_nothing_has_been_measured() -> None:
    assert step_once(TrustRatio(), norms([1.0, 2.0, 4.0], [math.nan] * 3)).eq(0.0).all()


def test_trust_ratio_is_one_for_zero_norms_and_clipped_above() -> None:
    lr = step_once(TrustRatio(final_factor=1.0, clip=10.0), norms([0.0, 1.0, 1.0], [1.0, 0.0, 1e-3]))
    assert lr.allclose(BASE[:, None] * torch.tensor([[1.0, 1.0, 10.0]], dtype=torch.float64))


def test_trust_ratio_follows_the_cosine() -> None:
    steady = norms([1.0] * 3, [1.0] * 3)
    assert step_once(TrustRatio(), *[steady] * 6).allclose(0.5 * BASE[:, None].expand(2, 3))
