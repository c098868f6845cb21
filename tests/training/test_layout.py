"""How the parameters of a population lie in its matrix."""

from __future__ import annotations

import pytest
import torch
from torch_loop import TorchRun, layer_vectors, parameters
from workload_cases import MODELS, SGD, make_engine, make_workload

from ganno_bench.training.layout import Layout
from ganno_bench.training.signals import Controls

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
