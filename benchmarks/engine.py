"""Times the population engine against a plain training loop and against its own floor, side by side in one process.

    python benchmarks/engine.py [--quick]

Nothing else should run meanwhile. Every figure is the median over repetitions in which the contenders take turns, so
that a machine whose speed drifts slows all of them alike. What is compared:

sequential  one run after another, as a good engineer would write it: data preloaded as tensors, one gather for each
            batch, `torch.optim` with foreach, a scheduler from `torch.optim.lr_scheduler`
engine      a population with learning rates from the harness's cosine, evaluation off
floor       the matrix products of forward and backward pass alone, on random numbers of the same shapes
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from ganno_bench.bench import runner
from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Settings
from ganno_bench.schedulers.drive import Trajectory, drive
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import LAYER_SIGNALS, Controls
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import load_suite
from ganno_bench.workloads.workload import Workload

UPDATES = 30
LR = {"sgd": 0.02, "adamw": 2e-3}


def workload(name: str, **changes: object) -> Workload:
    """Return a workload of the quickstart suite, perhaps with another model."""
    suite = load_suite("quickstart")
    spec = suite.find_workload(name).model_copy(update=changes)
    return Workload(spec, load_dataset(spec.dataset, suite.dataset[spec.dataset]))


def sequential(work: Workload, n_runs: int) -> Callable[[], None]:
    """Train `n_runs` networks one after another."""
    spec, train = work.spec, work.dataset.train.to("cpu", torch.float32)

    def run() -> None:
        for seed in range(n_runs):
            network = work.build(seed)
            order = train.order(torch.Generator().manual_seed(seed), UPDATES, spec.batch_size)
            lr = LR[spec.optimizer.name]
            if spec.optimizer.name == "sgd":
                optimizer: torch.optim.Optimizer = torch.optim.SGD(
                    network.parameters(), lr, momentum=0.9, weight_decay=1e-4, foreach=True
                )
            else:
                optimizer = torch.optim.AdamW(network.parameters(), lr, weight_decay=1e-4, foreach=True)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, UPDATES)
            for index in order:
                inputs, targets = train.gather(index)
                loss = F.cross_entropy(network(inputs).flatten(0, -2), targets.flatten())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()

    return run


def population(
    work: Workload, n_runs: int, *, backend: str = "auto", needs: tuple[str, ...] = ()
) -> Callable[[], None]:
    """Train `n_runs` networks side by side, two of them for each configuration, in decisions of 10 updates."""
    engine = Engine(work, backend=backend)
    n_layers = engine.layout.n_layers

    def run() -> None:
        runs = engine.population([0, 1] * (n_runs // 2) if n_runs > 1 else [0], torch.tensor(1e-4).double(), needs)
        lr = torch.full((10, runs.n_runs, n_layers), LR[work.spec.optimizer.name], dtype=torch.float64)
        for _ in range(UPDATES // 10):
            runs.advance(Controls(lr), 10)

    return run


def floor(work: Workload, n_runs: int) -> Callable[[], None]:
    """Multiply matrices as forward and backward pass do, and do nothing else."""
    spec = work.spec
    shape = work.dataset.shape
    tokens = spec.batch_size * (shape.input_shape[0] if shape.next_token else 1)
    weights = [p for name, p in work.build(0).named_parameters() if p.dim() == 2 and "positions" not in name]
    first = 1 if shape.next_token else 0  # an embedding is a lookup, and a first layer passes no gradient on
    products = []
    for index, weight in enumerate(weights[first:]):
        fan_out, fan_in = weight.shape
        inputs, outputs = torch.randn(n_runs, tokens, fan_in), torch.randn(n_runs, tokens, fan_out)
        stacked = torch.randn(n_runs, fan_in, fan_out)
        products += [(inputs, stacked), (inputs.transpose(1, 2), outputs)]
        if index or first:
            products.append((outputs, stacked.transpose(1, 2)))
    if shape.next_token:
        heads, length = spec.model["heads"], shape.input_shape[0]
        rows = n_runs * spec.batch_size * heads
        square, tall = torch.randn(rows, length, length), torch.randn(rows, length, spec.model["width"] // heads)
        products += ([(tall, tall.transpose(1, 2))] * 2 + [(square, tall)] * 4) * spec.model["depth"]

    def run() -> None:
        for _ in range(UPDATES):
            for a, b in products:
                torch.bmm(a, b)

    return run


def compare(contenders: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Return the median seconds of each contender, at its best number of threads, taking turns."""
    cores = torch.get_num_threads()
    seconds: dict[tuple[str, int], list[float]] = {}
    for repetition in range(repetitions + 1):
        for threads in sorted({1, cores}):
            torch.set_num_threads(threads)
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender()
                if repetition:  # the first one warms up, and records the vectorised passes
                    seconds.setdefault((name, threads), []).append(time.perf_counter() - start)
    torch.set_num_threads(cores)
    return {
        name: min(statistics.median(times) for (other, _), times in seconds.items() if other == name)
        for name in contenders
    }


