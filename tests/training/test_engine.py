"""Inputs that an engine accepts, its choice of a backend, and its error messages."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.training.backends import VmapBackend
from ganno_bench.training.choice import resolve_backend
from ganno_bench.training.layout import Layout
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.layers import partition
from ganno_bench.workloads.workload import Workload
from tests.helpers.workload_cases import LARGE_IMAGES, SGD, make_engine, make_workload


def with_model(**changes: object) -> Workload:
    workload = make_workload("mlp")
    return replace(workload, spec=workload.spec.model_copy(update={"model": {"family": "mlp", "depth": 1, **changes}}))


@pytest.mark.parametrize("shape", [(2,), (2, 3), (3, 4), (5, 2, 4), (4, 2, 3), (1, 2, 4), (4, 1, 2, 4)])
def test_learning_rates_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    population = make_engine(make_workload("mlp"), "loop").population([1, 2])
    message = f"learning rates must have shape (4, 2, 4) (shape: {shape})"
    with pytest.raises(ConfigError, match=re.escape(message)):
        population.advance(Controls(torch.zeros(shape)), 4)
    assert population.n_updates == 0


def test_no_updates_are_no_call() -> None:
    population = make_engine(make_workload("mlp"), "loop").population([1, 2])
    with pytest.raises(ConfigError, match=r"^n_updates must be at least 1 \(value: 0\)$"):
        population.advance(Controls(torch.zeros(2, 4)), 0)


def test_a_population_without_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one run"):
        make_engine(make_workload("mlp"), "loop").population([])


def test_an_unknown_signal_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown signal 'grad_nrom'; did you mean 'grad_norm'\?"):
        make_engine(make_workload("mlp"), "loop").population([1], needs=["grad_nrom"])


@pytest.mark.parametrize("name", ["weight_decay", "momentum"])
def test_controls_that_are_not_one_for_each_run_are_refused(name: str) -> None:
    population = make_engine(make_workload("mlp"), "loop").population([1, 2])
    controls = Controls(torch.zeros(2, 4), **{name: torch.zeros(3)})
    with pytest.raises(ConfigError, match=re.escape(f"{name.replace('_', ' ')} must have shape (2,) (shape: (3,))")):
        population.advance(controls, 1)


def test_chunks_hold_at_least_one_run() -> None:
    with pytest.raises(ConfigError, match=r"max_population must be at least 1 \(value: 0\)"):
        Engine(make_workload("mlp"), max_population=0)


def test_a_run_ends_at_the_horizon() -> None:
    population = make_engine(make_workload("mlp", SGD, n_updates=5), "loop").population([1, 2])
    lr = Controls(torch.full((2, 4), 0.01))
    population.advance(lr, 3)
    with pytest.raises(ConfigError, match=r"n_updates must be at most 2, the rest of the horizon \(value: 3\)"):
        population.advance(lr, 3)
    assert population.advance(lr, 2).progress == 1.0


@pytest.mark.parametrize(
    ("name", "hint"),
    [("vmpa", "did you mean 'vmap'?"), ("lop", "did you mean 'loop'?"), ("x", "auto, compiled, eager, loop, vmap")],
)
def test_an_unknown_backend_is_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"unknown backend {name!r}") + ".*" + re.escape(hint)):
        Engine(make_workload("mlp"), backend=name)


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpuu"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used: ."):
        Engine(make_workload("mlp"), device=device)


def test_weights_that_cannot_lie_side_by_side_are_left_to_the_loop() -> None:
    workload = with_model(width=9)  # 9 x 5 weights in the output layer
    message = (
        "backend 'vmap' needs weight matrices with a multiple of 4 elements, but 'output.weight' has another number"
    )
    with pytest.raises(ConfigError, match=re.escape(message) + "; use 'loop' or 'auto'"):
        Engine(workload, backend="vmap")
    assert Engine(workload).backend.name == "loop"
    assert Engine(with_model(width=8)).backend.name == "vmap"


def test_a_librarys_convolutions_go_one_after_another_on_a_cpu_only() -> None:
    workload = make_workload(LARGE_IMAGES)
    assert Engine(workload).backend.name == "loop"
    assert Engine(workload, backend="vmap").backend.name == "vmap"
    assert resolve_backend("auto", workload.build(0), torch.device("cuda")) == "vmap"
    assert Engine(make_workload("cnn")).backend.name == "vmap"


def test_chunks_are_as_large_as_allowed_and_of_even_size() -> None:
    engine = make_engine(make_workload("mlp"), "loop")
    engine.chunk = 4
    assert [chunk.n_runs for chunk in engine.population(range(9))._chunks] == [3, 3, 3]
    assert [chunk.n_runs for chunk in engine.population(range(7))._chunks] == [4, 3]
    assert Engine(make_workload("mlp"), max_population=5).chunk == 5


def test_what_a_scheduler_is_told_about_the_runs() -> None:
    workload = make_workload("mlp", SGD, n_updates=7)
    run = make_engine(workload, "loop").run_info(torch.tensor([0.1, 0.2]), torch.tensor([0.0, 1e-3]))
    assert run.layer_names == ("hidden0", "hidden1", "hidden2", "output")
    assert run.layer_sizes == (128 * 24 + 24, 24 * 24 + 24, 24 * 24 + 24, 24 * 5 + 5)
    assert (run.n_runs, run.n_layers, run.total_updates, run.optimizer) == (2, 4, 7, "sgd")
    assert run.base_lr.dtype == run.weight_decay.dtype == torch.float64


def test_the_first_interval_begins_with_the_first_update() -> None:
    engine = make_engine(make_workload("mlp"), "loop")
    lr = torch.full((2, 4), 0.1)
    first, second = (engine.population([1, 2], needs=["grad_norm"]) for _ in range(2))
    signals = first.advance(Controls(lr), 2, same_interval=True)
    expected = second.advance(Controls(lr), 2)
    assert signals.grad_norm is not None
    assert expected.grad_norm is not None
    assert torch.equal(signals.grad_norm, expected.grad_norm)
    assert torch.equal(signals.train_loss, expected.train_loss)


class Unvectorisable(nn.Module):
    """Its operations depend on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * 8 * 8, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.linear(inputs.flatten(1))
        return logits if float(logits.sum()) > 0 else -logits


