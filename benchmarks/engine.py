"""Time the population engine against a plain training loop and against its own floor, in one process.

    python benchmarks/engine.py [--quick]

Run nothing else meanwhile. Every number is the median over repetitions in which the contenders take turns. So a drift
of the machine's speed affects all of them alike. The contenders:

sequential  one run after another in a careful PyTorch loop: data preloaded as tensors, one gather for each batch,
            `torch.optim` with foreach, a scheduler from `torch.optim.lr_scheduler`
engine      a population with learning rates from the harness's cosine, without evaluation
floor       the matrix products of forward and backward pass alone, on random numbers of the same shapes
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ganno_bench.bench import runner
from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Settings
from ganno_bench.schedulers.drive import Trajectory, drive
from ganno_bench.training.backends import VmapBackend
from ganno_bench.training.evaluate import Evaluation
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import LAYER_SIGNALS, Controls
from ganno_bench.workloads.data import Examples, Split
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import AugmentationSpec, find_suite, load_suite
from ganno_bench.workloads.workload import Workload

UPDATES = 60
LR = {"sgd": 0.02, "adamw": 2e-3}


def workload(name: str, **changes: object) -> Workload:
    """Return a workload of the quickstart suite, with changed fields if given."""
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


def enlarged(work: Workload, size: int, channels: int = 1) -> Workload:
    """Return a workload with images of `size` x `size` pixels and equal channels."""

    def enlarge(split: Split) -> Split:
        assert isinstance(split, Examples)
        return replace(split, inputs=F.interpolate(split.inputs, (size, size)).repeat(1, channels, 1, 1))

    data = work.dataset
    splits = {name: enlarge(getattr(data, name)) for name in ("train", "validation", "test")}
    shape = replace(data.shape, input_shape=(channels, size, size))
    assert data.black is not None
    return replace(work, dataset=replace(data, shape=shape, black=data.black * channels, **splits))


def population(
    work: Workload,
    n_runs: int,
    *,
    backend: str = "auto",
    needs: tuple[str, ...] = (),
    updates: int = UPDATES,
    n_seeds: int = 2,
) -> Callable[[], None]:
    """Train `n_runs` networks side by side, `n_seeds` of them for each configuration, in decisions of 10 updates."""
    engine = Engine(work, backend=backend)
    n_layers = engine.layout.n_layers

    def run() -> None:
        runs = engine.population([run % n_seeds for run in range(n_runs)], torch.tensor(1e-4).double(), needs)
        lr = torch.full((10, runs.n_runs, n_layers), LR[work.spec.optimizer.name], dtype=torch.float64)
        for _ in range(updates // 10):
            runs.advance(Controls(lr), 10)

    return run


class Products(TorchDispatchMode):
    """Collects the factors of all matrix products. Library convolutions are not among them."""

    def __init__(self) -> None:
        super().__init__()
        self.factors: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        if func in (aten.mm.default, aten.bmm.default):
            self.factors.append((args[0], args[1]))
        elif func is aten.addmm.default:
            self.factors.append((args[1], args[2]))
        return func(*args, **(kwargs or {}))


def floor(work: Workload, n_runs: int, updates: int = UPDATES) -> Callable[[], None]:
    """Compute the matrix products of forward and backward pass alone, those of all runs in one batched product."""
    train = work.dataset.train.to("cpu", torch.float32)
    inputs, targets = train.gather(train.order(torch.Generator(), 1, work.spec.batch_size)[0])
    network = work.build(0)
    with Products() as recorded:
        F.cross_entropy(network(inputs).flatten(0, -2), targets.flatten()).backward()

    def stacked(factor: Tensor) -> Tensor:
        """Return random matrices of all runs, with the factor's shape and order in memory."""
        batch = n_runs * factor.shape[:-2].numel()
        rows, columns = factor.shape[-2:]
        if factor.stride(-1) == 1:
            return torch.randn(batch, rows, columns)
        return torch.randn(batch, columns, rows).transpose(1, 2)

    products = [(stacked(a), stacked(b)) for a, b in recorded.factors]

    def run() -> None:
        for _ in range(updates):
            for a, b in products:
                torch.bmm(a, b)

    return run


