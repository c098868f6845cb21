"""Within a backend and a number of threads, the bits of a run do not depend on the other runs or on its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import pytest
import torch
from torch import Tensor

from ganno_bench.training import layout
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, Signals
from tests.helpers.torch_loop import parameters
from tests.helpers.workload_cases import ADAMW, BATCH_NORM, LARGE_IMAGES, RESNET, SGD, make_engine, make_workload

# Recording a shape takes most of the time of this test, so only some models test each size.
SIZES = {
    "mlp": (1, 2, 3, 5, 8, 16, 17, 33, 64),
    "cnn": (1, 3, 8, 17, 64),
    "cnn-unnormalised": (1, 3, 16, 64),
    "gcn": (1, 2, 5, 16, 33),
    "gcn-residual": (1, 3, 17, 64),
    "decoder": (1, 2, 5, 16, 33),
    "encoder": (1, 5, 17, 33),
    "lstm": (1, 3, 33),
    "lstm-stream": (2, 5, 17),
    LARGE_IMAGES: (1, 3, 8),  # alone, it would use another convolution kernel
}
CASES = {
    f"{model}-{backend}-{threads}": (model, backend, threads, sizes)
    for model, all_sizes in SIZES.items()
    for backend, threads, sizes in (
        ("vmap", 1, all_sizes),
        ("vmap", 2, all_sizes[2:3]),  # threads wait for each other, which is slow if tests share the cores
        ("loop", 1, all_sizes[:-1]),
    )
}
CASES |= {
    f"{model}-loop": (model, "loop", 1, (1, 3)) for model in (RESNET, BATCH_NORM)
}  # the choice of `auto` on a CPU
COMPILED = dict.fromkeys((*SIZES, RESNET), (1, 2, 5, 16, 17, 33, 64))
UPDATES = 5
BATCH_SIZE = 7  # odd, so the decoder's bits depend on its place unless the batch is padded


@dataclass(frozen=True)
class Run:
    seed: int
    weight_decay: float
    lr: tuple[float, ...]  # of each layer, multiplied by the index of the update


def engine(model: str, backend: str) -> Engine:
    optimizer = ADAMW if model in ("decoder", "cnn-unnormalised", "gcn-residual", "lstm") else SGD
    workload = make_workload(model, optimizer, n_updates=UPDATES, batch_size=BATCH_SIZE)
    return Engine(workload, backend="compiled") if backend == "compiled" else make_engine(workload, backend)


@contextmanager
def on_threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def layerwise(n_layers: int, scale: float = 0.01) -> tuple[float, ...]:
    return tuple(scale * (1 + layer) for layer in range(n_layers))


def probes(n_layers: int) -> list[Run]:
    return [Run(11, 1e-3, layerwise(n_layers)), Run(12, 0.0, (0.02,) * n_layers)]


def neighbours(n: int, n_layers: int, generator: torch.Generator) -> list[Run]:
    """Return runs of all kinds, some of which share the probes' seeds."""
    runs = []
    for _ in range(n):
        seed, decay, uniform = torch.randint(1 << 20, (3,), generator=generator).tolist()
        scale = float(torch.rand((), generator=generator)) / 10
        lr = (scale,) * n_layers if uniform % 2 else layerwise(n_layers, scale / n_layers)
        runs.append(Run(9 + seed % 6, (0.0, 1e-4, 1e-1)[decay % 3], lr))
    return runs


def train(prepared: Engine, runs: Sequence[Run]) -> tuple[Population, Signals]:
    decay = torch.tensor([run.weight_decay for run in runs], dtype=torch.float64)
    population = prepared.population([run.seed for run in runs], decay, OPTIONAL_SIGNALS)
    lr = torch.tensor([run.lr for run in runs], dtype=torch.float64)
    block = lr * torch.arange(1, UPDATES + 1)[:, None, None]
    population.advance(Controls(block[:2]), 2)
    return population, population.advance(Controls(block[2:]), UPDATES - 2)


