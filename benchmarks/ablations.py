"""Compare policies and control entries on a development set, by validation loss.

    python benchmarks/ablations.py FIRST OTHER ... [--features POLICY] [--quick]

Every entry is a scheduler as on the command line (`policy:ganno`, `mean-curve:ganno`, `policy:DIR` for a folder, ...).
It starts from the optimizer's default base learning rate and weight decay. Its score is 100 ln(L_first / L): L is its
final validation loss, L_first the loss of the first entry. -10 is a loss about 10 % higher.

The script prints the mean over the workloads of the suite `transfer` with embedded data, over four separate seeds, with
the standard error over workloads. `--features` adds `without:FEATURE:POLICY` for each observation of the policy.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.policy import find_policy
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.population import Engine
from ganno_bench.workloads.embedded import EMBEDDED
from ganno_bench.workloads.suite import find_suite, load_suite
from ganno_bench.workloads.workload import load_workloads

SEEDS = [stream_seed("ablations", index) for index in range(4)]


def log_loss(engine: Engine, entry: SchedulerEntry) -> float:
    """Return the mean log of the final validation loss, at worst chance."""
    workload = engine.workload
    defaults = OPTIMIZERS[workload.spec.optimizer.name]
    result = drive(engine, [Contestant(entry.build({}), defaults.base_lr, defaults.weight_decay, entry.name)], SEEDS)
    chance = workload.dataset.chance_loss
    loss: Tensor = result.val_loss[-1].nan_to_num(chance, chance).clamp(max=chance)
    return float(loss.log().mean())


def main() -> None:
    """Print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("entries", nargs="*", default=["policy:ganno-anchored", "policy:ganno-global"])
    parser.add_argument("--features", metavar="POLICY", help="mask each observation of this policy, one at a time")
    parser.add_argument("--quick", action="store_true", help="run one workload, to test the script")
    options = parser.parse_args()
    torch.set_num_threads(1)
    references = list(options.entries)
    if options.features:
        names = load_policy(find_policy(options.features)).card.observation
        references += [f"without:{name}:{options.features}" for name in names]
    entries = [load_scheduler(reference) for reference in references]
    suite = load_suite("transfer")
    embedded = [w for w in suite.workload if suite.dataset[w.dataset].source in EMBEDDED.entries()]
    suite = suite.model_copy(update={"workload": tuple(embedded[:1] if options.quick else embedded)})
    scores: list[dict[str, list[float]]] = [{} for _ in entries]
    for workload in load_workloads(suite, find_suite("transfer"), ()):
        engine = Engine(workload)
        first = None
        for entry, own in zip(entries, scores, strict=True):
            loss = log_loss(engine, entry)
            first = loss if first is None else first
            own.setdefault(workload.spec.model["family"], []).append(100 * (first - loss))
    families = list(dict.fromkeys(w.model["family"] for w in suite.workload))
    print(f"| entry | all | {' | '.join(families)} |\n| --- | ---: |" + " ---: |" * len(families))
    for entry, own in zip(entries, scores, strict=True):
        cells = [_cell([score for several in own.values() for score in several]), *(_cell(own[f]) for f in families)]
        print(f"| {entry.name} | {' | '.join(cells)} |")


def _cell(values: list[float]) -> str:
    mean = sum(values) / len(values)
    if len(values) < 2:
        return f"{mean:+.1f}"
    error = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    return f"{mean:+.1f} ± {error:.1f}"


if __name__ == "__main__":
    main()
