"""Golden decisions: what each scheduler of this project decides about made-up runs, as it is committed.

A built-in scheduler is known by its `revision`, not by its source, so nothing but this notices that it decides
something else. Where it does, its results of before are another scheduler's: raise `revision` in its class, then

    make golden

which records what is new, or is of a new revision, and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution
from torch import Tensor, nn

from ganno_bench.policies.policy import load_policy
from ganno_bench.schedulers.controls import CONTROLS
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry
from ganno_bench.schedulers.policy import find_policy
from ganno_bench.schedulers.registry import SCHEDULERS, SchedulerEntry, load_scheduler
from ganno_bench.schedulers.shipped import shipped_policies
from ganno_bench.testing.playing import play
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.workloads.suite import OptimizerSpec, WorkloadSpec

__all__ = ["FILE", "decisions", "fault", "references"]

FILE = Path(__file__).parents[1] / "data" / "golden_decisions.json"
_HORIZON = 61
_SHOWN = (0, 1, 7, 30, 60)
"""Updates whose learning rates are recorded one by one; the others are in a sum."""
_TOLERANCE = 1e-9
"""Relative; the last bits of a cosine depend on the machine."""
_LIBRARIES = ("torch:StepLR(step_size=20, gamma=0.5)", "transformers:linear", "timm:PolyLRScheduler")
"""One of each adapter; what the library decides is covered by its version."""


def references() -> list[str]:
    """Return every scheduler of this project: what is built in, adapters, shipped policies and their controls."""
    built_in = [name for name, entry in SCHEDULERS.entries().items() if entry.source == "built-in"]
    policies = shipped_policies()
    masked = [f"without:{load_policy(find_policy(name)).card.observation[0]}:{name}" for name in policies]
    controls = [f"{kind}:{name}" for kind in CONTROLS if kind != "without" for name in policies]
    return [
        *built_in,
        *_LIBRARIES,
        "pytorch-optimizer:Lion",
        *(f"policy:{name}" for name in policies),
        *controls,
        *masked,
    ]


def decisions(entry: SchedulerEntry) -> dict[str, list[float]]:
    """Return what a scheduler decides by default and at each end of each hyperparameter's range.

    Returns:
        Configuration -> learning rates of two runs and two layers at some updates, then weighted sums of all learning
        rates, weight decays and momenta. By default also where losses rise, and of an open optimizer, for each that it
        replaces, the parameters after ten updates of two quadratics.
    """
    found: dict[str, list[float]] = {}
    runs = synthetic_runs(_HORIZON)
    for config in _configs(entry.search_space):
        found[json.dumps(config, sort_keys=True)] = _played(entry, runs, config)
    rising = replace(runs, train_loss=runs.train_loss.flip(0), val_loss=runs.val_loss.flip(0))
    found["where losses rise"] = _played(entry, rising, {})
    scheduler = entry.build({})
    if isinstance(scheduler, OptimizerEntry):
        for name in scheduler.replaces:
            found[f"in the place of {name}"] = _trained(scheduler, name).tolist()
    return {key: [float(f"{value:.12g}") for value in values] for key, values in found.items()}


def fault(entry: SchedulerEntry, golden: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the golden decisions of a scheduler, or None.

    Args:
        entry: The scheduler.
        golden: Reference -> what is recorded of it: `revision` and `decisions`.
    """
    known, revision = golden.get(entry.ref), entry.cls.revision
    if known is None or known["revision"] != revision:
        there = "none" if known is None else f"those of revision {known['revision']}"
        return f"{entry.ref}: there are {there}, not those of revision {revision}: make golden"
    now = decisions(entry)
    for config in dict.fromkeys([*known["decisions"], *now]):
        before, after = known["decisions"].get(config, []), now.get(config, [])
        same = len(before) == len(after) and all(map(_close, before, after))
        if not same:
            return f"{entry.ref}: decides otherwise than revision {revision} at {config}: raise `revision` in its class"
    return None


def _played(entry: SchedulerEntry, runs: SyntheticRuns, config: Mapping[str, Any]) -> list[float]:
    controls = play(entry, runs, config).controls
    weights = torch.linspace(1.0, 2.0, controls.numel(), dtype=torch.float64).view_as(controls)
    sums = (weights * controls).nan_to_num(0.0).sum((0, 1))
    shown = controls[list(_SHOWN)][:, [0, 2]][..., [0, 3]]
    return [*shown.flatten().tolist(), float(sums[:-2].sum()), *sums[-2:].tolist()]


def _close(a: float, b: float) -> bool:
    return abs(a - b) <= _TOLERANCE * max(abs(a), abs(b))


def _configs(space: Mapping[str, BaseDistribution]) -> Iterator[dict[str, Any]]:
    yield {}
    for key, distribution in space.items():
        if isinstance(distribution, CategoricalDistribution):
            values = distribution.choices
        else:
            values = (distribution.low, distribution.high)  # type: ignore[attr-defined]
        yield from ({key: value} for value in values)


def _trained(scheduler: OptimizerEntry, name: str) -> Tensor:
    """Return two parameters, float64, after ten updates in the place of an optimizer."""
    spec = WorkloadSpec(
        id="quadratics",
        dataset="none",
        model={},
        optimizer=OptimizerSpec.model_validate({"name": name}),
        batch_size=1,
        n_updates=10,
    )
    parameters = [nn.Parameter(torch.tensor(start, dtype=torch.float64)) for start in ([[1.0, -2.0]], [0.5])]
    optimizer = scheduler.optimizer(parameters, 1e-2, spec)
    for update in range(spec.n_updates):
        for parameter in parameters:
            parameter.grad = 3.0 * parameter.detach() - 1.0 + 0.1 * update
        optimizer.step(0.1 * scheduler.released(name).base_lr * scheduler.factor(update, spec.n_updates))
    optimizer.eval()
    return torch.cat([parameter.detach().flatten() for parameter in parameters])


def main() -> None:
    golden = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
    for ref in references():
        entry = load_scheduler(ref)
        if golden.get(ref, {}).get("revision") != entry.cls.revision:
            golden[ref] = {"revision": entry.cls.revision, "decisions": decisions(entry)}
            sys.stdout.write(f"{ref}: revision {entry.cls.revision}\n")
    lines = (f"{json.dumps(ref)}: {json.dumps(golden[ref])}" for ref in sorted(golden) if ref in references())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")


if __name__ == "__main__":
    main()
