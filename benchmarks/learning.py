"""Train a policy for three minutes with several seeds, and compare it with the entries that it must beat.

    python benchmarks/learning.py [CONFIG] [--minutes 3] [--seeds 3] [--out docs/learning.png] [--quick]

All are scored on the validation tasks of the configuration, by validation loss: fixed seeds, each at a tenth of the
default base learning rate, at the default and at ten times the default. The return is ln(first loss / final loss), the
mean over tasks and runs. The rivals of the trained policy are

- the untrained policy (greedy, so it repeats an arbitrary preference),
- the best fixed multiplier: every learning rate is the base learning rate times one number, the same for all tasks. It
  is the best of 21 numbers on these tasks,
- the mean curve on the policy's card, which `mean-curve:POLICY` replays in the benchmark: times the base learning rate,
  the same for all tasks, runs and layers,
- the mean curve of the task: the geometric mean, over the runs and layers of one task, of the learning rates that the
  policy chose there. It is replayed in all runs of the task, whatever their base learning rate. No schedule can know
  this curve: the policy found the task's learning rate over all these runs.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.marl.config import load_train_config
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.marl.mappo import Trainer
from ganno_bench.policies.policy import Policy, load_policy
from ganno_bench.training.signals import Controls

ROOT = Path(__file__).resolve().parents[1]
BASE = (0.1, 1.0, 10.0)
NAMES = ("policy", "mean curve", "best fixed multiplier", "untrained", "mean curve of the task")
COLOURS = ("#D55E00", "#0072B2", "#009E73", "#999999", "#9EC9E2")
MULTIPLIERS = [10 ** (-2 + 0.2 * index) for index in range(21)]


def base_rates(env: LayerwiseLREnv) -> Tensor:
    """Return the base learning rates of the runs: three values, each for a third of the runs."""
    return env.defaults.base_lr * torch.tensor(BASE, dtype=torch.float64).repeat(env.batch_size[0] // 3)


def begin(env: LayerwiseLREnv) -> Tensor:
    """Begin the fixed episode of a task, and return the logarithm of its first losses, shape (P,)."""
    runs = env.batch_size[0]
    decay = torch.full((runs,), env.defaults.weight_decay, dtype=torch.float64)
    env.begin([stream_seed("learning-benchmark", index // 3) for index in range(runs)], base_rates(env), decay)
    return env.validation_loss.log()


def under_policy(policy: Policy, env: LayerwiseLREnv) -> tuple[Tensor, Tensor]:
    """Return returns, shape (P,), and the learning rates at the end of each decision interval, (decisions, P, L)."""
    first, rates = begin(env), []
    for _ in range(env.n_decisions):
        env.act(policy.decide(env.seen))
        rates.append(env.lr)
    return first - env.validation_loss.log(), torch.stack(rates)


def under_rates(env: LayerwiseLREnv, rates: Tensor) -> Tensor:
    """Return returns, shape (P,), for the learning rates of each decision and run, shape (decisions, P)."""
    first = begin(env)
    layers = env.engine.layout.n_layers
    runs, total = env.batch_size[0], env.engine.workload.spec.n_updates
    seeds = [stream_seed("learning-benchmark", index // 3) for index in range(runs)]
    population = env.engine.population(seeds, env.defaults.weight_decay)
    for rate in rates:
        lr = rate[:, None].expand(-1, layers)
        population.advance(Controls(lr), min(env.interval, total - population.n_updates))
    ceiling = 2 * env.engine.workload.dataset.chance_loss  # as the environment cuts losses off
    loss = population.evaluate(env.validation).loss.nan_to_num(ceiling, ceiling).clamp(1e-6, ceiling)
    return first - loss.log()


def compare(trained: Policy, untrained: Policy, envs: Sequence[LayerwiseLREnv]) -> dict[str, float]:
    """Return the mean return of each."""
    returns: dict[str, list[float]] = {name: [] for name in NAMES if name != "best fixed multiplier"}
    assert trained.card.behaviour is not None
    factors = np.exp(trained.card.behaviour.curve)
    fixed = torch.zeros(len(MULTIPLIERS), dtype=torch.float64)
    for env in envs:
        own, rates = under_policy(trained, env)
        returns["policy"].append(float(own.mean()))
        returns["untrained"].append(float(under_policy(untrained, env)[0].mean()))
        progress = np.arange(env.n_decisions) / env.n_decisions
        factor = torch.as_tensor(np.interp(progress, np.linspace(0, 1, len(factors)), factors))
        returns["mean curve"].append(float(under_rates(env, factor[:, None] * base_rates(env)).mean()))
        curve = rates.log().mean(dim=(1, 2)).exp()[:, None].expand(-1, env.batch_size[0])
        returns["mean curve of the task"].append(float(under_rates(env, curve).mean()))
        for index, multiplier in enumerate(MULTIPLIERS):
            held = (multiplier * base_rates(env)).expand(env.n_decisions, -1)
            fixed[index] += under_rates(env, held).mean() / len(envs)
    means = {name: sum(values) / len(values) for name, values in returns.items()}
    return means | {"best fixed multiplier": float(fixed.max())}


def draw(losses: Sequence[Sequence[tuple[int, float]]], results: Sequence[dict[str, float]], file: Path) -> None:
    """Draw the learning curves, (environment steps, ln(final loss / chance)) of each batch, and the comparison."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for seed, curve in enumerate(losses):
        steps, values = np.array(curve).T
        window = max(1, len(values) // 10)
        mean = np.convolve(values, np.full(window, 1 / window), mode="valid")
        left.plot(steps[window - 1 :], mean, label=f"seed {seed}")
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    left.set_xlabel("environment steps")
    left.set_ylabel("ln(final loss / chance)")
    left.set_title("Training episodes, running mean: lower is better", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    for place, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True)):
        for seed, result in enumerate(results):
            right.bar(place + 0.26 * (seed - (len(results) - 1) / 2), result[name], width=0.24, color=colour)
    right.set_xticks(range(len(NAMES)), [name.replace(" ", "\n", 2) for name in NAMES])
    right.set_title("Return after training, a bar for each seed", fontsize=10)
    right.set_ylabel("ln(first loss / final loss)")
    for axis in (left, right):
        axis.grid(color="#e4e4e4", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def main() -> None:
    """Train, compare, print a table as Markdown, and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "policies" / "ganno" / "train.toml")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("learning.png"))
    parser.add_argument("--quick", action="store_true", help="train for seconds, to test the script")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| training seed | env steps | {' | '.join(NAMES)} |\n| --- | ---: |" + " ---: |" * len(NAMES))
    curves, results = [], []
    for seed in range(1 if options.quick else options.seeds):
        config = load_train_config(options.config).model_copy(update={"seed": seed})
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(config, options.config, Path(folder))
            untrained = Policy(trainer.policy.card, copy.deepcopy(trainer.policy.actor))
            trainer.train(minutes=0.05 if options.quick else options.minutes)
            trained = load_policy(Path(folder) / "policy")
            envs = trainer.validation_envs
        results.append(compare(trained, untrained, envs[:1] if options.quick else envs))
        curves.append([(batch.env_steps, batch.log_loss) for batch in trainer.batches])
        row = " | ".join(f"{results[-1][name]:.3f}" for name in NAMES)
        print(f"| {seed} | {trainer.env_steps} | {row} |", flush=True)
    draw(curves, results, options.out)


if __name__ == "__main__":
    main()
