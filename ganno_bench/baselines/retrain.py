"""Retrain a random sample of the committed runs, and compare the results with the records."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from ganno_bench.baselines.files import BaselineFolder, read_lines
from ganno_bench.baselines.verify import BaselineSuites
from ganno_bench.bench.plan import Change, Job
from ganno_bench.bench.recording import Recorder
from ganno_bench.core.errors import DatasetError, UserError
from ganno_bench.core.records import Provenance, RunRecord, compact_record
from ganno_bench.core.seeding import run_seeds
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler
from ganno_bench.scoring.metrics import clipped_loss
from ganno_bench.training.packages import CompilationError
from ganno_bench.training.population import Engine
from ganno_bench.tuning.space import contestant
from ganno_bench.workloads.datasets import data_directories
from ganno_bench.workloads.workload import Workload, load_workloads

__all__ = ["Outcome", "draw", "retrain"]

T = TypeVar("T")
_ROUNDING = 1e-6
"""Relative difference between two losses that is always allowed, even if all seeds gave the same loss."""


@dataclass(frozen=True)
class Outcome:
    """The result of retraining one committed run.

    Attributes:
        record: The committed record.
        ok: Whether the new run agrees; None if it cannot be trained here.
        text: The comparison, or the reason for a failure.
    """

    record: RunRecord
    ok: bool | None
    text: str

    @property
    def name(self) -> str:
        """Name of the run for messages."""
        r = self.record
        return f"{r.suite}/{r.workload} {r.scheduler}, study {r.study}, seed {r.seed}"


def retrain(
    folder: BaselineFolder, suites: BaselineSuites, n: int, seed: int, data_dirs: Sequence[Path] = ()
) -> Iterator[Outcome]:
    """Draw runs and retrain them, one at a time, until `n` are trained or none are left.

    The new run must be bit-equal if PyTorch's version, processor, threads, device and backend are the recorded ones.
    Otherwise its test loss may differ by at most the range of the entry's committed report seeds.

    Args:
        folder: The baselines.
        suites: The suites to draw from.
        n: Number of runs.
        seed: Seed of the draw.
        data_dirs: Folders that are searched for datasets, before those in `GANNO_BENCH_DATA`.
    """
    refs = {}
    records: list[RunRecord] = []
    for file in sorted(folder.path.glob("*.toml")):
        with suppress(UserError):  # `check_files` reports files that cannot be read
            content = folder.read_toml(file)
            refs[content.name] = content.ref
            for suite in sorted({value.suite for value in content.value if suites.wanted(value.suite)}):
                records += read_lines(RunRecord, folder.records(suite, content.name))
    engines = _Engines(suites, data_directories(data_dirs))
    n_trained = 0
    for record in draw(records, seed):
        if n_trained == n:
            return
        try:
            engine = engines.load(record)
            if engine.workload.dataset.fingerprint != record.dataset_fingerprint:
                yield Outcome(record, None, "its data differ on this machine")
                continue
            n_trained += 1
            again = _train(engine, load_scheduler(refs[record.scheduler]), record)
            yield _judge(record, again, [r for r in records if _entry_of(r) == _entry_of(record)])
        except DatasetError as error:
            yield Outcome(record, None, f"its data cannot be loaded: {error}")
        except UserError as error:
            n_trained += 1
            yield Outcome(record, False, str(error))


def draw(records: Sequence[RunRecord], seed: int) -> list[RunRecord]:
    """Return all runs in random order: suites take turns, within a suite workloads, and within a workload entries."""
    rng = random.Random(seed)

    def take_turns(found: list[RunRecord], *keys: str) -> list[RunRecord]:
        if not keys:
            return rng.sample(found, len(found))
        groups: dict[Hashable, list[RunRecord]] = defaultdict(list)
        for record in found:
            groups[getattr(record, keys[0])].append(record)
        ordered = [take_turns(group, *keys[1:]) for _, group in sorted(groups.items(), key=lambda item: str(item[0]))]
        rng.shuffle(ordered)
        longest = max(map(len, ordered), default=0)
        return [group[turn] for turn in range(longest) for group in ordered if turn < len(group)]

    return take_turns(list(records), "suite", "workload", "scheduler")


class _Engines:
    """Cache of the current workload's engine; it holds one workload, because a dataset can fill the memory."""

    def __init__(self, suites: BaselineSuites, data_dirs: Sequence[Path]) -> None:
        self._suites, self._data_dirs = suites, data_dirs
        self._loaded: tuple[tuple[str, str, str, str], Engine] | None = None

    def load(self, record: RunRecord) -> Engine:
        made = record.provenance
        device = "cuda" if made.device != "cpu" and torch.cuda.is_available() else "cpu"
        key = (record.suite, record.workload, made.backend, device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None
            suite = self._suites.load(record.suite)
            part = suite.model_copy(update={"workload": (suite.find_workload(record.workload),)})
            (workload,) = load_workloads(part, self._suites.source(record.suite), self._data_dirs)
            self._loaded = (key, _engine(workload, made.backend, device))
        return self._loaded[1]


def _engine(workload: Workload, backend: str, device: str) -> Engine:
    """Return an engine with a backend, or another one if this machine cannot compile."""
    engine = Engine(workload, backend=backend, device=device)
    if backend == "compiled":
        try:
            engine.warm_up({frozenset()}, has_open_optimizers=False)
        except CompilationError:
            return Engine(workload, device=device)
    return engine


def _train(engine: Engine, entry: SchedulerEntry, record: RunRecord) -> RunRecord:
    """Retrain one report or varied run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(record.provenance.threads)
    try:
        seeds = run_seeds(record.role, record.study, record.seed + 1)[-1:]
        change = Change.of_record(record)
        job = Job(record.workload, entry.name, record.role, 0, range(0), 1, () if change is None else (change,))
        engine = engine.with_spec(job.spec(engine.workload.spec))
        if engine.backend.name == "compiled":
            optimizer = engine.workload.spec.optimizer.name
            engine.warm_up({frozenset(entry.cls.needs)}, entry.open_optimizer(optimizer) is not None)
        result = drive(engine, [contestant(entry, record.config)], seeds)
        test = result.population.evaluate(engine.workload.dataset.test.to(engine.device, engine.dtype))
        recorder = Recorder(record.suite, record.suite_hash, record.custom, record.study, engine, entry)
        (again,) = recorder.records(job, [(record.trial, record.config)], result, test, 0, 0.0)
        return again
    finally:
        torch.set_num_threads(threads)


def _judge(record: RunRecord, again: RunRecord, runs: Sequence[RunRecord]) -> Outcome:
    differing = _differing(record.provenance, again.provenance)
    before, now = clipped_loss(record), clipped_loss(again)
    if not differing:
        ok = (again.status, again.metrics, compact_record(again).curve) == (
            record.status,
            record.metrics,
            record.curve,
        )
        return Outcome(record, ok, "bit-equal" if ok else f"test loss {now!r}, recorded {before!r}; expected bit-equal")
    losses = [clipped_loss(run) for run in runs]
    allowed = max(max(losses) - min(losses), _ROUNDING * before)
    ok = abs(now - before) <= allowed
    verdict = "within" if ok else "outside"
    text = f"test loss {now:.6g}, recorded {before:.6g}; {verdict} the range of its seeds, {allowed:.2g}"
    return Outcome(record, ok, f"{text} (different here: {', '.join(differing)})")


def _differing(before: Provenance, now: Provenance) -> list[str]:
    """Return the conditions for bit equality that differ; an unknown processor always differs."""
    same = {
        "torch": before.versions.get("torch") == now.versions.get("torch"),
        "processor": before.cpu == now.cpu != "",
        "number of threads": before.threads == now.threads,
        "device": before.device == now.device,
        "backend": before.backend == now.backend,
    }
    return [name for name, holds in same.items() if not holds]


def _entry_of(record: RunRecord) -> tuple[object, ...]:
    r = record
    return r.suite_hash, r.workload, r.scheduler, r.ruleset, r.study, r.factor, r.multiple
