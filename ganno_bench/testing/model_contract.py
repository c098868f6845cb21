"""The contract of a model family: the properties that the engine relies on, in every suite.

class TestMine(ModelContract):
    ref = "./mine.py:Mine(depth=2)"
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.schedulers.registry import parse_reference
from ganno_bench.testing.contract import Check, CheckResult, Contract, check_all
from ganno_bench.testing.playing import ContractError
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.data import Dataset, Examples, Split, TaskShape, TokenStream
from ganno_bench.workloads.layers import partition
from ganno_bench.workloads.models import build_model, check_model
from ganno_bench.workloads.suite import OptimizerSpec, WorkloadSpec
from ganno_bench.workloads.workload import Workload

__all__ = ["CHECKS", "ModelContract", "ModelEntry", "check_family", "load_entry"]

_UPDATES, _BATCH = 4, 7


@dataclass(frozen=True)
class ModelEntry:
    """A model family, with the arguments for the checks.

    Attributes:
        model: The description of the model, as in a suite.
        datasets: Synthetic datasets that it accepts, at least one.
    """

    model: Mapping[str, Any]
    datasets: tuple[Dataset, ...]

    def build(self, dataset: Dataset, seed: int = 0) -> nn.Module:
        """Return a network for a dataset."""
        return build_model(self.model, dataset.shape, seed)


def load_entry(ref: str) -> ModelEntry:
    """Return a family that can be built for at least one kind of data.

    Args:
        ref: `NAME` or `./file.py:Name`, with arguments: `NAME(depth=2)`.

    Raises:
        UnknownNameError: There is no such family.
        ConfigError: An argument is missing, unknown or wrong.
        PluginError: It cannot be built for any kind of data.
    """
    reference = parse_reference(ref, "model")
    model = {"family": reference.name, **reference.pinned}
    check_model(model, f"model {ref!r}", "model")
    taken, refused = [], []
    for dataset in _datasets():
        try:
            build_model(model, dataset.shape, 0)
        except (ConfigError, PluginError) as error:  # a family need not accept every kind of data
            refused.append(f"{dataset.name}: {error}")
        else:
            taken.append(dataset)
    if not taken:
        raise PluginError(f"model {ref!r} accepts no kind of data: {'; '.join(refused)}")
    return ModelEntry(model, tuple(taken))


def check_logits(entry: ModelEntry) -> None:
    """Logits are finite. Their shape is the shape of the targets, then the number of classes or tokens."""
    for dataset in entry.datasets:
        inputs, targets = dataset.train.gather(torch.arange(3))
        logits = entry.build(dataset).eval()(inputs)
        expected = (*targets.shape, dataset.shape.n_outputs)
        if not isinstance(logits, Tensor) or logits.shape != expected:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ContractError(f"{dataset.name}: expected logits of shape {expected}, got {got}")
        if not bool(logits.isfinite().all()):
            raise ContractError(f"{dataset.name}: expected finite logits, got {_first_bad(logits)}")


def check_layers(entry: ModelEntry) -> None:
    """Every trainable parameter belongs to exactly one layer, and no two layers have the same name."""
    for dataset in entry.datasets:
        network = entry.build(dataset)
        layers = partition(network)
        if not layers:
            raise ContractError(f"{dataset.name}: expected a trainable parameter, got none")
        names = Counter(layer.name for layer in layers)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ContractError(f"{dataset.name}: expected layers of different names, got {twice[0]!r} twice")


def check_initialisation(entry: ModelEntry) -> None:
    """The seed determines the initialisation: equal seeds give equal networks, other seeds other networks."""
    dataset = entry.datasets[0]
    first, again, other = (entry.build(dataset, seed).state_dict() for seed in (1, 1, 2))
    for name, value in first.items():
        if not torch.equal(value, again[name]):
            raise ContractError(f"expected {name!r} to be the same when built again with the same seed")
    if all(torch.equal(value, other[name]) for name, value in first.items()):
        raise ContractError("expected another initialisation with another seed, got the same")


def check_nothing_random(entry: ModelEntry) -> None:
    """The forward pass draws no random numbers, as dropout would: a seed determines initialisation and data only."""
    for dataset in entry.datasets:
        inputs, _ = dataset.train.gather(torch.arange(8))
        network, before = entry.build(dataset).train(), torch.random.get_rng_state()
        first, second = network(inputs), network(inputs)
        drawn = not torch.equal(torch.random.get_rng_state(), before)
        torch.random.set_rng_state(before)
        if drawn or not torch.equal(first, second):
            raise ContractError(f"{dataset.name}: expected the same logits twice in training mode; is there dropout?")


def check_examples_apart(entry: ModelEntry) -> None:
    """In evaluation mode, the logits of an example do not depend on the other examples of its batch."""
    for dataset in entry.datasets:
        inputs, _ = dataset.train.gather(torch.arange(5))
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        network = entry.build(dataset).double().eval()
        if not torch.allclose(network(inputs)[1:2], network(inputs[1:2]), rtol=1e-9, atol=1e-12):
            raise ContractError(f"{dataset.name}: expected the same logits for an example alone and in a batch")


def check_backends(entry: ModelEntry) -> None:
    """It trains with the backend that `auto` chooses. If it can be vectorised, all backends agree to 1e-9."""
    dataset = entry.datasets[0]
    expected = _train(entry, dataset, "loop", [1, 2], torch.float64)
    if not bool(expected.isfinite().all()):
        raise ContractError(f"expected finite losses after {_UPDATES} updates, got {_first_bad(expected)}")
    if not bool((expected[1] != expected[0]).any()):
        raise ContractError(f"expected the loss to change in {_UPDATES} updates")
    try:
        got = _train(entry, dataset, "vmap", [1, 2], torch.float64)
    except (ConfigError, PluginError):
        _train(entry, dataset, "auto", [1, 2], torch.float64)
        return
    if not torch.allclose(got, expected, rtol=1e-9, atol=0.0):
        worst = ((got - expected).abs() / expected.abs()).max().item()
        raise ContractError(f"expected the same losses with backends 'loop' and 'vmap', they differ by {worst:.1e}")


def check_alone(entry: ModelEntry) -> None:
    """A run gives the same losses, bit by bit, alone and next to other runs."""
    dataset = entry.datasets[0]
    alone = _train(entry, dataset, "auto", [2], torch.float32)
    among = _train(entry, dataset, "auto", [1, 2, 3], torch.float32)
    if not torch.equal(alone[:, 0], among[:, 1]):
        raise ContractError("expected the same losses, bit by bit, for a run alone and next to others")


_GATES = (check_logits, check_layers)
CHECKS: tuple[Check, ...] = (
    *_GATES,
    check_initialisation,
    check_nothing_random,
    check_examples_apart,
    check_backends,
    check_alone,
)
"""Each check takes a `ModelEntry`."""


def check_family(ref: str) -> list[CheckResult]:
    """Check a model family against the contract; see `load_entry` for its name."""
    return check_all(lambda: load_entry(ref), CHECKS, _GATES)


class ModelContract(Contract):
    """The contract as pytest tests. Derive a class `Test...` and set `ref`."""

    checks: ClassVar[Sequence[Check]] = CHECKS
    load = staticmethod(load_entry)


def _train(entry: ModelEntry, dataset: Dataset, backend: str, seeds: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return the validation losses before and after a few updates, shape (2, P)."""
    spec = WorkloadSpec(
        id="small",
        dataset=dataset.name,
        model=dict(entry.model),
        optimizer=OptimizerSpec(name="sgd"),
        batch_size=_BATCH,
        n_updates=_UPDATES,
    )
    engine = Engine(Workload(spec, dataset), backend=backend, dtype=dtype)
    population = engine.population(seeds)
    before = population.evaluate(engine.validation).loss
    lr = torch.full((len(seeds), engine.layout.n_layers), 0.01, dtype=torch.float64)
    population.advance(Controls(lr), _UPDATES)
    return torch.stack([before, population.evaluate(engine.validation).loss])


