"""Made-up records that look like a real benchmark's: common seed effects, tuning studies, a diverging entry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganno_bench.core.records import Cost, Curve, LrTrace, Metrics, Provenance, RunRecord
from ganno_bench.core.seeding import stream_seed

WORKLOADS = {  # chance, what tuned cosine gets, updates
    "mlp-depth-2": (math.log(10), 0.21, 400),
    "mlp-depth-8": (math.log(10), 0.34, 400),
    "mlp-depth-16": (math.log(10), 0.62, 800),
    "char-transformer": (3.02, 1.55, 1000),
}
ENTRIES = {  # ruleset, mean score
    "cosine": ("tuned", 0.0),
    "constant": ("tuned", -14.0),
    "step": ("tuned", -4.0),
    "one-cycle": ("tuned", 3.0),
    "wsd": ("tuned", 1.5),
    "hypergradient": ("tuned", -22.0),
    "ganno": ("zero-shot", -2.0),
    "cosine-default": ("zero-shot", -30.0),
    "schedule-free": ("zero-shot", -9.0),
}
LAYERS = ("input", "block_1", "block_2", "head")


def make_record(**changes: Any) -> RunRecord:
    """Return a report run of tuned cosine that ended at a test loss of 0.5; `test_loss=None` means it diverged."""
    chance = changes.pop("chance_loss", math.log(10))
    test_loss = changes.pop("test_loss", 0.5)
    val_loss = changes.pop("val_loss", test_loss)
    test_error = changes.pop("test_error", None if test_loss is None else 0.1)
    updates = changes.pop("updates", (50, 100))
    curve = changes.pop("curve", (None,) * len(updates) if val_loss is None else (val_loss * 2, val_loss))
    trace = changes.pop("lr_trace", LrTrace(updates=(0, 99), layers=("all",), lr=((0.1,), (0.0,))))
    versions = changes.pop("versions", {"ganno-bench": "0.1.0", "torch": "2.9.0"})
    fields: dict[str, Any] = {
        "suite": "ladder",
        "suite_hash": "5f1e",
        "custom": False,
        "workload": "mlp",
        "dataset_fingerprint": "da7a",
        "task": "image-classification",
        "scheduler": "cosine",
        "code": "c0de",
        "ruleset": "tuned",
        "study": 0,
        "role": "report",
        "trial": 3 if changes.get("role", "report") == "report" else 0,
        "seed": 0,
        "config": {"base_lr": 0.1, "weight_decay": 0.0},
        "status": "completed" if test_loss is not None or val_loss is not None else "diverged",
        "diverged_at": None if test_loss is not None or val_loss is not None else 7,
    }
    return RunRecord(
        **(fields | changes),
        chance_loss=chance,
        metrics=Metrics(
            train_loss=val_loss, val_loss=val_loss, val_error=test_error, test_loss=test_loss, test_error=test_error
        ),
        curve=Curve(updates=updates, train_loss=curve, val_loss=curve),
        lr_trace=trace,
        cost=Cost(updates=updates[-1], tuning_updates=0, wall_seconds=1.0),
        provenance=Provenance(
            timestamp="2026-01-01T00:00:00Z",
            host="host",
            platform="linux",
            device="cpu",
            backend="vmap",
            threads=1,
            versions=versions,
        ),
    )


def fake_benchmark(
    workloads: Sequence[str] = tuple(WORKLOADS),
    entries: Mapping[str, tuple[str, float]] = ENTRIES,
    *,
    n_seeds: int = 10,
    n_trials: int = 32,
    n_studies: int = 1,
    custom: bool = False,
    diverging: str = "hypergradient",
) -> list[RunRecord]:
    """Return a whole benchmark; `diverging` loses every fifth run of the deepest network."""
    return [
        record
        for name in workloads
        for entry, (ruleset, mean) in entries.items()
        for study in range(n_studies if ruleset == "tuned" else 1)
        for record in _study(name, entry, ruleset, mean, study, n_seeds, n_trials, custom, diverging)
    ]


def _study(
    name: str,
    entry: str,
    ruleset: str,
    mean: float,
    study: int,
    n_seeds: int,
    n_trials: int,
    custom: bool,
    diverging: str,
) -> list[RunRecord]:
    chance, base, horizon = WORKLOADS[name]
    rng = np.random.default_rng(stream_seed(name, entry, study))
    gap = mean * (1 + 0.4 * math.log2(horizon / 400)) + rng.normal(0, 1.5)  # score of this entry on this workload
    best_lr = 10 ** rng.uniform(-2.5, -1)
    common: dict[str, Any] = {
        "workload": name,
        "dataset_fingerprint": f"data-{name}",
        "task": "language-modelling" if name.startswith("char") else "image-classification",
        "scheduler": entry,
        "code": f"code-{entry}",
        "ruleset": ruleset,
        "study": study,
        "chance_loss": chance,
        "custom": custom,
    }
    records = []
    if ruleset == "tuned":
        for trial, lr in enumerate(10 ** rng.uniform(-4, 1, n_trials)):
            penalty = 35 * abs(math.log10(lr / best_lr)) ** 1.5  # in score
            for seed in range(2):
                loss = base * math.exp(-(gap - penalty + rng.normal(0, 2)) / 100)
                run = _run(loss, chance, horizon, entry, lr, seed) if lr < 2 else {"test_loss": None, "val_loss": None}
                records.append(
                    make_record(
                        **(common | {"updates": (horizon,), "curve": (run["val_loss"],)}),
                        **{key: run[key] for key in ("val_loss",)},
                        test_loss=None,
                        role="tuning",
                        trial=trial,
                        seed=seed,
                        config={"base_lr": float(lr), "weight_decay": 0.0},
                    )
                )
    for seed in range(n_seeds):
        luck = np.random.default_rng(stream_seed(name, "seed", seed)).normal(0, 4)  # common random numbers
        loss = base * math.exp(-(gap + luck + rng.normal(0, 2)) / 100)
        run = _run(loss, chance, horizon, entry, best_lr, seed)
        if entry == diverging and horizon == 800 and seed % 5 == 0:
            run |= {"test_loss": None, "val_loss": None, "curve": (*run["curve"][:3], *(None,) * 13)}
        records.append(make_record(**common, **run, seed=seed, config={"base_lr": best_lr, "weight_decay": 0.0}))
    return records


def _run(loss: float, chance: float, horizon: int, entry: str, lr: float, seed: int) -> dict[str, Any]:
    updates = tuple(horizon * i // 16 for i in range(1, 17))
    progress = np.linspace(1 / 16, 1, 16)
    late = entry not in {"constant", "schedule-free"}
    fall = np.exp(-6 * progress) - np.exp(-6) if not late else 0.8 * np.exp(-5 * progress) + 0.2 * (1 - progress)
    fall = (fall - fall[-1]) / (1 - fall[-1])
    rng = np.random.default_rng(stream_seed(entry, horizon, seed))
    curve = (loss + (chance - loss) * fall) * np.exp(np.append(rng.normal(0, 0.03, 15), 0))
    val_loss = float(curve[-1])
    return {
        "test_loss": val_loss * 1.05,
        "val_loss": val_loss,
        "test_error": min(0.9, val_loss / 3),
        "updates": updates,
        "curve": tuple(map(float, curve)),
        "lr_trace": _trace(entry, horizon, lr),
    }


def _trace(entry: str, horizon: int, lr: float) -> LrTrace:
    at = tuple(sorted({*(horizon * i // 64 for i in range(64)), horizon - 1}))
    t = np.array(at) / horizon
    factor = {
        "constant": np.ones_like(t),
        "step": 0.1 ** (np.floor(t * 3)),
        "one-cycle": np.where(t < 0.3, 0.04 + t / 0.3 * 0.96, (1 + np.cos(np.pi * (t - 0.3) / 0.7)) / 2),
        "wsd": np.minimum(np.minimum(t / 0.05, 1), np.maximum((1 - t) / 0.2, 0)),
        "hypergradient": np.exp(0.8 * np.sin(7 * t)),
        "schedule-free": np.minimum(t / 0.05, 1),
    }.get(entry, (1 + np.cos(np.pi * t)) / 2)
    if entry != "ganno":
        return LrTrace(updates=at, layers=("all",), lr=tuple((float(lr * f),) for f in factor))
    depth = np.array([1.6, 1.0, 0.7, 0.35])
    lrs = lr * factor[:, None] * depth ** (1 + t[:, None]) + 1e-5
    return LrTrace(updates=at, layers=LAYERS, lr=tuple(tuple(map(float, row)) for row in lrs))
