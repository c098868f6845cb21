"""What is on record must be what the run would have recorded: its own populations, whole, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple
from typing import Any

from ganno_bench.bench.plan import Job
from ganno_bench.bench.store import RunConfig, RunDirectory
from ganno_bench.core.errors import RecordError
from ganno_bench.core.records import RunRecord

__all__ = ["n_torn"]

_Run = tuple[object, ...]
"""Workload, scheduler, role, trial of a tuning run, factor and multiple of a varied one, seed."""


def n_torn(directory: RunDirectory, config: RunConfig, jobs_of: Callable[[RunRecord], Iterator[Job]]) -> int:
    """Return how many records belong to a population of which the last ones were never written: 0, or the last ones.

    Populations are written whole, each after the one before it of its scheduler and workload. The checksums of a file
    say whether it is as it was written; this says it of files of earlier versions, too, which have none.

    Args:
        directory: The run directory.
        config: The settings that are in force.
        jobs_of: Returns the populations of a record's scheduler on its workload, in order.

    Raises:
        RecordError: A record is of another run, is there twice, or follows one that is lost; the message names it.
    """
    plans: dict[tuple[str, str], Iterator[Job]] = {}
    due: list[_Run] = []  # of the population that was begun, the next one last
    n_there = 0
    for n_whole, record in enumerate(directory.records):
        fault = _foreign(record, config)
        if fault is None and not due:
            job = next(plans.setdefault((record.workload, record.scheduler), jobs_of(record)), None)
            due, n_there = list(_runs(job))[::-1] if job else [], 0
        run = _run_of(record)
        if fault is None and (wanted := due.pop() if due else None) != run:
            place = "nothing more of it" if wanted is None else _name(wanted)
            fault = f"is {_name(run)}, but {place} comes here: a line was lost, added or moved"
        if fault is not None:
            raise RecordError(f"{directory.path}/records.jsonl:{n_whole + 1}: {fault}; {directory.what_to_do(n_whole)}")
        n_there += 1
    return n_there if due else 0


def _runs(job: Job) -> Iterator[_Run]:
    """Yield the runs of a population, in the order in which they are recorded."""
    for index in range(job.n_runs):
        setting, seed = divmod(index, job.n_seeds)
        trial = job.trials[setting] if job.role == "tuning" else None
        change = astuple(job.changes[setting]) if job.changes else (None, None)
        yield job.workload, job.entry, job.role, trial, *change, seed


def _run_of(r: RunRecord) -> _Run:
    return r.workload, r.scheduler, r.role, r.trial if r.role == "tuning" else None, r.factor, r.multiple, r.seed


def _name(run: _Run) -> str:
    workload, scheduler, role, trial, factor, multiple, seed = run
    which = "" if trial is None else f" {trial}"
    which += "" if factor is None else f" {factor} x {multiple}"
    return f"{scheduler} on {workload!r} ({role}{which}, seed {seed})"


def _foreign(record: RunRecord, config: RunConfig) -> str | None:
    """Return what says that a record is of another run; None where nothing does."""
    wanted: dict[str, set[Any]] = {
        "suite": {config.suite},
        "suite_hash": {config.suite_hash},
        "custom": {config.custom},
        "study": {config.study},
        "workload": set(config.fingerprints),
        "dataset_fingerprint": {config.fingerprints.get(record.workload)},
        "scheduler": {entry.name for entry in config.entries},
        "code": {entry.code for entry in config.entries if entry.name == record.scheduler},
    }
    for key, right in wanted.items():
        if (there := getattr(record, key)) not in right:
            return f"key {key!r}: {there!r} is not {' or '.join(sorted(map(repr, right)))}, as in config.toml"
    return None
