"""Encode images as a graph of nearest neighbours: for each node, the small graph around it, as one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.fingerprint import Pixels
from ganno_bench.workloads.image_encoding import encode_images, stack_images
from ganno_bench.workloads.suite import GraphSpec

__all__ = ["BLOCK", "breadth_first", "encode_neighbourhoods", "nearest_neighbours", "normalised_adjacency"]

Adjacency = Sequence[Sequence[int]]
"""The neighbours of each node, nearest first."""

BLOCK = 1024


def encode_neighbourhoods(
    splits: Mapping[str, Sequence[Pixels]], size: int | None, grayscale: bool, spec: GraphSpec
) -> dict[str, Tensor]:
    """Return the subgraph around each image in the graph of all images, across all splits.

    Each image is a node. An edge joins two nodes if one is among the nearest neighbours of the other, by the Euclidean
    distance of their pixels. An example is the subgraph of the nodes around a node: the node first, then breadth first,
    nearer neighbours first. So the input of a network does not grow with its depth (shaDow-GNN, Zeng et al. 2021,
    "Decoupling the Depth and Scope of Graph Neural Networks"). The features of a node are its image in fewer pixels.

    Args:
        splits: Canonical pixels of the splits, including `train`.
        size: Height and width for resizing before the distances are computed; None: keep the size.
        grayscale: Whether to drop colours.
        spec: Number of neighbours, number of nodes of an example, m, and size of the images that are features.

    Returns:
        For each split float32, shape (n_images, m, m + n_features): for each node, its row of the example's normalised
        adjacency matrix, then its features. If an example has fewer nodes, the last rows are zero.

    Raises:
        DatasetError: The images differ in size and `size` is None, or there are not more images than neighbours.
    """
    points = np.concatenate([stack.reshape(len(stack), -1) for stack in stack_images(splits, size, grayscale).values()])
    if len(points) <= spec.neighbours:
        raise DatasetError(f"has {len(points)} images in all; graph.neighbours must be less (value: {spec.neighbours})")
    graph = nearest_neighbours(points.astype(np.float64), spec.neighbours)
    small, _ = encode_images(splits, spec.feature_size, grayscale)
    features = torch.cat(list(small.values())).flatten(1)
    n_nodes = spec.subgraph_size
    inputs = torch.zeros(len(points), n_nodes, n_nodes + features.shape[1])
    for root in range(len(points)):
        nodes = breadth_first(graph, root, n_nodes)
        inputs[root, : len(nodes), : len(nodes)] = torch.from_numpy(normalised_adjacency(graph, nodes))
        inputs[root, : len(nodes), n_nodes:] = features[nodes]
    return dict(zip(splits, torch.split(inputs, [len(images) for images in splits.values()]), strict=True))


def nearest_neighbours(points: NDArray[np.float64], k: int) -> list[list[int]]:
    """Return the graph that joins two points if one is among the k nearest neighbours of the other.

    Args:
        points: Whole numbers, shape (n_points, n_dimensions), so that distances are exact. In a tie, the earlier point
            counts as nearer. (scikit-learn's `kneighbors_graph` breaks ties arbitrarily.)
        k: Number of neighbours, less than n_points.

    Returns:
        The neighbours of each point, nearest first, without the point.
    """
    n_points = len(points)
    squares = (points**2).sum(1)
    joined: list[set[tuple[int, int]]] = [set() for _ in range(n_points)]
    for start in range(0, n_points, BLOCK):
        block = slice(start, start + BLOCK)
        distances = squares[block, None] + squares - 2 * points[block] @ points.T
        # Distance and index in one number, so that there are no ties.
        keys = distances.astype(np.int64) * n_points + np.arange(n_points)
        rows = np.arange(len(keys))
        keys[rows, start + rows] = np.iinfo(np.int64).max
        for node, nearest in enumerate(np.partition(keys, k - 1)[:, :k].tolist(), start=start):
            for distance, other in (divmod(key, n_points) for key in nearest):
                joined[node].add((distance, other))
                joined[other].add((distance, node))
    return [[other for _, other in sorted(edges)] for edges in joined]


def breadth_first(graph: Adjacency, root: int, n_nodes: int) -> list[int]:
    """Return the first `n_nodes` nodes of a breadth-first search from `root`, or all reachable nodes."""
    nodes = {root: None}  # a dictionary keeps the order
    queue = [root]
    for node in queue:
        for other in graph[node]:
            if len(nodes) == n_nodes:
                return list(nodes)
            if other not in nodes:
                nodes[other] = None
                queue.append(other)
    return list(nodes)


def normalised_adjacency(graph: Adjacency, nodes: Sequence[int]) -> NDArray[np.float32]:
    """Return D^-1/2 (A + I) D^-1/2 of the subgraph of some nodes (Kipf and Welling 2017), shape (n, n)."""
    place = {node: index for index, node in enumerate(nodes)}
    matrix = np.eye(len(nodes))
    for node, row in zip(nodes, matrix, strict=True):
        row[[place[other] for other in graph[node] if other in place]] = 1.0
    scale = 1 / np.sqrt(matrix.sum(1))
    normalised: NDArray[np.float64] = scale[:, None] * matrix * scale
    return normalised.astype(np.float32)
