"""Compare the first-order difference reward with the exact one: how it ranks actions, and what it costs.

    python benchmarks/credit.py [--quick]

`difference` estimates the gain of a layer's action, compared with an unchanged learning rate, to first order and from
signals that the engine measures anyway. `difference-exact` trains the decision interval once more for each layer. The
script computes both for every decision under random actions. It prints their rank correlation (Spearman) over all
actions that changed a learning rate, and the time of a decision relative to one without a difference reward.
"""

from __future__ import annotations

import argparse
import time

import torch
from scipy.stats import spearmanr

from ganno_bench.marl import make_env
from ganno_bench.marl.rewards import difference, difference_exact

WORKLOADS = ("digits-mlp-2", "digits-mlp-4", "digits-mlp-8", "stdlib-chars-transformer-1")
INTERVALS = (3, 10)
RATES = {"0.1x to 1x": (0.1, 1.0), "1x to 10x": (1.0, 10.0)}


def seconds_per_decision(name: str, interval: int, rewards: dict[str, float]) -> float:
    """Return the seconds of a decision for 16 runs."""
    env = make_env(f"quickstart/{name}", n_runs=16, interval=interval, reward=rewards)
    env.reset()
    env.act(torch.randint(5, (16, env.n_agents)))  # records the passes
    start = time.perf_counter()
    for _ in range(3):
        env.act(torch.randint(5, (16, env.n_agents)))
    return (time.perf_counter() - start) / 3


def correlation(name: str, interval: int, base_lr: tuple[float, float], n_decisions: int) -> tuple[float, int]:
    """Return the rank correlation of both rewards, and the number of actions behind it."""
    env = make_env(
        f"quickstart/{name}",
        n_runs=16,
        interval=interval,
        base_lr=base_lr,
        reward={"difference": 1.0, "difference-exact": 1.0},
    )
    env.reset()
    cheap, exact = [], []
    for _ in range(min(n_decisions, env.n_decisions)):
        action = torch.randint(5, (16, env.n_agents))
        transition = env.act(action)
        changed = (action != int(env.controller.action.neutral)) & ~transition.after.diverged[:, None]
        cheap.append(difference.compute(transition)[changed])
        exact.append(difference_exact.compute(transition)[changed])
    a, b = torch.cat(cheap), torch.cat(exact)
    return float(spearmanr(a.cpu(), b.cpu()).statistic), len(a)


def main() -> None:
    """Print both tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run few decisions, to test the script")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    workloads = WORKLOADS[:1] if quick else WORKLOADS
    intervals = INTERVALS[:1] if quick else INTERVALS
    print("| workload | updates per decision | base learning rate | rank correlation | choices |")
    print("| --- | ---: | --- | ---: | ---: |")
    for name in workloads:
        for interval in intervals:
            for label, base_lr in RATES.items():
                rho, count = correlation(name, interval, base_lr, 3 if quick else 15)
                print(f"| {name} | {interval} | {label} the default | {rho:+.2f} | {count} |", flush=True)
    print("\n| workload | difference | difference-exact |\n| --- | ---: | ---: |")
    for name in workloads:
        plain = seconds_per_decision(name, 10, {"log-validation": 1.0})
        first = seconds_per_decision(name, 10, {"log-validation": 1.0, "difference": 1.0})
        again = seconds_per_decision(name, 10, {"log-validation": 1.0, "difference-exact": 1.0})
        print(f"| {name} | {first / plain:.2f}x | {again / plain:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
