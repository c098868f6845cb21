"""How a policy fares from other base learning rates and weight decays than the optimizer's default."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ganno_bench.core.errors import RecordError
from ganno_bench.core.seeding import run_seeds
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.population import Engine
from ganno_bench.workloads.suite import Suite

__all__ = [
    "LR_MULTIPLES",
    "SETTINGS",
    "WEIGHT_DECAY_MULTIPLES",
    "RobustnessRun",
    "middle_workloads",
    "read_robustness",
    "run_robustness",
    "write_robustness",
]

LR_MULTIPLES = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of the optimizer's default base learning rate, at the default weight decay."""

WEIGHT_DECAY_MULTIPLES = (0.0, 1.0, 10.0)
"""Of the optimizer's default weight decay, at the default base learning rate."""

SETTINGS = tuple(
    dict.fromkeys([*((lr, 1.0) for lr in LR_MULTIPLES), *((1.0, decay) for decay in WEIGHT_DECAY_MULTIPLES)])
)
"""(multiple of the base learning rate, multiple of the weight decay)."""


@dataclass(frozen=True)
class RobustnessRun:
    """One training run.

    Attributes:
        workload: Its id.
        entry: Name of the scheduler.
        suite_hash: The suite's hash.
        code_hash: The scheduler's hash.
        lr_multiple: Base learning rate over the optimizer's default.
        decay_multiple: Weight decay over the optimizer's default.
        base_lr: Base learning rate.
        weight_decay: Weight decay.
        seed: Index of the seed, as in report runs.
        val_loss: Final validation loss, nats; at worst chance.
        diverged: Whether the run diverged.
    """

    workload: str
    entry: str
    suite_hash: str
    code_hash: str
    lr_multiple: float
    decay_multiple: float
    base_lr: float
    weight_decay: float
    seed: int
    val_loss: float
    diverged: bool


def middle_workloads(suite: Suite) -> tuple[str, ...]:
    """Return one workload for each model family: the first in the suite of the family's middle depth."""
    chosen = []
    for family in dict.fromkeys(str(spec.model["family"]) for spec in suite.workload):
        own = [spec for spec in suite.workload if spec.model["family"] == family]
        depths = sorted({spec.model.get("depth", 0) for spec in own})
        middle = depths[len(depths) // 2]
        chosen.append(next(spec.id for spec in own if spec.model.get("depth", 0) == middle))
    return tuple(chosen)


def run_robustness(
    engine: Engine,
    entry: SchedulerEntry,
    suite_hash: str,
    n_seeds: int,
    on_progress: Callable[[int], None] = lambda updates: None,
) -> list[RobustnessRun]:
    """Train one workload under every one of `SETTINGS`; test data is not read.

    Args:
        engine: The workload.
        entry: A zero-shot entry.
        suite_hash: The suite's hash, for the rows.
        n_seeds: Seeds of each setting; the seeds of report runs.
        on_progress: Called with the number of updates (of one run) done since the last call.

    Raises:
        PluginError: The scheduler failed.
    """
    spec, chance = engine.workload.spec, engine.workload.dataset.chance_loss
    base_lr, weight_decay = entry.base_lr(spec.optimizer.name), OPTIMIZERS[spec.optimizer.name].weight_decay
    contestants = [
        Contestant(entry.build({}), lr * base_lr, decay * weight_decay, entry.name) for lr, decay in SETTINGS
    ]
    result = drive(engine, contestants, run_seeds("report", 0, n_seeds), on_progress)
    final = result.val_loss[-1].nan_to_num(nan=chance, posinf=chance).clamp(max=chance).tolist()
    diverged = (~result.val_loss[-1].isfinite() | result.population.diverged).tolist()
    return [
        RobustnessRun(
            workload=spec.id,
            entry=entry.name,
            suite_hash=suite_hash,
            code_hash=entry.code_hash,
            lr_multiple=SETTINGS[run // n_seeds][0],
            decay_multiple=SETTINGS[run // n_seeds][1],
            base_lr=contestants[run // n_seeds].base_lr,
            weight_decay=contestants[run // n_seeds].weight_decay,
            seed=run % n_seeds,
            val_loss=final[run],
            diverged=diverged[run],
        )
        for run in range(result.population.n_runs)
    ]


def write_robustness(runs: Iterable[RobustnessRun], file: Path) -> None:
    """Write the runs as CSV, losslessly."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(RobustnessRun)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(run) for run in runs)


def read_robustness(
    file: Path, entries: Sequence[SchedulerEntry], suite_hash: str, n_seeds: int
) -> list[RobustnessRun]:
    """Return what an earlier call has left of these entries on this suite: whole workloads alone.

    Raises:
        RecordError: The file is no table of such runs.
    """
    if not file.exists():
        return []
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            found = [_parsed(row) for row in csv.DictReader(stream)]
    except (KeyError, ValueError, TypeError) as error:
        raise RecordError(f"{file}: is no table of robustness runs ({error}); remove it to run them again") from None
    hashes = {(entry.name, entry.code_hash, suite_hash) for entry in entries}
    wanted = {(*setting, seed) for setting in SETTINGS for seed in range(n_seeds)}
    groups: dict[tuple[str, str], list[RobustnessRun]] = {}
    for run in found:
        if (run.entry, run.code_hash, run.suite_hash) in hashes:
            groups.setdefault((run.workload, run.entry), []).append(run)
    whole = [
        runs
        for runs in groups.values()
        if {(run.lr_multiple, run.decay_multiple, run.seed) for run in runs} == wanted and len(runs) == len(wanted)
    ]
    return [run for runs in whole for run in runs]


def _parsed(row: dict[str, str]) -> RobustnessRun:
    return RobustnessRun(
        workload=row["workload"],
        entry=row["entry"],
        suite_hash=row["suite_hash"],
        code_hash=row["code_hash"],
        lr_multiple=float(row["lr_multiple"]),
        decay_multiple=float(row["decay_multiple"]),
        base_lr=float(row["base_lr"]),
        weight_decay=float(row["weight_decay"]),
        seed=int(row["seed"]),
        val_loss=float(row["val_loss"]),
        diverged=row["diverged"] == "True",
    )
