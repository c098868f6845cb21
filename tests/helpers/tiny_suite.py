"""A suite that runs in half a second, plugins for it, and what is compared of two runs of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Finished, RunResult, Settings, run_suite
from ganno_bench.core.records import RunRecord
from ganno_bench.workloads.data import Dataset
from ganno_bench.workloads.datasets import EMBEDDED, load_dataset
from ganno_bench.workloads.suite import DatasetSpec

SUITE = """
name = "tiny"
schedulers = ["cosine", "wsd"]

[budget]
trials = 6
tuning_seeds = 2
report_seeds = 3
batch = 3
startup_trials = 3

[dataset.digits]
source = "digits"
task = "image-classification"
input = "image"
target = "label"
max_train = 64
max_validation = 64
max_test = 64

[[workload]]
id = "sgd-mlp"
dataset = "digits"
model = { family = "mlp", depth = 1, width = 8 }
optimizer = { name = "sgd" }
batch_size = 8
n_updates = 6
n_evaluations = 6

[[workload]]
id = "adam-mlp"
dataset = "digits"
model = { family = "mlp", depth = 1, width = 8 }
optimizer = { name = "adam" }
batch_size = 8
n_updates = 6
n_evaluations = 6
"""
WORKLOADS = ("sgd-mlp", "adam-mlp")
SCHEDULERS = ("cosine", "wsd")
POPULATIONS = 12
"""Of a whole run: for each of the 2 workloads and 2 schedulers two batches of trials and a report."""
RECORDS = 60

SMALL: dict[str, Any] = {"trials": 2, "tuning_seeds": 1, "report_seeds": 2}
"""Settings of a custom run: a batch of two trials and a report."""

PLUGIN = """
from dataclasses import dataclass
import torch
from ganno_bench.schedulers import Controls, Scheduler

@dataclass(frozen=True)
class Mine(Scheduler):
    '''Keeps the base learning rate.'''
    interval = 2

    def init(self, run):
        return run.base_lr

    def step(self, state, signals):
        lr = state[:, None].expand(signals.lr.shape)
        return Controls(lr), state
"""


def write_suite(folder: Path, *edits: tuple[str, str]) -> Path:
    """Write the suite, with some of its text replaced, and return its path."""
    return _write(folder / "tiny.toml", SUITE, edits)


def write_plugin(folder: Path, *edits: tuple[str, str], name: str = "mine.py") -> str:
    """Write the plugin, with some of its text replaced, and return a reference to it."""
    return f"{_write(folder / name, PLUGIN, edits)}:Mine"


def _write(path: Path, text: str, edits: tuple[tuple[str, str], ...]) -> Path:
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)
    return path


def run_tiny(
    suite: Path,
    out: Path,
    progress: Progress | None = None,
    on_finished: Callable[[Finished], None] = lambda done: None,
    **settings: Any,
) -> RunResult:
    common: dict[str, Any] = {"suite": str(suite), "out": out, "threads": 1}
    return run_suite(Settings(**common | settings), progress, on_finished)


class Started(Progress):
    """Keeps what was trained: (workload, scheduler, role, batch)."""

    def __init__(self) -> None:
        self.jobs: list[tuple[str, str, str, int]] = []

    def job_started(self, job: Any, n_trials: int) -> None:
        self.jobs.append((job.workload, job.entry, job.role, job.batch))


class Interrupt(Progress):
    """Ctrl-C in the n-th population."""

    def __init__(self, n: int) -> None:
        self.left = n

    def job_started(self, job: Any, n_trials: int) -> None:
        self.left -= 1

    def advanced(self, cost: float) -> None:
        if self.left == 0:
            raise KeyboardInterrupt


def keep(out: Path, n_lines: int, more: bytes = b"") -> None:
    """Leave only the first lines of the records, as where the process was killed then."""
    lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    (out / "records.jsonl").write_bytes(b"".join(lines[:n_lines]) + more)
    (out / "records.end").unlink(missing_ok=True)


def results(out: Path) -> list[dict[str, Any]]:
    """Return the records of a run without what may differ between two runs: time stamps, duration, host, checksums."""
    records = [json.loads(line) for line in (out / "records.jsonl").read_bytes().splitlines()]
    for record in records:
        del record["provenance"]["timestamp"], record["provenance"]["host"], record["cost"]["wall_seconds"]
        record.pop("after", None)
        record.pop("checksum", None)
    return records


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a folder, but for the lock's."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def populations(records: list[RunRecord]) -> list[tuple[str, str, str, int]]:
    """Return the (workload, scheduler, role, batch) of each population, in the order of the records."""
    batches = [(r.workload, r.scheduler, r.role, 2 if r.role == "report" else r.trial // 3) for r in records]
    return list(dict.fromkeys(batches))


_loaded: dict[str, Dataset] = {}


def forget_datasets() -> None:
    """Have them read again."""
    _loaded.clear()


@contextmanager
def datasets_read_once() -> Iterator[None]:
    """Read a dataset that is declared in the same words only once; an embedded one wherever the suite's file lies."""

    def load_once(name: str, spec: DatasetSpec, *places: Any) -> Dataset:
        key = f"{name} {spec.model_dump_json()} {None if spec.source in EMBEDDED.entries() else places}"
        if key not in _loaded:
            _loaded[key] = load_dataset(name, spec, *places)
        return _loaded[key]

    with mock.patch("ganno_bench.workloads.workload.load_dataset", load_once):
        yield
