"""The graph of nearest neighbours, the subgraph around each node, and its use for classification."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor

from ganno_bench.core.errors import DatasetError
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.data import Dataset, Examples
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.fingerprint import Pixels
from ganno_bench.workloads.graph_encoding import (
    breadth_first,
    encode_neighbourhoods,
    nearest_neighbours,
    normalised_adjacency,
)
from ganno_bench.workloads.suite import DatasetSpec, GraphSpec, OptimizerSpec, WorkloadSpec
from ganno_bench.workloads.workload import Workload

LINE = np.array([[0.0], [1.0], [3.0], [6.0], [100.0]])
"""The nearest neighbours of the points are 1, 0, 1, 2, 3."""


def pixels(n: int, size: int = 5) -> list[Pixels]:
    return list(np.random.default_rng(n).integers(0, 256, (n, size, size), dtype=np.uint8))


def digits_spec(**graph: int) -> DatasetSpec:
    graph_spec = GraphSpec(feature_size=2).model_copy(update=graph)
    return DatasetSpec(
        source="digits", task="node-classification", input="image", target="label", max_train=400, graph=graph_spec
    )


# The graph.


def test_points_are_joined_if_one_is_among_the_nearest_of_the_other() -> None:
    assert nearest_neighbours(LINE, 1) == [[1], [0, 2], [1, 3], [2, 4], [3]]
    assert nearest_neighbours(LINE, 4) == [[1, 2, 3, 4], [0, 2, 3, 4], [1, 0, 3, 4], [2, 1, 0, 4], [3, 2, 1, 0]]


def test_the_graph_is_that_of_scikit_learn_where_no_distances_are_equal() -> None:
    from sklearn.neighbors import kneighbors_graph

    points = np.random.default_rng(0).integers(0, 10**6, (70, 3)).astype(np.float64)
    graph = kneighbors_graph(points, 4).toarray()
    expected = [np.flatnonzero(row).tolist() for row in np.maximum(graph, graph.T)]
    assert [sorted(nodes) for nodes in nearest_neighbours(points, 4)] == expected


def test_of_equally_near_points_the_first_is_the_nearest() -> None:
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert nearest_neighbours(corners, 1) == [[1, 2], [0, 3], [0], [1]]


def test_of_identical_points_each_is_the_others_neighbour() -> None:
    assert nearest_neighbours(np.array([[5.0], [5.0], [9.0]]), 1) == [[1, 2], [0], [0]]


def test_the_size_of_the_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(1).integers(0, 5, (40, 2)).astype(np.float64)
    whole = nearest_neighbours(points, 3)
    monkeypatch.setattr("ganno_bench.workloads.graph_encoding.BLOCK", 7)
    assert nearest_neighbours(points, 3) == whole


# What is around a node.


def test_the_search_goes_breadth_first_and_nearer_neighbours_first() -> None:
    graph = [[2, 1], [0, 3], [0, 4], [1], [2], []]
    assert [breadth_first(graph, 0, n) for n in (1, 2, 4, 9)] == [[0], [0, 2], [0, 2, 1, 4], [0, 2, 1, 4, 3]]
    assert breadth_first(graph, 5, 3) == [5]


def test_adjacency_is_normalised_by_the_degrees_within_what_is_cut_out() -> None:
    graph = [[1, 2], [0, 2, 3], [0, 1], [1]]
    expected = [[1 / 2, 6**-0.5, 0], [6**-0.5, 1 / 3, 6**-0.5], [0, 6**-0.5, 1 / 2]]
    np.testing.assert_allclose(normalised_adjacency(graph, [0, 1, 3]), expected, rtol=1e-6)


def test_an_example_is_the_adjacency_and_the_features_of_the_nodes_around_its_own() -> None:
    splits = {"train": pixels(20), "validation": pixels(6), "test": pixels(7)}
    spec = GraphSpec(neighbours=2, subgraph_size=5, feature_size=2)
    inputs = encode_neighbourhoods(splits, None, False, spec)
    assert {name: part.shape for name, part in inputs.items()} == {
        name: (len(images), 5, 5 + 4) for name, images in splits.items()
    }
    everything = np.concatenate([np.stack(images).reshape(-1, 25) for images in splits.values()]).astype(np.float64)
    graph = nearest_neighbours(everything, 2)
    examples = torch.cat(list(inputs.values()))
    own = examples[:, 0, 5:]
    assert own[:20].mean() == pytest.approx(0.0, abs=1e-6)  # standardised on the training split
    assert own[:20].std(correction=0) == pytest.approx(1.0, abs=1e-6)
    crossing = 0
    for root, example in enumerate(examples):
        nodes = breadth_first(graph, root, 5)
        assert torch.equal(example[:, 5:], own[nodes])
        np.testing.assert_array_equal(example[:, :5], normalised_adjacency(graph, nodes))
        crossing += root < 20 and max(nodes) >= 20
    assert crossing  # the graph joins images of all splits


def test_where_fewer_nodes_can_be_reached_the_rest_is_zero() -> None:
    # Two groups of three, far apart.
    images = [np.full((2, 2), value, np.uint8) for value in (0, 1, 2, 200, 201, 202)]
    spec = GraphSpec(neighbours=2, subgraph_size=5, feature_size=1)
    inputs = encode_neighbourhoods({"train": images[:4], "test": images[4:]}, None, False, spec)
    for example in torch.cat(list(inputs.values())):
        assert example[:3, :3].gt(0).all()
        assert example[:3, 5:].ne(0).all()
        rest = example.clone()
        rest[:3, :3] = rest[:3, 5:] = 0
        assert not rest.any()


def test_images_are_resized_before_they_are_compared_and_shrunk_once() -> None:
    splits = {"train": [*pixels(12), *pixels(3, size=8)], "test": pixels(4)}
    spec = GraphSpec(neighbours=2, subgraph_size=4, feature_size=2)
    with pytest.raises(DatasetError, match="different sizes"):
        encode_neighbourhoods(splits, None, False, spec)
    assert encode_neighbourhoods(splits, 5, False, spec)["train"].shape == (15, 4, 8)


# The task.


def test_a_graph_needs_more_images_than_neighbours() -> None:
    spec = digits_spec(neighbours=46).model_copy(update={"max_train": 40, "max_validation": 3, "max_test": 3})
    message = "dataset 'd': embedded dataset 'digits' has 46 images in all; graph.neighbours must be less (value: 46)"
    with pytest.raises(DatasetError, match=re.escape(message)):
        load_dataset("d", spec)


def test_node_classification_needs_a_graph() -> None:
    spec = digits_spec().model_copy(update={"graph": None})
    with pytest.raises(DatasetError, match="dataset 'd': embedded dataset 'digits' needs a graph for node classif"):
        load_dataset("d", spec)


def test_the_content_is_that_of_the_same_images_without_a_graph() -> None:
    spec = digits_spec(feature_size=3)
    plain = spec.model_copy(update={"task": "image-classification", "graph": None})
    graph, images = load_dataset("d", spec), load_dataset("d", plain)
    assert graph.fingerprint == images.fingerprint
    assert graph.chance_loss == images.chance_loss
    everything = torch.arange(graph.test.n_examples)
    assert torch.equal(graph.test.gather(everything)[1], images.test.gather(everything)[1])


def validation_loss(data: Dataset) -> Tensor:
    spec = WorkloadSpec(
        id="w",
        dataset="d",
        model={"family": "gcn", "depth": 2, "width": 16},
        optimizer=OptimizerSpec(name="adamw"),
        batch_size=32,
        n_updates=150,
    )
    engine = Engine(Workload(spec, data), backend="vmap")
    population = engine.population([1, 2])
    population.advance(Controls(torch.full((2, 3), 0.02)), 150)
    return population.evaluate(engine.validation).loss


def test_the_graph_says_more_about_a_digit_than_its_own_features() -> None:
    among_others, alone = (load_dataset("d", digits_spec(subgraph_size=size)) for size in (16, 1))
    assert isinstance(alone.train, Examples)
    assert alone.shape.input_shape == (1, 1 + 4)
    assert alone.train.inputs[:, 0, 0].eq(1).all()  # the network is an MLP on a node's own features
    assert torch.equal(alone.train.targets, among_others.train.gather(torch.arange(400))[1])
    assert validation_loss(among_others).max() < 0.8 * validation_loss(alone).min()
