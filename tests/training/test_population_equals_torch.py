"""The engine equals a plain loop with `torch.optim`: up to rounding in float64, and for some updates in float32."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from ganno_bench.training.population import Population
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.suite import OptimizerSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.torch_loop import TorchRun, evaluate_plainly, layer_vectors, parameters
from tests.helpers.workload_cases import (
    ADAM,
    ADAMW,
    LARGE_IMAGES,
    MODELS,
    NESTEROV,
    PLAIN_SGD,
    RESNET,
    SGD,
    make_engine,
    make_workload,
)

OPTIMIZERS = {"sgd": PLAIN_SGD, "momentum": SGD, "nesterov": NESTEROV, "adam": ADAM, "adamw": ADAMW}
BACKENDS = ["vmap", "loop", "compiled"]
SEEDS = [3, 8]
DECAY = torch.tensor([0.0, 3e-2], dtype=torch.float64)


def changing_lr(workload: Workload) -> Tensor:
    """Return learning rates for each update, run and layer, shape (n_updates, P, L)."""
    base = 0.05 if workload.spec.optimizer.name == "sgd" else 3e-3
    generator = torch.Generator().manual_seed(7)
    shape = (workload.spec.n_updates, len(SEEDS), len(workload.layers))
    return base * (0.1 + torch.rand(shape, generator=generator, dtype=torch.float64))


def torch_runs(workload: Workload, dtype: torch.dtype) -> list[TorchRun]:
    return [TorchRun(workload, seed, decay, dtype) for seed, decay in zip(SEEDS, DECAY.tolist(), strict=True)]


def assert_same_networks(population: Population, runs: Sequence[TorchRun], tolerance: float) -> None:
    for row, run in zip(parameters(population), runs, strict=True):
        got, expected = torch.cat(layer_vectors(population.engine, row)), torch.cat(run.parameters())
        norm = float(expected.norm())
        assert float((got - expected).norm()) <= tolerance * norm
        typical = norm / math.sqrt(len(expected))
        torch.testing.assert_close(got, expected, rtol=100 * tolerance, atol=10 * tolerance * typical)


def assert_equals_torch(workload: Workload, lr: Tensor, dtype: torch.dtype, tolerance: float) -> None:
    runs = torch_runs(workload, dtype)
    losses = torch.tensor([[float(run.update(rates)) for run, rates in zip(runs, row, strict=True)] for row in lr])
    for backend in BACKENDS:
        population = make_engine(workload, backend, dtype).population(SEEDS, DECAY)
        signals = population.advance(Controls(lr), len(lr))
        assert_same_networks(population, runs, tolerance)
        torch.testing.assert_close(signals.train_loss, losses.mean(0).double(), rtol=1e-6, atol=0.0)


def every_pair() -> Iterator[Any]:
    """Yield every network with every optimizer; by default each with one of them, and the perceptron with all."""
    turns = itertools.cycle(OPTIMIZERS)
    for model in MODELS:
        by_default = set(OPTIMIZERS) if model == "mlp" else {next(turns)}
        for name, optimizer in OPTIMIZERS.items():
            marks = () if name in by_default else (pytest.mark.slow(group="engine"),)
            yield pytest.param(model, optimizer, id=f"{model}-{name}", marks=marks)


@pytest.mark.parametrize(("model", "optimizer"), [*every_pair()])
def test_in_float64_a_hundred_updates_with_changing_layerwise_rates_equal_torch(
    model: str, optimizer: OptimizerSpec
) -> None:
    workload = make_workload(model, optimizer, n_updates=100)
    assert_equals_torch(workload, changing_lr(workload), torch.float64, 1e-9)


@pytest.mark.parametrize(
    ("model", "batch_size"),
    [("mlp", 1), ("mlp", 16), ("decoder", 16), *((model, 7) for model in [*MODELS, LARGE_IMAGES, RESNET])],
)
def test_in_float64_any_batch_size_equals_torch(model: str, batch_size: int) -> None:
    workload = make_workload(model, NESTEROV, n_updates=10, batch_size=batch_size)
    assert_equals_torch(workload, changing_lr(workload), torch.float64, 1e-11)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["momentum", "adamw"])
@pytest.mark.parametrize("model", MODELS)
def test_in_float32_twenty_updates_at_a_stable_rate_equal_torch(model: str, optimizer: OptimizerSpec) -> None:
    workload = make_workload(model, optimizer, n_updates=20)
    uniform = changing_lr(workload)[..., :1].expand(-1, -1, len(workload.layers))
    assert_equals_torch(workload, uniform / 4, torch.float32, 1e-5)


# Not plain SGD: without momentum torch keeps no buffer, so it starts from 0 when a momentum is set.
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("optimizer", [SGD, NESTEROV, ADAM, ADAMW], ids=["momentum", "nesterov", "adam", "adamw"])
def test_weight_decay_and_momentum_that_change_on_the_way_equal_torch(optimizer: OptimizerSpec, backend: str) -> None:
    workload = make_workload("mlp", optimizer, n_updates=30)
    lr, runs = changing_lr(workload), torch_runs(workload, torch.float64)
    population = make_engine(workload, backend, torch.float64).population(SEEDS, DECAY)
    # Controls hold until they are set again.
    for part, decay, momentum in (
        (lr[:5], None, None),
        (lr[5:13], (2e-2, 0.0), (0.5, 0.95)),
        (lr[13:22], None, (0.9, 0.0)),
        (lr[22:], None, None),
    ):
        for index, run in enumerate(runs):
            for group in run.optimizer.param_groups:
                if decay is not None:
                    group["weight_decay"] = decay[index]
                if momentum is not None:
                    group |= {"momentum": momentum[index], "betas": (momentum[index], 0.999)}
            for row in part:
                run.update(row[index])
        changed = [None if value is None else torch.tensor(value, dtype=torch.float64) for value in (decay, momentum)]
        population.advance(Controls(part, *changed), len(part))
    assert_same_networks(population, runs, 1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_rate_for_all_updates_is_that_rate_at_each_update(backend: str) -> None:
    workload = make_workload("mlp", n_updates=6)
    lr = changing_lr(workload)[0]
    once, block, single = (make_engine(workload, backend).population(SEEDS, DECAY) for _ in range(3))
    once.advance(Controls(lr), 6)
    block.advance(Controls(lr.repeat(6, 1, 1)), 6)
    for _ in range(6):
        single.advance(Controls(lr), 1)
    assert torch.equal(parameters(once), parameters(block))
    assert torch.equal(parameters(once), parameters(single))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", MODELS)
def test_loss_and_error_on_a_split_equal_torch(model: str, backend: str) -> None:
    workload = make_workload(model, n_updates=3)
    population = make_engine(workload, backend, torch.float64).population(SEEDS, DECAY)
    runs, lr = torch_runs(workload, torch.float64), changing_lr(workload)
    population.advance(Controls(lr), 3)
    for row in lr:
        for run, rates in zip(runs, row, strict=True):
            run.update(rates)
    for split in (population.engine.train, population.engine.validation):
        got = population.evaluate(split)
        expected = torch.tensor([evaluate_plainly(run.model, split) for run in runs], dtype=torch.float64)
        torch.testing.assert_close(got.loss, expected[:, 0], rtol=1e-10, atol=0.0)
        torch.testing.assert_close(got.error, expected[:, 1], rtol=1e-12, atol=0.0)


def test_a_split_is_evaluated_alike_in_one_batch_and_in_many(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine(make_workload("decoder"), "vmap", torch.float64)
    population = engine.population(SEEDS)
    whole = population.evaluate(engine.train)
    monkeypatch.setattr("ganno_bench.training.backends.Backend.n_scored", 9)
    assert len(engine.train.windows()) % 9 not in (0, len(engine.train.windows()))
    parts = population.evaluate(engine.train)
    torch.testing.assert_close(parts.loss, whole.loss, rtol=1e-12, atol=0.0)
    torch.testing.assert_close(parts.error, whole.error, rtol=1e-12, atol=0.0)
