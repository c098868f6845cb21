"""Print the cost of a run of each workload: both backends, a plain PyTorch loop, gathering of batches, and memory.

    python benchmarks/suites.py [SUITE ...] [--data-dir DIR] [--quick]

Run nothing else meanwhile. Numbers of one workload are medians over repetitions in which the contenders take turns.
They are for 16 runs side by side (one after another in a plain loop), one thread, without evaluations. Memory is the
peak of a separate process that loads the suite, trains 16 runs of every workload for ten updates and evaluates them on
test data.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from engine import UPDATES, compare, population, sequential

from ganno_bench.core.errors import ConfigError, DatasetError
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls
from ganno_bench.workloads.datasets import data_directories
from ganno_bench.workloads.suite import find_suite, load_suite
from ganno_bench.workloads.workload import Workload, load_workloads

RUNS = 16
SUITES = ("quickstart", "vision", "text", "graph", "robustness", "smoke")


def workloads(suite: str, data_dirs: Sequence[Path]) -> list[Workload]:
    """Load a suite."""
    return load_workloads(load_suite(suite), find_suite(suite), data_directories(data_dirs))


def gathering(work: Workload) -> Callable[[], None]:
    """Gather the batches of `RUNS` runs."""
    train = work.dataset.train.to("cpu", torch.float32)
    order = torch.stack(
        [train.order(torch.Generator().manual_seed(seed), UPDATES, work.spec.batch_size) for seed in range(RUNS)], dim=1
    )

    def run() -> None:
        for index in order:
            train.gather(index)

    return run


def time_workload(work: Workload, repetitions: int) -> str:
    """Return a row of the table."""
    n_updates = work.spec.n_updates
    # The timed part may be longer than the shortest workloads.
    work = replace(work, spec=work.spec.model_copy(update={"n_updates": max(UPDATES, n_updates)}))
    part = 2  # of the runs of a plain loop, because all of them take equally long
    contenders = {"plain": sequential(work, part), "gather": gathering(work)}
    for backend in ("vmap", "loop"):
        try:
            contenders[backend] = population(work, RUNS, backend=backend)
        except ConfigError:  # this network cannot be vectorised
            continue
    times = compare(contenders, repetitions)
    per_run = {name: value / (part if name == "plain" else RUNS) / UPDATES for name, value in times.items()}
    auto = Engine(work).backend.name
    cells = [f"{1e3 * per_run[name]:.2f}" if name in per_run else "-" for name in ("vmap", "loop", "plain")]
    return (
        f"| {work.id} | {' | '.join(cells)} | {auto} | {per_run['plain'] / per_run[auto]:.1f}x | "
        f"{per_run['gather'] / per_run[auto]:.1%} | {per_run[auto] * n_updates:.2f} |"
    )


def peak_memory(suite: str, data_dirs: Sequence[Path]) -> float:
    """Return the peak resident memory, GB, of a process that trains and evaluates a little of each workload."""
    folders = [argument for folder in data_dirs for argument in ("--data-dir", str(folder))]
    command = [sys.executable, __file__, suite, "--memory", *folders]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def train_a_little(works: Sequence[Workload]) -> None:
    """Train 16 runs of every workload for ten updates, and evaluate them on test data."""
    for work in works:
        engine = Engine(work)
        runs = engine.population(range(RUNS), torch.tensor(1e-4).double())
        runs.advance(Controls(torch.full((RUNS, engine.layout.n_layers), 1e-3, dtype=torch.float64)), 10)
        runs.evaluate(work.dataset.test.to(engine.device, engine.dtype))


def main() -> None:
    """Print a table for each suite as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"default: {', '.join(SUITES)}")
    parser.add_argument("--data-dir", type=Path, action="append", default=[])
    parser.add_argument("--quick", action="store_true", help="run one repetition, to test the script")
    parser.add_argument("--memory", action="store_true", help="print the peak memory of this process alone, GB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        for suite in options.suites:
            train_a_little(workloads(suite, options.data_dir))
        # Linux counts in units of 1024 bytes, macOS in bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9)
        return
    print(f"PyTorch {torch.__version__}, one thread, {RUNS} runs")
    for suite in options.suites or SUITES:
        try:
            works = workloads(suite, options.data_dir)
        except DatasetError as error:
            print(f"\n{suite}: left out: {error}")
            continue
        print(f"\n| {suite} | vmap, ms | loop, ms | plain, ms | auto | against plain | gathering | a run, s |")
        print("| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |")
        for work in works:
            print(time_workload(work, 1 if options.quick else 5), flush=True)
        print(f"\n{suite}: peak memory {peak_memory(suite, options.data_dir):.1f} GB")


if __name__ == "__main__":
    main()
