"""A saved population resumes bit by bit, as if it had never stopped."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from ganno_bench.core.errors import ConfigError
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, Signals
from ganno_bench.workloads.suite import OptimizerSpec
from tests.helpers.torch_loop import parameters
from tests.helpers.workload_cases import ADAMW, NESTEROV, make_engine, make_workload

SEEDS = [1, 2, 3, 1, 5]
N_UPDATES = 12
FIRST = 7

every_case = pytest.mark.parametrize(
    ("backend", "optimizer"),
    [(backend, optimizer) for backend in ("vmap", "loop", "compiled") for optimizer in (NESTEROV, ADAMW)],
    ids=[f"{backend}-{name}" for backend in ("vmap", "loop", "compiled") for name in ("nesterov", "adamw")],
)


def chunked_engine(backend: str, optimizer: OptimizerSpec) -> Engine:
    engine = make_engine(make_workload("mlp", optimizer, N_UPDATES), backend)
    engine.chunk = 3
    return engine


def controls(engine: Engine) -> list[Controls]:
    """Return the signals of the runs before and after saving. One run diverges before."""
    generator = torch.Generator().manual_seed(0)
    shape = (N_UPDATES, len(SEEDS), engine.layout.n_layers)
    lr = 0.01 * torch.rand(shape, generator=generator, dtype=torch.float64)
    lr[:, 3] = 1e30
    per_run = torch.linspace(0.1, 0.9, len(SEEDS), dtype=torch.float64)
    return [Controls(lr[:FIRST], weight_decay=per_run / 10, momentum=per_run), Controls(lr[FIRST:])]


def through_a_file(state: dict[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def finish(population: Population) -> tuple[Signals, Tensor]:
    last = controls(population.engine)[1]
    return population.advance(last, N_UPDATES - FIRST), parameters(population)


@every_case
def test_a_population_continues_from_a_file_bit_by_bit(backend: str, optimizer: OptimizerSpec) -> None:
    engine = chunked_engine(backend, optimizer)
    first = engine.population(SEEDS, 0.5, OPTIONAL_SIGNALS)
    first.advance(controls(engine)[0], FIRST)
    state = through_a_file(first.state_dict())
    expected_signals, expected = finish(first)
    for _ in range(2):  # twice: loading does not change the state
        second = engine.population(SEEDS, needs=OPTIONAL_SIGNALS)
        second.load_state_dict(state)
        assert second.n_updates == FIRST
        assert second.diverged.tolist() == [False, False, False, True, False]
        signals, values = finish(second)
        assert torch.equal(values, expected)
        assert torch.equal(second.diverged_at, first.diverged_at)
        for name in ("train_loss", "lr", *OPTIONAL_SIGNALS):
            got, wanted = getattr(signals, name), getattr(expected_signals, name)
            assert torch.allclose(got, wanted, rtol=0.0, atol=0.0, equal_nan=True)


@every_case
def test_a_state_is_a_copy_that_later_updates_leave_alone(backend: str, optimizer: OptimizerSpec) -> None:
    engine = chunked_engine(backend, optimizer)
    population = engine.population(SEEDS)
    population.advance(controls(engine)[0], FIRST)
    state = population.state_dict()
    before = through_a_file(state)
    finish(population)
    for chunk, old in zip(state["chunks"], before["chunks"], strict=True):
        assert all(torch.equal(chunk[name], old[name]) for name in old)
    assert torch.equal(state["diverged_at"], before["diverged_at"])


@pytest.mark.parametrize("seeds", [[1, 2, 3, 1, 6], [2, 1, 3, 1, 5], [1, 2, 3, 1]], ids=["other", "order", "fewer"])
def test_a_state_of_other_seeds_is_refused(seeds: list[int]) -> None:
    engine = chunked_engine("loop", NESTEROV)
    state = engine.population(SEEDS).state_dict()
    with pytest.raises(ConfigError, match="the state belongs to a population with other seeds, size or optimizer"):
        engine.population(seeds).load_state_dict(state)


def test_a_state_in_other_chunks_is_refused() -> None:
    engine, other = chunked_engine("loop", NESTEROV), chunked_engine("loop", NESTEROV)
    other.chunk = 5
    with pytest.raises(ConfigError, match="the state belongs to a population with other seeds, size or optimizer"):
        other.population(SEEDS).load_state_dict(engine.population(SEEDS).state_dict())


def test_a_state_of_another_optimizer_is_refused() -> None:
    engine, other = chunked_engine("loop", NESTEROV), chunked_engine("loop", ADAMW)
    with pytest.raises(ConfigError, match="the state belongs to a population with other seeds, size or optimizer"):
        other.population(SEEDS).load_state_dict(engine.population(SEEDS).state_dict())
