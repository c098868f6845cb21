"""Divergence is a result: the run is recorded and frozen, and other runs do not change."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, Signals
from ganno_bench.workloads.suite import OptimizerSpec
from tests.helpers.torch_loop import TorchRun, parameters
from tests.helpers.workload_cases import ADAMW, SGD, make_engine, make_workload

N_UPDATES = 14
PIECES = (5, 1, 4, 4)
SEEDS = [1, 2, 3, 4, 5]
VICTIM = 2
DECAY = torch.tensor([0.0, 1e-2, 1e-2, 0.0, 1e-1], dtype=torch.float64)
OTHERS = torch.tensor([0, 1, 3, 4])

both = pytest.mark.parametrize(
    ("backend", "optimizer"),
    [(b, o) for b in ("vmap", "loop", "compiled") for o in (SGD, ADAMW)],
    ids=lambda v: getattr(v, "name", v),
)


def engine(backend: str, optimizer: OptimizerSpec) -> Engine:
    return make_engine(make_workload("mlp", optimizer, N_UPDATES), backend)


def rates(prepared: Engine) -> Tensor:
    """Return learning rates, shape (n_updates, P, L). One run has 1e6 from the fourth update."""
    lr = torch.full((N_UPDATES, len(SEEDS), prepared.layout.n_layers), 3e-3, dtype=torch.float64)
    lr[3:, VICTIM] = 1e6
    return lr


def train(prepared: Engine, runs: Tensor) -> tuple[Population, list[Signals], list[Tensor]]:
    """Return the population, and signals and parameters after each piece."""
    population = prepared.population([SEEDS[run] for run in runs], DECAY[runs], OPTIONAL_SIGNALS)
    lr, signals, values = rates(prepared)[:, runs], [], []
    for n_updates in PIECES:
        first = population.n_updates
        signals.append(population.advance(Controls(lr[first : first + n_updates]), n_updates))
        values.append(parameters(population).clone())
    return population, signals, values


@both
def test_divergence_is_dated_to_the_first_loss_that_is_not_finite(backend: str, optimizer: OptimizerSpec) -> None:
    prepared = engine(backend, optimizer)
    lr = rates(prepared)
    run = TorchRun(prepared.workload, SEEDS[VICTIM], float(DECAY[VICTIM]), torch.float32)
    losses = [float(run.update(row[VICTIM])) for row in lr]
    first = [bool(torch.tensor(loss).isfinite()) for loss in losses].index(False)
    population, signals, _ = train(prepared, torch.arange(5))
    assert 3 < first < sum(PIECES[:-1])  # before the last piece
    assert population.diverged_at.tolist() == [-1, -1, first, -1, -1]
    expected = [[False, False, s.n_updates > first, False, False] for s in signals]
    assert [s.diverged.tolist() for s in signals] == expected


@both
def test_a_diverged_run_shows_nothing_but_nan_and_the_others_no_nan(backend: str, optimizer: OptimizerSpec) -> None:
    prepared = engine(backend, optimizer)
    population, signals, _ = train(prepared, torch.arange(5))
    last, names = signals[-1], ("lr", "train_loss", *OPTIONAL_SIGNALS)
    assert {name: bool(getattr(last, name)[VICTIM].isnan().all()) for name in names} == dict.fromkeys(names, True)
    assert {name: bool(getattr(last, name)[OTHERS].isfinite().all()) for name in names} == dict.fromkeys(names, True)
    evaluation = population.evaluate(prepared.validation)
    for values in (evaluation.loss, evaluation.error):
        assert values.isnan().tolist() == [False, False, True, False, False]


@both
def test_a_diverged_run_is_frozen(backend: str, optimizer: OptimizerSpec) -> None:
    _, signals, values = train(engine(backend, optimizer), torch.arange(5))
    frozen = [row[VICTIM] for row, seen in zip(values, signals, strict=True) if seen.diverged[VICTIM]]
    assert len(frozen) >= 2
    assert all(torch.equal(row, frozen[0]) and row.isfinite().all() for row in frozen)
    assert not torch.equal(values[-1][OTHERS], values[-2][OTHERS])


@both
def test_the_others_are_bit_equal_to_runs_without_the_one_that_diverges(backend: str, optimizer: OptimizerSpec) -> None:
    prepared = engine(backend, optimizer)
    _, with_it, values_with = train(prepared, torch.arange(5))
    _, without_it, values_without = train(prepared, OTHERS)
    for got, expected in zip(values_with, values_without, strict=True):
        assert torch.equal(got[OTHERS], expected)
    for seen, expected_signals in zip(with_it, without_it, strict=True):
        own = seen.runs(OTHERS)
        for field in fields(own):
            got, expected = getattr(own, field.name), getattr(expected_signals, field.name)
            assert torch.equal(got, expected) if isinstance(got, Tensor) else got == expected


@pytest.mark.parametrize("backend", ["vmap", "loop", "compiled"])
def test_a_population_of_nothing_but_diverged_runs_goes_on_to_the_horizon(backend: str) -> None:
    prepared = engine(backend, SGD)
    population = prepared.population([1, 2])
    lr = torch.full((2, prepared.layout.n_layers), 1e30)
    population.advance(Controls(lr), N_UPDATES - 1)
    assert population.diverged.all()
    assert population.advance(Controls(lr), 1).train_loss.isnan().all()
    assert population.n_updates == N_UPDATES


@both
def test_a_frozen_run_stays_frozen_under_controls_made_of_its_nan_signals(
    backend: str, optimizer: OptimizerSpec
) -> None:
    prepared = engine(backend, optimizer)
    population = prepared.population(SEEDS, DECAY)
    lr = rates(prepared)
    population.advance(Controls(lr[:10]), 10)
    assert population.diverged.tolist() == [run == VICTIM for run in range(5)]
    ruined = torch.full((5,), 0.5, dtype=torch.float64)
    ruined[VICTIM] = torch.nan
    population.advance(Controls(lr[10:], weight_decay=ruined, momentum=ruined), 4)
    assert torch.equal(parameters(population)[VICTIM], torch.zeros_like(parameters(population)[VICTIM]))
    assert parameters(population).isfinite().all()