def test_a_model_that_cannot_be_vectorised_is_named() -> None:
    workload = make_workload("mlp")
    network = Unvectorisable()
    backend = VmapBackend(network, Layout(network, partition(network)))
    parameters = torch.zeros(2, backend.layout.n_columns)
    inputs, targets = workload.dataset.train.to("cpu", torch.float32).gather(torch.arange(32).view(2, 16))
    message = "model Unvectorisable cannot be vectorised, use backend 'loop': "
    with pytest.raises(PluginError, match=message) as caught:
        backend.bind(parameters, torch.zeros_like(parameters), {})(inputs, targets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_another_horizon_or_batch_size_is_as_if_it_had_been_the_workloads_own(backend: str) -> None:
    workload = make_workload("mlp")
    engine = make_engine(workload, backend)
    engine.population([1, 2]).advance(Controls(torch.full((2, 4), 0.1)), 1)  # the engine has been used before
    assert engine.with_spec(workload.spec) is engine
    for changes in ({"n_updates": 2 * workload.spec.n_updates}, {"batch_size": 4 * workload.spec.batch_size}):
        spec = workload.spec.model_copy(update=changes)
        derived, fresh = engine.with_spec(spec), Engine(replace(workload, spec=spec), backend=backend)
        assert derived.backend is engine.backend
        assert derived.run_info(torch.ones(2), torch.ones(2)).total_updates == spec.n_updates
        populations = [own.population([1, 2]) for own in (derived, fresh)]
        for population in populations:
            population.advance(Controls(torch.full((2, 4), 0.1)), spec.n_updates)
        first, second = (population.evaluate(engine.validation).loss for population in populations)
        assert torch.equal(first, second)
    assert engine.workload is workload