def _first_bad(values: Tensor) -> float:
    return float(values.detach()[~values.isfinite()][0])


def _datasets() -> tuple[Dataset, ...]:
    """Return a small synthetic dataset of each kind, the same at each call."""
    generator = torch.Generator().manual_seed(0)

    def made(name: str, task: str, shape: TaskShape, inputs: Tensor) -> Dataset:
        targets = torch.randint(shape.n_outputs, (len(inputs),), generator=generator)
        parts = [Examples(inputs[a : a + 16], targets[a : a + 16]) for a in (0, 16, 32)]
        return _dataset(name, task, shape, parts)

    def images(name: str, *size: int) -> Dataset:
        shape = TaskShape("image", size, None, 4, next_token=False)
        return made(name, "image-classification", shape, torch.randn(48, *size, generator=generator))

    tokens = torch.randint(12, (90,), generator=generator)
    streams = [TokenStream(tokens[a : a + 30], 8) for a in (0, 30, 60)]
    stream_shape = TaskShape("tokens", (8,), 12, 12, next_token=True)
    texts = torch.randint(12, (48, 8), generator=generator)
    nodes = torch.randn(48, 6, 6 + 4, generator=generator)
    return (
        images("gray images of 8 x 8", 1, 8, 8),
        images("colour images of 32 x 32", 3, 32, 32),
        made("texts", "text-classification", TaskShape("tokens", (8,), 12, 4, next_token=False), texts),
        _dataset("a text", "language-modelling", stream_shape, streams),
        made("a graph", "node-classification", TaskShape("graph", (6, 6 + 4), None, 4, next_token=False), nodes),
    )


def _dataset(name: str, task: str, shape: TaskShape, parts: Sequence[Split]) -> Dataset:
    train, validation, test = parts
    return Dataset(name, task, "0" * 64, shape, train, validation, test, math.log(shape.n_outputs))