def results(trained: tuple[Population, Signals], run: int) -> dict[str, Tensor]:
    population, signals = trained
    own = signals.runs(slice(run, run + 1))
    tensors = {field.name: getattr(own, field.name) for field in fields(own)}
    assert all(tensors[name] is not None for name in OPTIONAL_SIGNALS)
    return {name: value for name, value in tensors.items() if isinstance(value, Tensor)} | {
        "parameters": parameters(population)[run]
    }


def differing(got: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    assert got.keys() == expected.keys()
    return [name for name in got if not torch.equal(got[name], expected[name])]


def what_others_change(prepared: Engine, expected: Sequence[dict[str, Tensor]], size: int) -> list[str]:
    """Return the results of the probes that differ in a population of this size, filled with other runs."""
    n_layers = prepared.layout.n_layers
    generator = torch.Generator().manual_seed(size)
    runs = neighbours(size, n_layers, generator)
    places = torch.randperm(size, generator=generator)[:2].tolist()
    for place, probe in zip(places, probes(n_layers), strict=False):
        runs[place] = probe
    trained = train(prepared, runs)
    return [
        name
        for place, result in zip(places, expected, strict=False)
        for name in differing(results(trained, place), result)
    ]


def among_copies(prepared: Engine) -> list[dict[str, Tensor]]:
    """Return the results of each probe beside a copy of itself: the same data, perhaps one rate and no decay for all.

    That is another path through the engine than beside others.
    """
    return [results(train(prepared, [probe, probe]), 1) for probe in probes(prepared.layout.n_layers)]


BY_DEFAULT = (
    "mlp-vmap-1",
    "mlp-vmap-2",
    "mlp-loop-1",
    "cnn-unnormalised-vmap-1",
    "decoder-vmap-1",
    "gcn-loop-1",
    "resnet-loop",
)


@pytest.mark.parametrize(
    ("model", "backend", "threads", "sizes"),
    [
        pytest.param(*case, id=name, marks=() if name in BY_DEFAULT else pytest.mark.slow(group="engine"))
        for name, case in CASES.items()
    ],
)
def test_a_run_is_the_same_in_a_population_of_any_size(
    model: str, backend: str, threads: int, sizes: Sequence[int]
) -> None:
    with on_threads(threads):
        check_sizes(model, backend, sizes)


def check_sizes(model: str, backend: str, sizes: Sequence[int]) -> None:
    """Train runs in populations of several sizes, and compare their results."""
    prepared = engine(model, backend)
    expected = among_copies(prepared)
    changed = {size: what_others_change(prepared, expected, size) for size in sizes}
    assert changed == {size: [] for size in sizes}


@pytest.mark.slow(group="compiled")
@pytest.mark.parametrize("model", ["decoder", "cnn", RESNET])
def test_so_it_is_compiled(model: str) -> None:
    with on_threads(1):
        check_sizes(model, "compiled", COMPILED[model])


@pytest.mark.slow(group="long")
@pytest.mark.parametrize("model", sorted(COMPILED.keys() - {"decoder", "cnn", RESNET}))
def test_so_is_every_other_network(model: str) -> None:
    with on_threads(1):
        check_sizes(model, "compiled", COMPILED[model])


def test_so_it_is_where_gradients_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SAMPLE", 30)
    with on_threads(1):
        check_sizes("mlp", "vmap", (1, 3, 17))


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_a_run_is_the_same_in_whichever_chunk_it_is_trained(backend: str) -> None:
    prepared = engine("mlp", backend)
    expected = among_copies(prepared)
    for most in (1, 2, 3, 7):
        prepared.chunk = most
        assert what_others_change(prepared, expected, size=8) == []


def test_the_comparison_notices_a_last_bit() -> None:
    expected = among_copies(engine("mlp", "loop"))[0]
    changed = expected | {"parameters": expected["parameters"] * (1 + 2**-23)}
    assert differing(changed, expected) == ["parameters"]
