"""Networks with buffers, such as BatchNorm's running statistics: each run has its own, which belong to its state."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError
from ganno_bench.training.choice import resolve_backend
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.suite import OptimizerSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.torch_loop import TorchRun, evaluate_plainly, parameters
from tests.helpers.workload_cases import NESTEROV, make_workload

SEEDS = [1, 2, 1, 5]
N_UPDATES = 9


class Remembering(nn.Module):
    """BatchNorm; a mean that is replaced, not changed; calls, counted in any mode; an offset drawn at random."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2 * 8 * 8, 13)
        self.norm = nn.BatchNorm1d(13)
        self.output = nn.Linear(13, 5)
        self.register_buffer("mean", torch.zeros(13))
        self.register_buffer("offset", torch.randn(13))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, inputs: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1)
        hidden = self.norm(self.first(inputs.flatten(1))) + self.get_buffer("offset")
        if self.training:
            self.mean = 0.9 * self.get_buffer("mean") + 0.1 * hidden.mean(0)
        logits: Tensor = self.output(torch.relu(hidden - self.get_buffer("mean").detach()))
        return logits


class Moded(nn.Module):
    """Predicts differently in evaluation mode; no buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(2 * 8 * 8, 5)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.output(inputs.flatten(1)) * (1.0 if self.training else 0.5)
        return logits


@dataclass(frozen=True)
class Own(Workload):
    network: type[nn.Module] = Remembering

    def build(self, seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.network()


def own(network: type[nn.Module] = Remembering, optimizer: OptimizerSpec = NESTEROV) -> Own:
    like = make_workload("mlp", optimizer, N_UPDATES)
    return Own(like.spec, like.dataset, network=network)


def controls(seeds: list[int], engine: Engine) -> Controls:
    lr = [[0.01 * seed * (1 + layer) for layer in range(engine.layout.n_layers)] for seed in seeds]
    return Controls(torch.tensor(lr, dtype=torch.float64))


def buffers(population: Population) -> dict[str, Tensor]:
    names = population._chunks[0].buffers
    return {name: torch.cat([chunk.buffers[name][: chunk.n_runs] for chunk in population._chunks]) for name in names}


def trained(engine: Engine, seeds: list[int] = SEEDS) -> Population:
    population = engine.population(seeds, 1e-3)
    population.advance(controls(seeds, engine), N_UPDATES)
    return population


def test_a_run_equals_a_plain_loop_and_so_does_its_evaluation() -> None:
    workload = own()
    engine = Engine(workload, dtype=torch.float64)
    population = trained(engine)
    kept, lr = buffers(population), controls(SEEDS, engine).lr
    evaluation = population.evaluate(engine.validation)
    for index, seed in enumerate(SEEDS):
        run = TorchRun(workload, seed, 1e-3, torch.float64)
        for _ in range(N_UPDATES):
            run.update(lr[index])
        row = dict(zip(engine.layout.names, engine.layout.views(parameters(population)[[index]]), strict=True))
        for name, expected in run.model.named_parameters():
            torch.testing.assert_close(row[name][0], expected.detach(), rtol=1e-9, atol=1e-12)
        for name, buffer in run.model.named_buffers():
            torch.testing.assert_close(kept[name][index], buffer.detach(), rtol=1e-9, atol=1e-12)
        loss, error = evaluate_plainly(run.model.eval(), engine.validation)
        assert float(evaluation.loss[index]) == pytest.approx(loss, rel=1e-9)
        assert float(evaluation.error[index]) == error


def test_each_run_has_buffers_of_its_own_that_do_not_depend_on_the_others() -> None:
    engine = Engine(own())
    together = buffers(trained(engine))
    for name in ("norm.running_mean", "mean", "offset"):
        assert not torch.equal(together[name][0], together[name][1]), name
    assert together["calls"].tolist() == together["norm.num_batches_tracked"].tolist() == [N_UPDATES] * len(SEEDS)
    for index, seed in enumerate(SEEDS):
        alone = buffers(trained(engine, [seed]))
        assert all(torch.equal(alone[name][0], together[name][index]) for name in together)


def test_the_initial_buffers_are_those_of_the_seed() -> None:
    kept = buffers(Engine(own()).population(SEEDS))
    assert all(torch.equal(kept["offset"][i], own().build(seed).get_buffer("offset")) for i, seed in enumerate(SEEDS))


@pytest.mark.parametrize("chunk", [2, 9])
def test_a_population_continues_from_a_file_bit_by_bit(chunk: int) -> None:
    engine = Engine(own(), max_population=chunk)
    first = engine.population(SEEDS)
    lr = controls(SEEDS, engine)
    first.advance(lr, 4)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    first.advance(lr, 5)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = engine.population(SEEDS)
    second.load_state_dict(state)
    assert buffers(second)["calls"].tolist() == [4] * len(SEEDS)
    second.advance(lr, 5)
    assert torch.equal(parameters(first), parameters(second))
    assert all(torch.equal(value, buffers(second)[name]) for name, value in buffers(first).items())
    assert torch.equal(first.evaluate(engine.validation).loss, second.evaluate(engine.validation).loss)


def test_evaluating_leaves_no_trace() -> None:
    engine = Engine(own())
    evaluated, other = engine.population(SEEDS), engine.population(SEEDS)
    for _ in range(3):
        for population in (evaluated, other):
            population.advance(controls(SEEDS, engine), 3)
        losses = [evaluated.evaluate(engine.validation).loss for _ in range(2)]
        assert torch.equal(*losses)
    assert torch.equal(parameters(evaluated), parameters(other))
    assert all(torch.equal(value, buffers(other)[name]) for name, value in buffers(evaluated).items())


def test_a_run_that_diverges_leaves_the_others_alone() -> None:
    engine = Engine(own())
    expected = trained(engine)
    population = engine.population([*SEEDS, 9], 1e-3)
    lr = torch.cat([controls(SEEDS, engine).lr, torch.full((1, engine.layout.n_layers), 1e38, dtype=torch.float64)])
    population.advance(Controls(lr), N_UPDATES)
    assert population.diverged.tolist() == [False] * len(SEEDS) + [True]
    assert torch.equal(parameters(population)[:-1], parameters(expected))
    assert all(torch.equal(value[:-1], buffers(expected)[name]) for name, value in buffers(population).items())


def test_such_a_network_is_left_to_the_loop_on_any_device() -> None:
    workload = own()
    assert Engine(workload).backend.name == "loop"
    assert resolve_backend("auto", workload.build(0), torch.device("cuda")) == "loop"


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "1.running_mean"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)), "1"),
        (nn.Sequential(nn.Linear(4, 4), nn.InstanceNorm1d(4, track_running_stats=True)), "1.running_mean"),
    ],
)
def test_vmap_refuses_it_by_name(network: nn.Module, named: str) -> None:
    workload = own(lambda: network)  # type: ignore[arg-type]
    message = (
        "backend 'vmap' does not support networks that keep running statistics or mix examples, as "
        f"'{named}' of Sequential does; use 'loop' or 'auto'"
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        Engine(workload, backend="vmap")


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_gradients_are_computed_in_training_mode_and_predictions_in_evaluation_mode(backend: str) -> None:
    workload = own(Moded)
    engine = Engine(workload, backend=backend, dtype=torch.float64)
    population = engine.population([3], needs=["grad_norm"])
    run = TorchRun(workload, 3, 0.0, torch.float64)
    for _ in range(2):  # once more after an evaluation
        evaluation = population.evaluate(engine.validation)
        expected = evaluate_plainly(run.model.eval(), engine.validation)
        assert float(evaluation.loss[0]) == pytest.approx(expected[0], rel=1e-9)
        run.model.train()
        signals = population.advance(Controls(torch.full((1, 1), 0.1)), 1)
        assert float(signals.train_loss[0]) == pytest.approx(float(run.update(torch.tensor([0.1]))), rel=1e-9)
