"""Compare policies with a cosine for fine-tuning: python benchmarks/fine_tuning.py [--quick].

A perceptron of 3 x 64 is trained on 800 handwritten digits with AdamW and a cosine schedule (1,000 updates from 1e-3).
Then it is fine-tuned on 100 other digits, moved by one pixel, for 300 updates of 32 examples. The script prints median
losses over ten seeds on 797 further digits: moved (the new task) and unmoved (the old task). It takes about a minute.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from ganno_bench import GannoScheduler, layer_groups

SEEDS, PRETRAINING, UPDATES = 10, 1_000, 300
POLICIES = ("ganno-light", "ganno-anchored")
BASES = (1e-5, 1e-4, 1e-3)

Step = Callable[[Tensor], object]
Schedule = Callable[[torch.optim.Optimizer, int], Step]


@dataclass(frozen=True)
class Examples:
    """Images, shape (n, 64), and their digits."""

    images: Tensor
    digits: Tensor

    def moved(self) -> Examples:
        """Return the images moved by one pixel."""
        return Examples(self.images.view(-1, 8, 8).roll(1, dims=2).flatten(1), self.digits)

    def loss(self, network: nn.Module) -> float:
        """Return the mean cross-entropy, in nats."""
        with torch.no_grad():
            return nn.functional.cross_entropy(network(self.images), self.digits).item()


def examples() -> tuple[Examples, Examples, Examples]:
    """Return the examples of the first training, of fine-tuning, and of the test."""
    images, digits = (torch.as_tensor(array) for array in load_digits(return_X_y=True))
    images = ((images - images.mean()) / images.std()).float()
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    first, then, test = order.split([800, 100, len(order) - 900])
    return tuple(Examples(images[part], digits[part]) for part in (first, then, test))  # type: ignore[return-value]


def train(network: nn.Module, data: Examples, n_updates: int, lr: float, schedule: Schedule, seed: int) -> float:
    """Train a network, and return the highest learning rate."""
    optimizer = torch.optim.AdamW(layer_groups(network), lr=lr)
    step = schedule(optimizer, n_updates)
    generator = torch.Generator().manual_seed(seed)
    highest = 0.0
    for _ in range(n_updates):
        chosen = torch.randint(len(data.digits), (32,), generator=generator)
        highest = max(highest, *(float(group["lr"]) for group in optimizer.param_groups))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(data.images[chosen]), data.digits[chosen])
        loss.backward()
        optimizer.step()
        step(loss)
    return highest


def cosine(optimizer: torch.optim.Optimizer, n_updates: int) -> Step:
    """Return PyTorch's cosine schedule."""
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_updates)
    return lambda loss: schedule.step()


def policy(name: str, max_lr: float | None) -> Schedule:
    """Return a policy as a schedule."""
    return lambda optimizer, n_updates: GannoScheduler(optimizer, n_updates, name, max_lr=max_lr).step


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="run two seeds, to test the script")
    n_seeds = 2 if parser.parse_args().quick else SEEDS
    torch.set_num_threads(1)
    warnings.simplefilter(
        "ignore"
    )  # the scheduler warns of base learning rates for fine-tuning, which are intended here
    first, then, test = examples()
    trained = []
    for seed in range(n_seeds):
        torch.manual_seed(seed)
        sizes = [64, 64, 64, 64, 10]
        layers = [nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
        network = nn.Sequential(*layers[:-1], layers[-1][0])
        train(network, first, PRETRAINING, 1e-3, cosine, seed)
        trained.append(network)
    before = [median(data.loss(network) for network in trained) for data in (test.moved(), test)]
    print("| base learning rate | schedule | highest learning rate | loss, new task | loss, old task |")
    print("| --- | --- | ---: | ---: | ---: |")
    print(f"| | before fine-tuning | | {before[0]:.3f} | {before[1]:.3f} |")
    for base in BASES:
        schedules: dict[str, Schedule] = {"cosine": cosine}
        for name in POLICIES:
            for factor in (None, 3.0):
                limit = "" if factor is None else f", `max_lr` {factor:.0f} times the base"
                schedules[f"`{name}`{limit}"] = policy(name, None if factor is None else factor * base)
        for name, schedule in schedules.items():
            rates, new, old = [], [], []
            for seed, network in enumerate(trained):
                tuned = copy.deepcopy(network)
                rates.append(train(tuned, then.moved(), UPDATES, base, schedule, SEEDS + seed))
                new.append(test.moved().loss(tuned))
                old.append(test.loss(tuned))
            print(f"| {base:g} | {name} | {median(rates):.2g} | {median(new):.3f} | {median(old):.3f} |", flush=True)


if __name__ == "__main__":
    main()
