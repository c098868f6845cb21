"""Times what a policy adds to training, at a decision every 10 updates, side by side in one process.

    python benchmarks/policy.py [--quick] [POLICY]

POLICY is a folder or the name of a shipped policy; by default an untrained one with two hidden layers of 64 units and
all default observations, since weights cost no time. Nothing else should run meanwhile. One thread, whose CPU time
is measured. In each repetition the contenders take turns; figures are medians over repetitions, of times and of ratios
within a repetition, so that a machine whose speed drifts slows all of them alike.

- In a PyTorch loop of one's own: `GannoScheduler` against `CosineAnnealingLR`. Both have the same network, data and
  optimizer; the cosine has one parameter group, and another one a group per layer, which a policy can't do without.
  The scheduler's calls are timed by themselves, too: what they take of an update under the cosine is less noisy than
  the difference of two loops.
- In the harness: 10 runs of a workload under a policy, under a cosine, and under a cosine for which the engine measures
  what the policy would see. The second difference is the policy's observations, its network and its learning rates per
  layer.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.marl.env import DEFAULT_OBSERVATION
from ganno_bench.policies.policy import Policy, PolicyCard
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.policy import find_policy, policy_scheduler
from ganno_bench.training.layout import sample_stride
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls, RunInfo, Signals
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import load_suite
from ganno_bench.workloads.workload import Workload

INTERVAL = 10
Timed = Callable[[], float]


def median_ratios(contenders: Mapping[str, Timed], repetitions: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return the median seconds of each contender, and their median ratio to the first one's, taking turns."""
    for contender in contenders.values():
        contender()
    rows = [{name: contender() for name, contender in contenders.items()} for _ in range(repetitions)]
    first = next(iter(contenders))
    seconds = {name: statistics.median(row[name] for row in rows) for name in contenders}
    return seconds, {name: statistics.median(row[name] / row[first] for row in rows) for name in contenders}


# A loop of one's own


@dataclass(frozen=True)
class Case:
    """A network and a batch for it.

    Attributes:
        build: Makes the network.
        inputs: A batch.
        targets: Its classes.
        adam: Whether the optimizer is AdamW rather than SGD with momentum.
    """

    build: Callable[[], nn.Module]
    inputs: Tensor
    targets: Tensor
    adam: bool = False

    def optimizer(self, groups: Any) -> torch.optim.Optimizer:
        """Return the optimizer of some groups."""
        if self.adam:
            return torch.optim.AdamW(groups, lr=1e-3, foreach=True)
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9, foreach=True)


def mlp(n_inputs: int, width: int, depth: int) -> nn.Module:
    """Return a multilayer perceptron, whose children are its layers."""
    sizes = [n_inputs, *[width] * depth]
    hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def cnn() -> nn.Module:
    """Return a small convolutional network for images of 28 x 28 pixels."""
    convolutions = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1)]
    return nn.Sequential(*convolutions, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 7 * 7, 10))


