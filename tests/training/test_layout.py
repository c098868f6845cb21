"""The layout of the parameters of a population in its matrix."""

from __future__ import annotations

import math

import pytest
import torch

from ganno_bench.training.layout import Blocks, Layout
from ganno_bench.training.signals import Controls
from tests.helpers.torch_loop import TorchRun, layer_vectors, parameters
from tests.helpers.workload_cases import MODELS, SGD, make_engine, make_workload

every_model = pytest.mark.parametrize("model", MODELS)


def make_layout(model: str) -> Layout:
    workload = make_workload(model)
    return Layout(workload.build(0), workload.layers)


@every_model
def test_every_parameter_has_columns_of_its_own_that_begin_at_128_bytes(model: str) -> None:
    layout = make_layout(model)
    matrix = torch.zeros(3, layout.n_columns)
    for number, view in enumerate(layout.views(matrix), start=1):
        assert (view.data_ptr() - matrix.data_ptr()) % 128 == 0
        assert view.stride(0) * 4 % 128 == 0
        view += number
    sizes = {name: parameter.numel() for name, parameter in make_workload(model).build(0).named_parameters()}
    for number, name in enumerate(layout.names, start=1):
        assert int((matrix == number).sum()) == 3 * sizes[name]
    assert set(layout.names) == set(sizes)


@every_model
def test_the_layers_lie_side_by_side_and_cover_all_columns(model: str) -> None:
    layout = make_layout(model)
    ends = [0, *(part.stop for part in layout.layer_slices)]
    assert [part.start for part in layout.layer_slices] == ends[:-1]
    assert ends[-1] == layout.n_columns
    assert layout.n_layers == len(layout.layers) == len(layout.layer_slices)


@every_model
def test_a_row_holds_the_network_of_the_runs_seed(model: str) -> None:
    workload = make_workload(model)
    population = make_engine(workload, "loop", torch.float64).population([4, 9, 4])
    for row, seed in zip(parameters(population), population.seeds, strict=True):
        got = layer_vectors(population.engine, row)
        expected = TorchRun(workload, seed, 0.0, torch.float64).parameters()
        assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_the_gaps_between_parameters_stay_zero(backend: str) -> None:
    engine = make_engine(make_workload("mlp", SGD, n_updates=5), backend)
    population = engine.population([1, 2], 1e-2)
    population.advance(Controls(torch.full((2, engine.layout.n_layers), 0.05)), 5)
    values = parameters(population).clone()
    n_gaps = engine.layout.n_columns - sum(layer.size for layer in engine.layout.layers)
    assert n_gaps > 0
    for view in engine.layout.views(values):
        view.fill_(torch.nan)
    assert int((values == 0.0).sum()) == 2 * n_gaps


def test_norms_and_inner_products_are_taken_layer_by_layer() -> None:
    layout = make_layout("mlp")
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, layout.n_columns, generator=generator, dtype=torch.float64)
    for layer, part in enumerate(layout.layer_slices):
        torch.testing.assert_close(layout.norms(a)[:, layer], a[:, part].square().sum(1).sqrt())
        torch.testing.assert_close(layout.dots(a, b)[:, layer], torch.einsum("pn,pn->p", a[:, part], b[:, part]))


@pytest.mark.parametrize("size", [1, 10, 16_384])
def test_of_a_small_parameter_all_entries_are_looked_at(size: int) -> None:
    blocks = Blocks.of(size)
    assert blocks.is_whole
    assert blocks.entries == list(range(size))
    assert blocks.weight == 1.0


@pytest.mark.parametrize(
    "shape", [(16_385,), (128, 144), (512, 784), (1024, 784), (512, 512), (128, 64, 3, 3), (7, 30_030)], ids=str
)
def test_of_a_large_parameter_blocks_are_looked_at_spread_over_all_rows_and_columns(shape: tuple[int, ...]) -> None:
    tensor = torch.arange(math.prod(shape), dtype=torch.float64).view(shape)
    blocks = Blocks.of(tensor.numel())
    sample = blocks.take(tensor)
    assert sample.flatten().tolist() == blocks.entries
    assert sample.data_ptr() == tensor.data_ptr()
    assert 512 <= blocks.size <= 2_048
    assert blocks.weight**2 * blocks.size == pytest.approx(tensor.numel())
    if tensor.dim() > 1:
        n_columns = math.prod(shape[1:])
        rows, columns = sample.long() // n_columns, sample.long() % n_columns
        assert len(rows.unique()) > 0.7 * min(shape[0], blocks.n_blocks)
        counts = torch.bincount(columns.flatten(), minlength=n_columns)
        assert counts.max() <= 2 + 1.5 * counts.double().mean()
    norm = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(blocks.take(norm).norm()) * blocks.weight == pytest.approx(float(norm.norm()), rel=0.06)


def test_a_sample_of_a_tensor_that_is_not_contiguous_is_that_of_its_logical_order() -> None:
    tensor = torch.randn(150, 130).t()
    blocks = Blocks.of(tensor.numel())
    assert torch.equal(blocks.take(tensor), blocks.take(tensor.clone(memory_format=torch.contiguous_format)))
