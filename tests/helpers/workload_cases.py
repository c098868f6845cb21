"""Small workloads of each model family, on data drawn from a fixed seed: no files, and odd sizes on purpose."""

from __future__ import annotations

import copy
import math
from functools import cache

import torch

from ganno_bench.training.population import Engine
from ganno_bench.workloads.data import Dataset, Examples, TaskShape, TokenStream
from ganno_bench.workloads.suite import OptimizerSpec, WorkloadSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.replayed import with_replays

SGD = OptimizerSpec(name="sgd", momentum=0.9)
NESTEROV = OptimizerSpec(name="sgd", momentum=0.8, nesterov=True)
PLAIN_SGD = OptimizerSpec(name="sgd", momentum=0.0)
ADAM = OptimizerSpec(name="adam")
ADAMW = OptimizerSpec(name="adamw")

MODELS = {
    "mlp": {"family": "mlp", "depth": 3, "width": 24},
    "cnn": {"family": "cnn", "depth": 3, "width": 4},
    "cnn-unnormalised": {"family": "cnn", "depth": 2, "width": 6, "group_norm": False},
    "gcn": {"family": "gcn", "depth": 3, "width": 20},
    "gcn-residual": {"family": "gcn", "depth": 2, "width": 12, "residual": True},
    "decoder": {"family": "transformer", "depth": 2, "width": 16, "heads": 2},
    "encoder": {"family": "transformer", "depth": 1, "width": 12, "heads": 3},
    "lstm": {"family": "lstm", "depth": 2, "width": 12},
    "lstm-stream": {"family": "lstm", "depth": 1, "width": 16},
}

# Families and their variants are in MODELS. What a library convolves, where images are larger, is tested by itself.
LARGE_IMAGES = "cnn-large-images"
RESNET = "resnet"
BATCH_NORM = "resnet-batch-norm"
_ALL_MODELS = MODELS | {
    LARGE_IMAGES: {"family": "cnn", "depth": 2, "width": 4},
    RESNET: {"family": "resnet", "depth": 8, "width": 4},
    BATCH_NORM: {"family": "resnet", "depth": 8, "width": 3, "batch_norm": True},
}


def images(size: int = 8) -> Dataset:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(150, 2, size, size, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 5, (150,), generator=generator)
    inputs[torch.arange(150), 0, targets, targets] += 2.0  # something to learn
    parts = [Examples(inputs[a:b], targets[a:b]) for a, b in ((0, 90), (90, 120), (120, 150))]
    shape = TaskShape("image", (2, size, size), None, 5, False)
    return Dataset("images", "image-classification", "0" * 64, shape, *parts, math.log(5))


def large_images() -> Dataset:
    return images(14)


def graphs() -> Dataset:
    generator = torch.Generator().manual_seed(4)
    n_nodes, n_features = 7, 6  # an odd number of nodes
    adjacency = torch.rand(150, n_nodes, n_nodes, generator=generator, dtype=torch.float64) / n_nodes
    features = torch.randn(150, n_nodes, n_features, generator=generator, dtype=torch.float64)
    adjacency[::4, 5:] = adjacency[::4, :, 5:] = features[::4, 5:] = 0.0  # graphs of fewer nodes
    targets = torch.randint(0, 5, (150,), generator=generator)
    features[torch.arange(150), :, targets] += 1.0
    inputs = torch.cat([adjacency + adjacency.mT, features], dim=-1)
    parts = [Examples(inputs[a:b], targets[a:b]) for a, b in ((0, 90), (90, 120), (120, 150))]
    shape = TaskShape("graph", (n_nodes, n_nodes + n_features), None, 5, False)
    return Dataset("graphs", "node-classification", "3" * 64, shape, *parts, math.log(5))


def texts() -> Dataset:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randint(1, 11, (100, 7), generator=generator)
    inputs[::3, 5:] = 0  # padding
    targets = (inputs[:, 0] > 5).long()
    parts = [Examples(inputs[a:b], targets[a:b]) for a, b in ((0, 60), (60, 80), (80, 100))]
    shape = TaskShape("tokens", (7,), 11, 2, False)
    return Dataset("texts", "text-classification", "1" * 64, shape, *parts, math.log(2))


def stream() -> Dataset:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, 13, (600,), generator=generator).cumsum(0) % 13
    parts = [TokenStream(tokens[a:b], 9) for a, b in ((0, 400), (400, 500), (500, 600))]
    shape = TaskShape("tokens", (9,), 13, 13, True)
    return Dataset("stream", "language-modelling", "2" * 64, shape, *parts, math.log(13))


def make_workload(
    model: str, optimizer: OptimizerSpec = SGD, n_updates: int = 100, batch_size: int = 10, n_evaluations: int = 4
) -> Workload:
    sources = {"decoder": stream, "encoder": texts, "lstm": texts, "lstm-stream": stream, LARGE_IMAGES: large_images}
    data = (sources | {"gcn": graphs, "gcn-residual": graphs}).get(model, images)()
    spec = WorkloadSpec(
        id=model,
        dataset=data.name,
        model=_ALL_MODELS[model],
        optimizer=optimizer,
        batch_size=batch_size,
        n_updates=n_updates,
        n_evaluations=n_evaluations,
    )
    return Workload(spec, data)


@cache
def _recorded(model: str, backend: str, dtype: torch.dtype) -> Engine:
    return with_replays(Engine(make_workload(model), backend=backend, dtype=dtype))


def make_engine(workload: Workload, backend: str, dtype: torch.dtype = torch.float32) -> Engine:
    """Return an engine that shares what was recorded for the model with all its optimizers, horizons, batch sizes.

    With the backend `compiled` it replays what it would compile.
    """
    engine = copy.copy(_recorded(workload.id, backend, dtype))
    engine.workload = workload
    return engine