class Positions(nn.Module):
    """Embeds tokens and their places."""

    def __init__(self, n_tokens: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(n_tokens, width), nn.Parameter(torch.zeros(length, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the embeddings, shape (batch, length, width)."""
        embedded: Tensor = self.tokens(inputs) + self.places
        return embedded


def transformer() -> nn.Module:
    """Return four transformer blocks of width 128 between an embedding and a linear map."""
    options: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
    blocks = [nn.TransformerEncoderLayer(128, 4, 512, **options) for _ in range(4)]
    return nn.Sequential(Positions(100, 64, 128), *blocks, nn.Linear(128, 100))


def cases() -> dict[str, Case]:
    """Return the networks of the first table."""
    classes = torch.randint(0, 10, (64,))
    tokens = torch.randint(0, 100, (16, 64))
    return {
        "MLP, 4 x 32, 8 x 8 images": Case(lambda: mlp(64, 32, 4), torch.randn(64, 1, 8, 8), classes),
        "MLP, 3 x 512, 28 x 28 images": Case(lambda: mlp(784, 512, 3), torch.randn(64, 1, 28, 28), classes),
        "CNN, 32 and 64 channels, 28 x 28 images": Case(cnn, torch.randn(64, 1, 28, 28), classes),
        "transformer, 4 x 128, 16 x 64 tokens": Case(transformer, tokens, tokens.roll(1, 1), adam=True),
    }


def loop(case: Case, n_updates: int, policy: Path | None, *, groups: bool, steps: dict[bool, list[float]]) -> Timed:
    """Return a training loop that is timed.

    Args:
        case: The network.
        n_updates: The horizon.
        policy: Decides the learning rates; None for a cosine.
        groups: Whether there is a parameter group for each layer.
        steps: Where the seconds of the scheduler's calls go, of those that decide and of the others.
    """

    def run() -> float:
        torch.manual_seed(0)
        network = case.build()
        optimizer = case.optimizer(layer_groups(network) if groups else network.parameters())
        # Its last call, after which there is nothing to decide, is left out.
        ganno = None if policy is None else GannoScheduler(optimizer, n_updates + 1, policy)
        cosine = CosineAnnealingLR(optimizer, n_updates) if policy is None else None
        began = time.process_time()
        for update in range(1, n_updates + 1):
            optimizer.zero_grad()
            loss = F.cross_entropy(network(case.inputs).flatten(0, -2), case.targets.flatten())
            loss.backward()
            optimizer.step()
            start = time.process_time()
            if cosine is not None:
                cosine.step()
            if ganno is not None:
                ganno.step(loss.detach())
            steps.setdefault(update % INTERVAL == 0, []).append(time.process_time() - start)
        return time.process_time() - began

    return run


def floor(network: nn.Module) -> float:
    """Return the microseconds that it takes to copy the sample of one update's gradients, in a single call.

    No step can take less, since the gradients are gone after it.
    """
    sizes = [parameter.numel() for parameter in network.parameters()]
    sample = [torch.randn(size)[:: sample_stride(size)] for size in sizes]
    kept = [torch.empty_like(part) for part in sample]
    times = []
    for _ in range(300):
        start = time.process_time()
        torch._foreach_copy_(kept, sample)
        times.append(time.process_time() - start)
    return 1e6 * statistics.median(times)


def own_loops(policy: Path, *, quick: bool) -> None:
    """The first table."""
    print(
        "\n| network | layers | parameters | cosine ms | a group per layer | policy | a step, us | its floor | "
        "one that decides | steps alone |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    n_updates = 2 * INTERVAL if quick else 6 * INTERVAL
    for name, case in cases().items():
        own: dict[bool, list[float]] = {}
        contenders = {
            "cosine": loop(case, n_updates, None, groups=False, steps={}),
            "groups": loop(case, n_updates, None, groups=True, steps={}),
            "policy": loop(case, n_updates, policy, groups=True, steps=own),
        }
        seconds, ratios = median_ratios(contenders, 3 if quick else 15)
        network = case.build()
        size = sum(parameter.numel() for parameter in network.parameters())
        ordinary, deciding = (1e6 * statistics.median(own[decides]) for decides in (False, True))
        update = 1e6 * seconds["cosine"] / n_updates
        alone = ((INTERVAL - 1) * ordinary + deciding) / INTERVAL / update
        print(
            f"| {name} | {len(layer_groups(network))} | {size:,} | {update / 1e3:.2f} | {ratios['groups'] - 1:+.1%} | "
            f"{ratios['policy'] - 1:+.1%} | {ordinary:.0f} | {floor(network):.0f} | "
            f"{deciding:.0f} | {alone:+.1%} |"
        )


# The harness


def watching(observed: type[Scheduler]) -> Scheduler:
    """Return a cosine that makes the engine measure what another scheduler reads."""

    @dataclass(frozen=True)
    class Watching(Scheduler):
        needs = observed.needs
        interval = INTERVAL

        def init(self, run: RunInfo) -> State:
            return run.base_lr[:, None].expand(-1, run.n_layers)

        def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
            first, total = signals.n_updates, signals.total_updates
            updates = range(first, min(total, first + INTERVAL))
            curve = torch.tensor([(1 + math.cos(math.pi * update / total)) / 2 for update in updates])
            return Controls(curve.double()[:, None, None] * state), state

    return Watching()


def harness(policy: Path, *, quick: bool) -> None:
    """The second table."""
    print("\n| workload, 10 runs | cosine ms | signals | decisions | policy |")
    print("| --- | ---: | ---: | ---: | ---: |")
    suite = load_suite("quickstart")
    n_updates = 3 * INTERVAL if quick else 10 * INTERVAL
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        spec = suite.find_workload(name).model_copy(update={"n_updates": n_updates, "n_evaluations": 1})
        dataset = load_dataset(spec.dataset, suite.dataset[spec.dataset])
        tiny = replace(dataset, validation=dataset.validation.head(64))  # its evaluation is no part of an update
        engine = Engine(Workload(spec, tiny))
        kind = policy_scheduler(str(policy))

        def driven(scheduler: Scheduler, engine: Engine = engine) -> Timed:
            contestant = Contestant(scheduler, {"sgd": 0.02}.get(engine.workload.spec.optimizer.name, 2e-3), 1e-4)

            def run() -> float:
                start = time.process_time()
                drive(engine, [contestant], range(10))
                return time.process_time() - start

            return run

        contenders = {"cosine": driven(Cosine()), "signals": driven(watching(kind)), "policy": driven(kind())}
        seconds, ratios = median_ratios(contenders, 3 if quick else 15)
        decisions = ratios["policy"] - ratios["signals"]
        print(
            f"| {name} | {1e3 * seconds['cosine'] / n_updates:.2f} | {ratios['signals'] - 1:+.1%} | "
            f"{decisions:+.1%} | {ratios['policy'] - 1:+.1%} |"
        )


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    parser.add_argument("policy", nargs="?", metavar="POLICY", help="a folder, or the name of a shipped policy")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = find_policy(arguments.policy) if arguments.policy else Path(folder)
        if not arguments.policy:
            card = PolicyCard(name="untrained", observation=DEFAULT_OBSERVATION, interval=INTERVAL)
            Policy(card).save(path)
        print(f"PyTorch {torch.__version__}, one thread")
        own_loops(path, quick=arguments.quick)
        harness(path, quick=arguments.quick)


if __name__ == "__main__":
    main()
