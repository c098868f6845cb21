"""Train the same runs with two backends: do their results agree like those of equal runs?

    python benchmarks/backends.py [--quick]

Rounding differs between backends, and training amplifies the difference. So two backends give different losses for one
seed. Rows of both can stand in one table if that difference is random, small beside the spread of the seeds, and equal
in the mean. Each workload is trained to its horizon with cosine from a fixed learning rate, with compiled code and with
the backend that `eager` chooses, with the same seeds.
"""

from __future__ import annotations

import argparse
import math

import torch
from engine import LR, compiled_cases
from torch import Tensor

from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.workload import Workload

N_SEEDS = 20
INTERVAL = 10


def test_losses(work: Workload, backend: str, n_seeds: int, n_updates: int) -> Tensor:
    """Return the test loss of each seed after training, nats, shape (S,)."""
    engine = Engine(work, backend=backend)
    runs = engine.population(range(n_seeds), torch.tensor(1e-4).double(), ())
    for first in range(0, n_updates, INTERVAL):
        progress = (torch.arange(first, first + INTERVAL, dtype=torch.float64) / n_updates)[:, None, None]
        lr = LR[work.spec.optimizer.name] * (1 + torch.cos(math.pi * progress)) / 2
        runs.advance(Controls(lr.expand(-1, n_seeds, engine.layout.n_layers)), INTERVAL)
    return runs.evaluate(work.dataset.test.to(engine.device, engine.dtype)).loss.double()


def main() -> None:
    """Parse options and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="train little, to test the script")
    quick = parser.parse_args().quick
    n_seeds = 2 if quick else N_SEEDS
    torch.set_num_threads(1)
    print(
        "| workload | updates | eager | mean loss, eager | compiled | spread of seeds | mean difference of a seed "
        "| largest | share of spread |"
    )
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (work, _) in compiled_cases().items():
        n_updates = 20 if quick else work.spec.n_updates // INTERVAL * INTERVAL
        eager = Engine(work, backend="eager").backend.name
        before, now = (test_losses(work, backend, n_seeds, n_updates) for backend in (eager, "compiled"))
        differences = now - before
        error, share = differences.std() / math.sqrt(n_seeds), differences.std() / before.std()
        print(
            f"| {name} | {n_updates} | {eager} | {before.mean():.4f} | {now.mean():.4f} | {before.std():.4f} | "
            f"{differences.mean():+.5f} ± {error:.5f} | {differences.abs().max():.4f} | {share:.2f} |",
            flush=True,
        )
        if quick:
            break


if __name__ == "__main__":
    main()