def engine_against_loop(repetitions: int) -> None:
    """The headline: one ask batch, and 64 runs."""
    print("\n| workload | runs | sequential ms | engine ms | floor ms | engine vs sequential | engine vs floor |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        work = workload(name)
        for n_runs in (16, 64):
            # One sequential run in eight: they are all alike.
            part = n_runs // 8
            contenders = {
                "sequential": sequential(work, part),
                "engine": population(work, n_runs),
                "floor": floor(work, n_runs),
            }
            times = {key: value / UPDATES * 1e3 for key, value in compare(contenders, repetitions).items()}
            times["sequential"] *= 8
            print(
                f"| {name} | {n_runs} | {times['sequential']:.2f} | {times['engine']:.2f} | {times['floor']:.2f} | "
                f"{times['sequential'] / times['engine']:.1f}x faster | {times['engine'] / times['floor']:.1f}x |"
            )


def backends(repetitions: int) -> None:
    """What the rule behind `--backend auto` rests on."""
    print("\n| network | vmap vs loop, 16 runs | auto |")
    print("| --- | ---: | --- |")
    small = {"family": "cnn", "depth": 3, "width": 8}
    cases = {
        "mlp, depth 4": workload("digits-mlp-4"),
        "mlp, depth 8": workload("digits-mlp-8"),
        "cnn, depth 3, 8x8": workload("digits-mlp-4", model=small),
        "transformer, depth 1": workload("stdlib-chars-transformer-1"),
        "transformer, depth 2": workload("stdlib-chars-transformer-2"),
    }
    for name, work in cases.items():
        contenders = {backend: population(work, 16, backend=backend) for backend in ("vmap", "loop")}
        times = compare(contenders, repetitions)
        print(f"| {name} | {times['loop'] / times['vmap']:.1f}x faster | {Engine(work).backend.name} |")


def signals(repetitions: int) -> None:
    """What all signals together cost, at a decision every 10 updates."""
    print("\n| workload | runs | added by all signals per layer |")
    print("| --- | ---: | ---: |")
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        work = workload(name)
        contenders = {"without": population(work, 16), "with": population(work, 16, needs=LAYER_SIGNALS)}
        times = compare(contenders, repetitions)
        print(f"| {name} | 16 | {times['with'] / times['without'] - 1:+.1%} |")


def harness(repetitions: int) -> None:
    """What records, Optuna and its journal add to training: the share of a run that is not spent in the engine."""
    print("\n| workload | engine s | harness s | added |")
    print("| --- | ---: | ---: | ---: |")
    text = (Path(__file__).parents[1] / "suites" / "quickstart.toml").read_text(encoding="utf-8")
    head, *tables = text.split("[[workload]]")
    trained: list[float] = []

    def timed_drive(*arguments: Any) -> Trajectory:
        start = time.perf_counter()
        result = drive(*arguments)
        trained.append(time.perf_counter() - start)
        return result

    runner.drive = timed_drive
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        engine, everything = [], []
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "one.toml"
                chosen = next(table for table in tables if f'id = "{name}"' in table)
                file.write_text(head + "[[workload]]" + chosen, encoding="utf-8")
                trained.clear()
                clock = Clock()
                runner.run_suite(Settings(str(file), schedulers=["cosine"], out=Path(folder) / "run"), clock)
                engine.append(sum(trained))
                everything.append(clock.seconds)
        added = statistics.median(whole / bare - 1 for whole, bare in zip(everything, engine, strict=True))
        print(f"| {name} | {statistics.median(engine):.2f} | {statistics.median(everything):.2f} | {added:+.1%} |")


class Clock(Progress):
    """Measures a run from its first population to its last record."""

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        """Begin."""
        self._start = time.perf_counter()

    def finished(self) -> None:
        """End."""
        self.seconds = time.perf_counter() - self._start


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it works")
    parser.add_argument("--only", choices=["engine", "backends", "signals", "harness"], help="one table")
    arguments = parser.parse_args()
    repetitions = 2 if arguments.quick else 7
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} cores")
    tables = {"engine": engine_against_loop, "backends": backends, "signals": signals, "harness": harness}
    for name, table in tables.items():
        if arguments.only in (None, name):
            table(3 if name == "harness" else repetitions)


if __name__ == "__main__":
    main()
