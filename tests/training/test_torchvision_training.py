"""The engine trains torchvision's classifiers like a plain loop."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.data import Dataset, Examples, TaskShape
from ganno_bench.workloads.suite import WorkloadSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.torch_loop import TorchRun, evaluate_plainly, parameters
from tests.helpers.workload_cases import NESTEROV

VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 16}
CHEAP = {"squeezenet1_1": {}, "shufflenet_v2_x0_5": {}, "mobilenet_v3_small": {}, "VisionTransformer": VIT}
N_UPDATES = 3


def make_workload(name: str, arguments: dict[str, Any], channels: int = 3) -> Workload:
    inputs = torch.randn(24, channels, 32, 32, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(24) % 4
    inputs[torch.arange(24), 0, targets] += 1.0  # something to learn
    parts = [Examples(inputs[a:b], targets[a:b]) for a, b in ((0, 12), (12, 18), (18, 24))]
    shape = TaskShape("image", (channels, 32, 32), None, 4, False)
    dataset = Dataset("images", "image-classification", "0" * 64, shape, *parts, math.log(4))
    spec = WorkloadSpec(
        id=name,
        dataset="images",
        model={"family": f"torchvision:{name}", **arguments},
        optimizer=NESTEROV,
        batch_size=4,
        n_updates=N_UPDATES,
    )
    return Workload(spec, dataset)


def check(workload: Workload, seeds: list[int], dtype: torch.dtype = torch.float64) -> None:
    """Compare every parameter, buffer and loss with a plain loop."""
    # A larger tolerance: forty BatchNorms, each over four examples, amplify rounding.
    close = {"rtol": 1e-6, "atol": 1e-7} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    engine = Engine(workload, dtype=dtype)
    assert engine.backend.name == "loop"
    population = engine.population(seeds, 1e-3)
    lr = torch.linspace(1e-3, 2e-3, len(seeds) * engine.layout.n_layers, dtype=torch.float64).view(len(seeds), -1)
    signals = population.advance(Controls(lr), N_UPDATES)
    evaluation = population.evaluate(engine.validation)
    (chunk,) = population._chunks
    for index, seed in enumerate(seeds):
        run = TorchRun(workload, seed, 1e-3, dtype)
        losses = [float(run.update(lr[index])) for _ in range(N_UPDATES)]
        assert float(signals.train_loss[index]) == pytest.approx(sum(losses) / N_UPDATES, rel=close["rtol"])
        values = dict(zip(engine.layout.names, engine.layout.views(parameters(population)[[index]]), strict=True))
        for name, parameter in run.model.named_parameters():
            torch.testing.assert_close(values[name][0], parameter.detach(), **close)
        for name, buffer in run.model.named_buffers():
            torch.testing.assert_close(chunk.buffers[name][index], buffer, **close)
        loss, _ = evaluate_plainly(run.model.eval(), engine.validation)
        assert float(evaluation.loss[index]) == pytest.approx(loss, rel=close["rtol"])


@pytest.mark.slow(group="engine")
@pytest.mark.parametrize("name", CHEAP)
def test_small_classifiers_train_as_in_a_plain_loop(name: str) -> None:
    check(make_workload(name, CHEAP[name]), [1, 2])


def test_gray_images_do_so_too() -> None:
    check(make_workload("shufflenet_v2_x0_5", {}, channels=1), [3])


@pytest.mark.slow(group="long")
@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])  # patches of 16: four of them
def test_large_classifiers_train_as_in_a_plain_loop(name: str) -> None:
    check(make_workload(name, {}), [1], torch.float32)