def compare(contenders: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Return the median seconds of each contender with its best number of threads; the contenders take turns.

    A floor has the best number of the engine, in place of its own.
    """
    cores = torch.get_num_threads()
    seconds: dict[tuple[str, int], list[float]] = {}
    for repetition in range(repetitions + 1):
        for threads in sorted({1, cores}):
            torch.set_num_threads(threads)
            for name, contender in contenders.items():
                start = time.perf_counter()
                contender()
                if repetition:  # the first one warms up and records the vectorised passes
                    seconds.setdefault((name, threads), []).append(time.perf_counter() - start)
    torch.set_num_threads(cores)
    medians = {key: statistics.median(times) for key, times in seconds.items()}
    best = {
        name: min((n for other, n in medians if other == name), key=lambda n: medians[name, n]) for name in contenders
    }
    if {"engine", "floor"} <= best.keys():
        best["floor"] = best["engine"]
    return {name: medians[name, best[name]] for name in contenders}


def compare_alone(contenders: dict[str, Callable[[], None]], repetitions: int) -> dict[str, float]:
    """Return the median milliseconds of each contender on one thread; the contenders take turns."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for repetition in range(repetitions + 1):
        for name, contender in contenders.items():
            start = time.perf_counter()
            contender()
            if repetition:  # the first one compiles, or loads what is compiled
                seconds[name].append(time.perf_counter() - start)
    torch.set_num_threads(cores)
    return {name: statistics.median(times) * 1e3 for name, times in seconds.items()}


def compiled_cases() -> dict[str, tuple[Workload, tuple[int, ...]]]:
    """Return workloads and numbers of runs for the comparison of compiled code with the backends of `eager`."""
    small = workload("digits-mlp-4", model={"family": "cnn", "depth": 3, "width": 8})
    residual = workload("digits-mlp-4", model={"family": "resnet", "depth": 8, "width": 8})
    graph = load_suite("graph")
    first = graph.workload[0]
    return {
        "digits-mlp-2": (workload("digits-mlp-2"), (16,)),
        "digits-mlp-4": (workload("digits-mlp-4"), (10, 16, 64)),
        "digits-mlp-8": (workload("digits-mlp-8"), (16,)),
        "stdlib-chars-transformer-1": (workload("stdlib-chars-transformer-1"), (16,)),
        "stdlib-chars-transformer-2": (workload("stdlib-chars-transformer-2"), (16, 64)),
        "lstm, depth 1": (workload("stdlib-chars-transformer-1", model={"family": "lstm", "depth": 1}), (16,)),
        first.id: (Workload(first, load_dataset(first.dataset, graph.dataset[first.dataset])), (16,)),
        "cnn, depth 3, 8x8": (small, (16,)),
        "cnn, depth 3, 14x14": (enlarged(small, 14), (16,)),
        "cnn, depth 3, 28x28": (enlarged(small, 28), (16,)),
        "resnet, depth 8, 28x28": (enlarged(residual, 28), (4,)),
    }


def compiled(repetitions: int) -> None:
    """Print compiled code against the backend that `eager` chooses, and against the floor, on one thread."""
    print("\n| workload | runs | together | eager ms | compiled ms | floor ms | compiled vs eager | above the floor |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (work, sizes) in compiled_cases().items():
        for n_runs in sizes:
            updates = UPDATES if "mlp" in name else 20
            contenders = {
                "eager": population(work, n_runs, updates=updates),
                "compiled": population(work, n_runs, backend="compiled", updates=updates),
                "floor": floor(work, n_runs, updates),
            }
            times = {key: value / updates for key, value in compare_alone(contenders, repetitions).items()}
            engine = Engine(work, backend="compiled")
            has_floor = "cnn" not in name and "resnet" not in name  # the products are not all of the work there
            floor_ms = f"{times['floor']:.2f}" if has_floor else ""
            above = f"{times['compiled'] / times['floor']:.2f}x" if has_floor else ""
            print(
                f"| {name} | {n_runs} | {engine.backend.together} | {times['eager']:.2f} | {times['compiled']:.2f} | "  # type: ignore[attr-defined]
                f"{floor_ms} | {times['eager'] / times['compiled']:.2f}x | {above} |"
            )


def compiled_signals(repetitions: int) -> None:
    """Print what all signals of the layers add to a compiled update, with a decision every 10 updates, one thread."""
    print("\n| workload | runs | backend | ms per update | added by all signals per layer |")
    print("| --- | ---: | --- | ---: | ---: |")
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        for backend in ("eager", "compiled"):
            contenders = {
                needs: population(workload(name), 16, backend=backend, needs=LAYER_SIGNALS if needs else ())
                for needs in (False, True)
            }
            times = compare_alone({str(needs): run for needs, run in contenders.items()}, repetitions)
            plain, measured = (value / UPDATES for value in times.values())
            print(f"| {name} | 16 | {backend} | {plain:.3f} | {measured - plain:+.3f} ms |")


def compiling(repetitions: int) -> None:
    """Print how long compiling takes, with an empty cache, and loading from it, for cosine alone."""
    print("\n| workload | compiling s | loading s |")
    print("| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["GANNO_BENCH_CACHE"] = cache
        for name, (work, _) in compiled_cases().items():
            seconds = []
            for _ in range(2):
                start = time.perf_counter()
                Engine(work, backend="compiled").warm_up({frozenset()}, has_open_optimizers=False)
                seconds.append(time.perf_counter() - start)
            print(f"| {name} | {seconds[0]:.1f} | {seconds[1]:.2f} |")
        del os.environ["GANNO_BENCH_CACHE"]


def engine_against_loop(repetitions: int) -> None:
    """Print the first table: populations of 16 runs (one batch of trials) and of 64."""
    print("\n| workload | runs | sequential ms | engine ms | floor ms | engine vs sequential | engine vs floor |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        work = workload(name)
        for n_runs in (16, 64):
            # Time one sequential run in eight, because all of them take equally long.
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
    """Print the measurements behind the rule of `--backend auto`."""
    print("\n| network | speed of vmap over loop, 16 runs | auto |")
    print("| --- | ---: | --- |")
    small = workload("digits-mlp-4", model={"family": "cnn", "depth": 3, "width": 8})
    cases = {
        "mlp, depth 4": workload("digits-mlp-4"),
        "mlp, depth 8": workload("digits-mlp-8"),
        "cnn, depth 3, 8x8": small,
        "cnn, depth 3, 14x14": enlarged(small, 14),
        "cnn, depth 3, 28x28": enlarged(small, 28),
        "transformer, depth 1": workload("stdlib-chars-transformer-1"),
        "transformer, depth 2": workload("stdlib-chars-transformer-2"),
        "lstm, depth 1": workload("stdlib-chars-transformer-1", model={"family": "lstm", "depth": 1}),
        "lstm, depth 2": workload("stdlib-chars-transformer-1", model={"family": "lstm", "depth": 2}),
    }
    for name, work in cases.items():
        contenders = {backend: population(work, 16, backend=backend, updates=20) for backend in ("vmap", "loop")}
        times = compare(contenders, repetitions)
        print(f"| {name} | {times['loop'] / times['vmap']:.2f}x | {Engine(work).backend.name} |")


class TimedPass(fx.Interpreter):
    """Replay of a recorded pass that times each operation. PyTorch's profiler slows some operations down tenfold."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.seconds: dict[str, list[float]] = {}

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Run one operation."""
        start = time.perf_counter()
        result = target(*args, **kwargs)
        self.seconds.setdefault(getattr(target, "__name__", str(target)), []).append(time.perf_counter() - start)
        return result

    def __call__(self, *arguments: Any) -> Any:
        """Run the recorded pass."""
        return self.run(*arguments)


def profile(repetitions: int) -> None:
    """Print the shares of an update's time, on one thread."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        work = workload(name)
        engine = Engine(work)

        def updates(n: int, work: Workload = work, engine: Engine = engine) -> float:
            runs = engine.population([0, 1] * 8, 1e-4)
            lr = torch.full((16, engine.layout.n_layers), LR[work.spec.optimizer.name], dtype=torch.float64)
            start = time.perf_counter()
            runs.advance(Controls(lr), n)
            return time.perf_counter() - start

        updates(10)
        assert isinstance(engine.backend, VmapBackend)
        per_update = statistics.median(updates(UPDATES) for _ in range(repetitions)) / UPDATES
        recorded = engine.backend._recorded
        ((key, forward),) = recorded.items()
        timed = recorded[key] = TimedPass(forward.__self__)  # type: ignore[attr-defined]
        for _ in range(repetitions):
            updates(UPDATES)
        rows = [
            (name, sum(times) / len(times) * (calls := len(times) / repetitions / UPDATES), calls)
            for name, times in timed.seconds.items()
        ]
        rows.sort(key=lambda row: -row[1])
        rows = [*rows[:8], ("others of the pass", sum(row[1] for row in rows[8:]), sum(row[2] for row in rows[8:]))]
        rows.append(("gather, optimizer, loop", per_update - sum(row[1] for row in rows), 0))
        print(f"\n| {name}, 16 runs | of {per_update * 1e3:.2f} ms | calls per update |\n| --- | ---: | ---: |")
        for name, seconds, calls in rows:
            print(f"| {name} | {seconds / per_update:.0%} | {calls:.0f} |")
    torch.set_num_threads(cores)


def signals(repetitions: int) -> None:
    """Print the cost of all signals together, with a decision every 10 updates."""
    print("\n| workload | runs | added by all signals per layer |")
    print("| --- | ---: | ---: |")
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        work = workload(name)
        contenders = {"without": population(work, 16), "with": population(work, 16, needs=LAYER_SIGNALS)}
        times = compare(contenders, repetitions)
        print(f"| {name} | 16 | {times['with'] / times['without'] - 1:+.1%} |")


def augmentation(repetitions: int) -> None:
    """Print what augmentation adds to an update of 16 small MLPs, where its share is largest."""
    print("\n| images | augmentation | seeds | ms per update | augmented | added |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    cases = ((28, 1, AugmentationSpec(crop=2)), (32, 3, AugmentationSpec(flip=True, crop=4)))
    for (size, channels, asked), n_seeds in product(cases, (2, 16)):
        plain = enlarged(workload("digits-mlp-4"), size, channels)
        augmented = replace(plain, spec=plain.spec.model_copy(update={"augmentation": asked}))
        contenders = {
            name: population(work, 16, updates=20, n_seeds=n_seeds)
            for name, work in (("plain", plain), ("augmented", augmented))
        }
        times = {name: seconds / 20 * 1e3 for name, seconds in compare(contenders, repetitions).items()}
        added = f"{times['augmented'] / times['plain'] - 1:+.0%}"
        print(
            f"| {size}x{size}x{channels} | {'flip, ' * asked.flip}crop {asked.crop} | {n_seeds} | "
            f"{times['plain']:.1f} | {times['augmented']:.1f} | {added} |"
        )


def harness(repetitions: int) -> None:
    """Print what records, Optuna and its journal add to training: the share of a run outside of the engine."""
    print("\n| workload | engine s | harness s | added |")
    print("| --- | ---: | ---: | ---: |")
    text = find_suite("quickstart").read_text(encoding="utf-8")
    head, *tables = text.split("[[workload]]")
    trained: list[float] = []
    evaluated: list[float] = []

    def timed_drive(*arguments: Any) -> Trajectory:
        start = time.perf_counter()
        result = drive(*arguments)
        trained.append(time.perf_counter() - start)
        evaluated.clear()  # the next evaluations are those on test data
        return result

    runner.drive = timed_drive
    evaluate = Population.evaluate

    def timed_evaluate(*arguments: Any) -> Evaluation:
        start = time.perf_counter()
        result = evaluate(*arguments)
        evaluated.append(time.perf_counter() - start)
        return result

    Population.evaluate = timed_evaluate  # type: ignore[method-assign]
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        engine, everything = [], []
        for _ in range(repetitions):
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "one.toml"
                chosen = next(table for table in tables if f'id = "{name}"' in table)
                file.write_text(head + "[[workload]]" + chosen, encoding="utf-8")
                trained.clear()
                evaluated.clear()
                clock = Clock()
                runner.run_suite(Settings(str(file), schedulers=["cosine"], out=Path(folder) / "run"), clock)
                engine.append(sum(trained) + sum(evaluated))
                everything.append(clock.seconds)
        added = statistics.median(whole / bare - 1 for whole, bare in zip(everything, engine, strict=True))
        print(f"| {name} | {statistics.median(engine):.2f} | {statistics.median(everything):.2f} | {added:+.1%} |")


class Clock(Progress):
    """Clock of a run, from its first population to its last record."""

    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def finished(self) -> None:
        """Stop the clock."""
        self.seconds = time.perf_counter() - self._start


TABLES = {
    "engine": engine_against_loop,
    "profile": profile,
    "backends": backends,
    "signals": signals,
    "augmentation": augmentation,
    "harness": harness,
    "compiled": compiled,
    "compiled-signals": compiled_signals,
    "compiling": compiling,
}


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run few repetitions, to test the script")
    parser.add_argument("--only", choices=[*TABLES], help="print this table alone")
    arguments = parser.parse_args()
    repetitions = 2 if arguments.quick else 7
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} cores")
    for name, table in TABLES.items():
        if arguments.only in (None, name):
            table(3 if name == "harness" else repetitions)


if __name__ == "__main__":
    main()
