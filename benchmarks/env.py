"""Time the agents' environment and the training of a policy.

    python benchmarks/env.py [--quick]

Run nothing else meanwhile. The script uses one thread, and prints

- environment steps per second for populations of several sizes, with random actions, and for a loop over environments
  of a single run each (with the `loop` backend, the faster one for that), and for 16 runs with compiled code. An
  environment step is a decision of one run, for all layers, and 10 updates. Numbers are medians over repetitions.
- the time of 50,000 environment steps of digits MLPs, learning included, and the share of each part.
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

from ganno_bench.marl import make_env
from ganno_bench.marl.config import LearnerConfig, TrainConfig
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.marl.mappo import Trainer
from ganno_bench.marl.tasks import FamilyTasks, TaskDistribution
from ganno_bench.policies.controller import Controller
from ganno_bench.training.population import Population
from ganno_bench.workloads.suite import DatasetSpec

WORKLOADS = ("digits-mlp-2", "digits-mlp-4", "digits-mlp-8", "stdlib-chars-transformer-1")
SIZES = (1, 16, 64, 256)


def steps_per_second(env: LayerwiseLREnv, n_decisions: int, repetitions: int) -> float:
    """Return the environment steps per second of random actions, without the resets."""
    rates = []
    for _ in range(repetitions):
        env.reset()
        actions = torch.randint(5, (n_decisions, env.batch_size[0], env.n_agents))
        env.act(actions[0])  # records the passes
        start = time.perf_counter()
        for action in actions[1:]:
            env.act(action)
        rates.append((n_decisions - 1) * env.batch_size[0] / (time.perf_counter() - start))
    return statistics.median(rates)


def populations(quick: bool) -> None:
    """Print the environment steps per second."""
    sizes = SIZES[:2] if quick else SIZES
    print(f"\n| workload | {' | '.join(f'{size} runs' for size in sizes)} | one by one | 16 runs, compiled |")
    print("| --- |" + " ---: |" * (len(sizes) + 2))
    for name in WORKLOADS[:2] if quick else WORKLOADS:
        single = steps_per_second(make_env(f"quickstart/{name}", n_runs=1, backend="loop"), 4, 3)
        rates = [steps_per_second(make_env(f"quickstart/{name}", n_runs=size), 4, 1 if quick else 3) for size in sizes]
        cells = " | ".join(f"{rate:.0f} ({rate / single:.1f}x)" for rate in rates)
        code = steps_per_second(make_env(f"quickstart/{name}", n_runs=16, backend="compiled"), 4, 1 if quick else 3)
        print(f"| {name} | {cells} | {single:.0f} | {code:.0f} ({code / rates[sizes.index(16)]:.1f}x of 16 runs) |")


def training(env_steps: int, folder: Path) -> Trainer:
    """Return a trainer of digits MLPs."""
    digits = DatasetSpec(source="digits", task="image-classification", input="image", target="label")
    family = FamilyTasks(
        dataset="digits",
        model={"family": "mlp"},
        depth=(1, 4),
        width=(16, 32),
        batch_size=(32, 64),
        optimizer=("sgd",),
        gain=(0.7, 1.5),
    )
    tasks = TaskDistribution(
        n_tasks=12, n_validation=3, interval=(10, 10), dataset={"digits": digits}, family=(family,)
    )
    learner = LearnerConfig(env_steps=env_steps, epochs=6, minibatches=12, lr=1e-3)
    return Trainer(TrainConfig(name="speed", learner=learner, tasks=tasks), Path("speed.toml"), folder)


class Clock:
    """Total time of the calls of some functions."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def wrap(self, owner: Any, name: str, label: str) -> None:
        """Begin to measure a method."""
        method = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            try:
                return method(*arguments, **options)
            finally:
                self.seconds[label] = self.seconds.get(label, 0.0) + time.perf_counter() - start

        setattr(owner, name, timed)


def shares(quick: bool) -> None:
    """Print the time of a training and the share of each part."""
    clock = Clock()
    clock.wrap(Population, "__init__", "engine: initial networks")
    clock.wrap(Population, "advance", "engine: updates and signals")
    clock.wrap(Population, "evaluate", "engine: validation loss of the reward")
    clock.wrap(Controller, "observe", "observations")
    clock.wrap(Controller, "act", "actions")
    clock.wrap(Trainer, "_collect", "collected")
    clock.wrap(Trainer, "_descend", "PPO")
    clock.wrap(Trainer, "_evaluate", "evaluation of the policy")
    with tempfile.TemporaryDirectory() as folder:
        trainer = training(2_000 if quick else 50_000, Path(folder))
        start = time.perf_counter()
        trainer.train()
        total = time.perf_counter() - start
    collected = clock.seconds.pop("collected")
    inside = sum(seconds for name, seconds in clock.seconds.items() if name not in ("PPO", "evaluation of the policy"))
    clock.seconds["TorchRL's collector, policy, rewards"] = (
        collected + clock.seconds["evaluation of the policy"] - inside
    )
    del clock.seconds["evaluation of the policy"]
    clock.seconds["advantages, the rest"] = total - sum(clock.seconds.values())
    print(f"\n{trainer.env_steps} environment steps of digits MLPs, 16 runs at a time, in {total:.0f} s\n")
    print("| part | share |\n| --- | ---: |")
    for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds / total:.0%} |")


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run few repetitions, to test the script")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(f"PyTorch {torch.__version__}, one thread")
    tables: list[Callable[[bool], None]] = [populations, shares]
    for table in tables:
        table(quick)


if __name__ == "__main__":
    main()
