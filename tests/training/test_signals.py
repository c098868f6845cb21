"""Every signal agrees with its docstring, does not change the training, and does not depend on test data."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ganno_bench.training import layout
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import LAYER_SIGNALS, NEEDS, OPTIONAL_SIGNALS, Controls, Signals
from ganno_bench.workloads.data import Examples
from ganno_bench.workloads.suite import OptimizerSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.replayed import with_replays
from tests.helpers.torch_loop import TorchRun, Update, evaluate_plainly, parameters
from tests.helpers.workload_cases import ADAM, ADAMW, MODELS, NESTEROV, SGD, make_engine, make_workload

SEEDS = [4, 6]
DECAY = torch.tensor([0.0, 2e-2], dtype=torch.float64)
INTERVALS = (4, 1, 3)

both = pytest.mark.parametrize("backend", ["vmap", "loop", "compiled"])


def layerwise_lr(workload: Workload, n_updates: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = (n_updates, len(SEEDS), len(workload.layers))
    return 0.01 * (0.2 + torch.rand(shape, generator=generator, dtype=torch.float64))


def vectors(signals: Signals) -> dict[str, Tensor]:
    values = {field.name: getattr(signals, field.name) for field in fields(signals)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def same(first: Signals, second: Signals) -> bool:
    a, b = vectors(first), vectors(second)
    return a.keys() == b.keys() and all(torch.allclose(a[n], b[n], rtol=0.0, atol=0.0, equal_nan=True) for n in a)


def definitions(interval: list[Update], lr: Tensor, layer: int) -> dict[str, float]:
    """Return each layer signal by its definition, from the values of a plain loop in a decision interval."""
    last = interval[-1]
    gradient, moment = last.gradient[layer], last.moment[layer]
    change = last.after[layer] - last.before[layer]
    gradients = torch.stack([update.gradient[layer] for update in interval])
    lengths = gradient.norm() * moment.norm()
    return {
        "grad_norm": float(gradient.norm()),
        "param_norm": float(last.after[layer].norm()),
        "direction_norm": float(change.norm() / lr[layer]),
        "update_norm": float(change.norm()),
        "grad_cosine": float(gradient @ moment / lengths) if lengths > 0 else 0.0,
        "grad_snr": float(gradients.mean(0).norm() / gradients.norm(dim=1).mean()),
    }


@both
@pytest.mark.parametrize("optimizer", [SGD, NESTEROV, ADAM, ADAMW], ids=["momentum", "nesterov", "adam", "adamw"])
def test_each_signal_equals_its_definition(optimizer: OptimizerSpec, backend: str) -> None:
    workload = make_workload("mlp", optimizer)
    population = make_engine(workload, backend, torch.float64).population(SEEDS, DECAY, OPTIONAL_SIGNALS)
    runs = [TorchRun(workload, seed, decay, torch.float64) for seed, decay in zip(SEEDS, DECAY.tolist(), strict=True)]
    for n_updates in INTERVALS:
        lr = layerwise_lr(workload, n_updates)
        signals = population.advance(Controls(lr), n_updates)
        assert torch.equal(signals.lr, lr[-1])
        for index, run in enumerate(runs):
            interval = [run.recorded_update(row[index]) for row in lr]
            got = {name: value[index] for name, value in vectors(signals).items()}
            assert float(got["train_loss"]) == pytest.approx(sum(u.loss for u in interval) / n_updates, rel=1e-7)
            for layer in range(len(workload.layers)):
                expected = definitions(interval, lr[-1, index], layer)
                assert {name: float(got[name][layer]) for name in LAYER_SIGNALS} == pytest.approx(expected, rel=1e-8)
                assert 0.0 <= float(got["grad_snr"][layer]) <= 1.0


@both
@pytest.mark.parametrize("most", [20, 100])
def test_estimates_are_made_of_blocks_of_entries_of_each_parameter(
    monkeypatch: pytest.MonkeyPatch, backend: str, most: int
) -> None:
    for name, value in (("WHOLE", most), ("SAMPLE", most), ("BLOCK", 4)):
        monkeypatch.setattr(layout, name, value)
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend, torch.float64)
    lr = layerwise_lr(workload, 4)
    estimated, whole = (
        engine.population(SEEDS, DECAY, needs).advance(Controls(lr), 4) for needs in (NEEDS, OPTIONAL_SIGNALS)
    )
    run = TorchRun(workload, SEEDS[0], float(DECAY[0]), torch.float64)
    interval = [run.recorded_update(row[0]) for row in lr]
    for index, layer in enumerate(run.layers):
        weights = torch.cat([sampled(p.numel(), most) for p in layer])
        assert int((weights > 0.0).sum()) <= most * len(layer)
        expected = definitions([update.scaled(weights, index) for update in interval], lr[-1, 0], index)
        exact = definitions(interval, lr[-1, 0], index)
        for name in LAYER_SIGNALS:
            assert float(getattr(estimated, name)[0, index]) == pytest.approx(expected[name], rel=1e-8)
            if name != "grad_snr":
                assert float(getattr(whole, name)[0, index]) == pytest.approx(exact[name], rel=1e-8)
    assert whole.grad_snr is not None
    assert torch.equal(whole.grad_snr, estimated.grad_snr)
    assert not torch.equal(whole.grad_norm, estimated.grad_norm)
    assert torch.equal(engine.population(SEEDS, DECAY, NEEDS).observe().param_norm > 0, whole.param_norm > 0)


def sampled(size: int, most: int) -> Tensor:
    """Return the weight of each entry of a parameter in an estimate, in blocks of 4; 0 for unread entries."""
    if size <= most:
        return torch.ones(size, dtype=torch.float64)
    distance = next(n for n in range(math.ceil(size / most), size) if math.gcd(n, size) == 1)
    blocks = [range(4 * distance * n, 4 * distance * n + 4) for n in range(size)]
    kept = torch.tensor([any(entry in block for block in blocks) for entry in range(size)])
    last = max(block.start for block in blocks if block.stop <= size)
    kept[last + 4 :] = False  # the block would exceed the parameter
    return kept.double() * math.sqrt(size / int(kept.sum()))


@both
def test_estimates_of_small_parameters_are_exact(backend: str) -> None:
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend)
    lr = layerwise_lr(workload, 3)
    estimated, whole = (
        engine.population(SEEDS, DECAY, needs).advance(Controls(lr), 3) for needs in (NEEDS, OPTIONAL_SIGNALS)
    )
    assert same(estimated, whole)


@both
def test_a_layer_at_rate_zero_has_a_direction_but_no_update(backend: str) -> None:
    workload = make_workload("mlp", SGD)
    population = make_engine(workload, backend).population(SEEDS, DECAY, OPTIONAL_SIGNALS)
    lr = layerwise_lr(workload, 1)[0]
    lr[:, 1] = 0.0
    before = population.observe()
    signals = population.advance(Controls(lr), 3)
    assert before.param_norm is not None
    assert signals.param_norm is not None
    assert signals.update_norm is not None
    assert signals.direction_norm is not None
    assert (signals.update_norm == 0.0).tolist() == [[False, True, False, False]] * 2
    assert (signals.param_norm == before.param_norm).tolist() == [[False, True, False, False]] * 2
    assert (signals.direction_norm > 0.0).all()


@both
@pytest.mark.parametrize("model", MODELS)
def test_the_validation_loss_is_that_of_the_validation_split(model: str, backend: str) -> None:
    workload = make_workload(model)
    engine = make_engine(workload, backend, torch.float64)
    population = engine.population(SEEDS, DECAY, ["val_loss"])
    lr = layerwise_lr(workload, 3)
    before, after = population.observe(), population.advance(Controls(lr), 3)
    assert before.val_loss is not None
    assert after.val_loss is not None
    for index, (seed, decay) in enumerate(zip(SEEDS, DECAY.tolist(), strict=True)):
        run = TorchRun(workload, seed, decay, torch.float64)
        untrained, _ = evaluate_plainly(run.model, engine.validation)
        for row in lr:
            run.update(row[index])
        trained, _ = evaluate_plainly(run.model, engine.validation)
        assert [float(s[index]) for s in (before.val_loss, after.val_loss)] == pytest.approx([untrained, trained], 1e-9)


def assert_split_like_one_call(population: Population, whole: Population, lr: Tensor, pieces: tuple[int, ...]) -> None:
    expected, first = whole.advance(Controls(lr), len(lr)), 0
    for n_updates in pieces:
        part = Controls(lr[first : first + n_updates])
        signals = population.advance(part, n_updates, same_interval=first > 0)
        population.evaluate(population.engine.validation)
        first += n_updates
    assert same(signals, expected)


@both
def test_an_interval_in_pieces_has_the_signals_of_one_in_one_call(backend: str) -> None:
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend)
    population, whole = (engine.population(SEEDS, DECAY, OPTIONAL_SIGNALS) for _ in range(2))
    assert_split_like_one_call(population, whole, layerwise_lr(workload, 6), (2, 1, 3))
    # The next decision interval starts again.
    assert_split_like_one_call(population, whole, layerwise_lr(workload, 4), (1, 3))


@both
def test_a_piece_that_begins_an_interval_of_its_own_has_other_signals(backend: str) -> None:
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend)
    population, whole = (engine.population(SEEDS, DECAY, ["grad_snr"]) for _ in range(2))
    lr = layerwise_lr(workload, 5)
    expected = whole.advance(Controls(lr), 5)
    population.advance(Controls(lr[:2]), 2)
    signals = population.advance(Controls(lr[2:]), 3)
    assert (signals.train_loss != expected.train_loss).all()
    assert signals.grad_snr is not None
    assert (signals.grad_snr != expected.grad_snr).all()


@both
@pytest.mark.parametrize("name", OPTIONAL_SIGNALS)
def test_a_signal_comes_alone_and_the_same_as_among_all(name: str, backend: str) -> None:
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend)
    lr = layerwise_lr(workload, 3)
    alone, among_all = (
        engine.population(SEEDS, DECAY, needs).advance(Controls(lr), 3) for needs in ([name], OPTIONAL_SIGNALS)
    )
    assert [other for other in OPTIONAL_SIGNALS if getattr(alone, other) is not None] == [name]
    assert torch.equal(getattr(alone, name), getattr(among_all, name))


@both
@pytest.mark.parametrize("model", MODELS)
def test_looking_does_not_change_what_is_trained(model: str, backend: str) -> None:
    workload = make_workload(model, ADAM if model == "decoder" else SGD)
    engine = make_engine(workload, backend)
    watched, alone = (engine.population(SEEDS, DECAY, needs) for needs in (OPTIONAL_SIGNALS, ()))
    lr = layerwise_lr(workload, 4)
    watched.observe()
    for part in (lr[:3], lr[3:]):
        seen, unseen = (population.advance(Controls(part), len(part)) for population in (watched, alone))
        assert torch.equal(seen.train_loss, unseen.train_loss)
    watched.observe()
    assert torch.equal(parameters(watched), parameters(alone))


@both
def test_before_the_first_update_only_parameters_and_validation_loss_are_known(backend: str) -> None:
    workload = make_workload("mlp", SGD)
    engine = make_engine(workload, backend, torch.float64)
    signals = engine.population(SEEDS, DECAY, OPTIONAL_SIGNALS).observe()
    known = {name for name, value in vectors(signals).items() if not value.isnan().any()}
    assert known == {"param_norm", "val_loss", "diverged"}
    assert all(value.isnan().all() for name, value in vectors(signals).items() if name not in known)
    assert (signals.n_updates, signals.progress) == (0, 0.0)
    norms = [[layer.norm() for layer in TorchRun(workload, seed, 0.0, torch.float64).parameters()] for seed in SEEDS]
    assert signals.param_norm is not None
    torch.testing.assert_close(signals.param_norm, torch.tensor(norms, dtype=torch.float64), rtol=1e-12, atol=0.0)


def test_what_was_returned_does_not_change_when_the_runs_go_on() -> None:
    workload = make_workload("mlp", SGD)
    population = make_engine(workload, "loop").population(SEEDS, DECAY, OPTIONAL_SIGNALS)
    lr = layerwise_lr(workload, 2)
    for signals in (population.observe(), population.advance(Controls(lr), 2)):
        before = {name: value.clone() for name, value in vectors(signals).items()}
        population.advance(Controls(lr * 1e9), 2)  # which also makes them diverge
        assert same(signals, replace(signals, **before))


def poisoned(workload: Workload, test: Any) -> Workload:
    return replace(workload, dataset=replace(workload.dataset, test=test))


@both
@pytest.mark.parametrize(
    "test",
    [Examples(torch.full((30, 2, 8, 8), torch.nan), torch.full((30,), 10**9)), object()],
    ids=["nan", "no-data-at-all"],
)
def test_test_data_reach_no_signal_and_no_evaluation(test: Any, backend: str) -> None:
    workload = make_workload("mlp", SGD, n_updates=4)
    lr = layerwise_lr(workload, 4)
    seen = []
    for candidate in (workload, poisoned(workload, test)):
        engine = with_replays(Engine(candidate, backend=backend))
        population = engine.population(SEEDS, DECAY, OPTIONAL_SIGNALS)
        signals = [population.observe(), population.advance(Controls(lr), 4)]
        evaluations = [population.evaluate(split).loss for split in (engine.train, engine.validation)]
        seen.append((signals, evaluations, parameters(population)))
    (signals, evaluations, values), (clean_signals, clean_evaluations, clean_values) = seen
    assert all(same(a, b) for a, b in zip(signals, clean_signals, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(evaluations, clean_evaluations, strict=True))
    assert torch.equal(values, clean_values)
