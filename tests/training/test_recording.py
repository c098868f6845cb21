"""A recorded function equals the function, bit by bit, and has the same operations as `make_fx` records."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, fx
from torch.func import functional_call, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from ganno_bench.training.backends import cross_entropy
from ganno_bench.training.recording import record
from tests.helpers.workload_cases import LARGE_IMAGES, MODELS, make_workload

N_RUNS = 3


def gradients(model: str, n_examples: int = 16) -> tuple[Sequence[Tensor], object]:
    """Return parameters, inputs and targets of some networks, and a function for gradients and losses."""
    workload = make_workload(model)
    networks = [dict(workload.build(seed).named_parameters()) for seed in range(N_RUNS)]
    values = [torch.stack([network[name].detach() for network in networks]) for name in networks[0]]
    inputs, targets = workload.dataset.train.to("cpu", torch.float32).gather(torch.arange(N_RUNS * n_examples))
    batches = [part.view(N_RUNS, n_examples, *part.shape[1:]) for part in (inputs, targets)]
    template = workload.build(0)

    def one_run(own: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        named = dict(zip(networks[0], own, strict=True))
        return cross_entropy(functional_call(template, named, (inputs,)), targets)

    def all_runs(*tensors: Tensor) -> list[Tensor]:
        grads, losses = vmap(grad_and_value(one_run))(tensors[:-2], *tensors[-2:])
        return [*grads, losses]

    return [*values, *batches], all_runs


@pytest.mark.parametrize("model", [*MODELS, LARGE_IMAGES])
def test_gradients_are_those_of_the_function(model: str) -> None:
    tensors, function = gradients(model)
    recorded = record(function, tensors)
    assert all(torch.equal(got, expected) for got, expected in zip(recorded(*tensors), function(*tensors), strict=True))
    others = [t + 0.01 * torch.randn_like(t) if t.is_floating_point() else t.roll(1, 0) for t in tensors]
    assert all(torch.equal(got, expected) for got, expected in zip(recorded(*others), function(*others), strict=True))


def operations(graph: fx.Graph) -> list[object]:
    return [node.target for node in graph.nodes if node.op == "call_function"]


def test_the_operations_are_those_that_make_fx_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors, function = gradients("decoder")
    expected = make_fx(function)(*tensors).graph
    expected.eliminate_dead_code()
    monkeypatch.setattr("ganno_bench.training.recording.simplify", fx.Graph.eliminate_dead_code)
    whole = record(function, tensors).__self__.graph
    assert operations(whole) == operations(expected)
    monkeypatch.undo()
    assert len(operations(record(function, tensors).__self__.graph)) < 0.8 * len(operations(whole))


def test_what_is_recorded_stays_as_it_is() -> None:
    tensors = [torch.ones(3), torch.ones(3)[None].expand(2, 3)]
    recorded = record(lambda x, y: [x.add_(1) + y], tensors)
    assert [tensor.unique().tolist() for tensor in tensors] == [[1.0], [1.0]]
    assert recorded(*tensors)[0].unique().tolist() == [3.0]
    assert tensors[0].unique().tolist() == [2.0]  # the function itself changes its input


def test_a_number_that_is_changed_in_place_begins_anew_each_time() -> None:
    recorded = record(lambda x: [torch.tensor(1.0).add_(x)], [torch.zeros(())])
    assert [float(recorded(torch.tensor(2.0))[0]) for _ in range(2)] == [3.0, 3.0]


def test_several_results_of_one_operation_and_one_that_is_an_input() -> None:
    recorded = record(lambda x, y: [*torch.sort(x), y], [torch.zeros(3), torch.zeros(1)])
    values, places, same = recorded(torch.tensor([3.0, 1.0, 2.0]), torch.ones(1))
    assert (values.tolist(), places.tolist(), same.tolist()) == ([1.0, 2.0, 3.0], [1, 2, 0], [1.0])
