"""Check that the records of a run directory are those that its plan produces, in order, in whole populations."""

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
"""Workload, scheduler, role, trial (tuning runs), factor and multiple (varied runs), seed."""


def n_torn(directory: RunDirectory, config: RunConfig, jobs_of: Callable[[RunRecord], Iterator[Job]]) -> int:
    """Return the number of records, at the end of the file, of a population that was not written completely.

    Populations are written whole, and those of one scheduler on one workload in the order of the plan. Checksums also
    detect changes, but files of earlier versions have none.

    Args:
        directory: The run directory.
        config: The settings of the run.
        jobs_of: Returns the jobs of a record's scheduler on its workload, in order.

    Raises:
        RecordError: A record belongs to another run, is a duplicate, or follows a missing one; the message names it.
    """
    plans: dict[tuple[str, str], Iterator[Job]] = {}
    due: list[_Run] = []  # the rest of the current population, in reverse order
    n_there = 0
    for n_whole, record in enumerate(directory.records):
        fault = _foreign(record, config)
        if fault is None and not due:
            job = next(plans.setdefault((record.workload, record.scheduler), jobs_of(record)), None)
            due, n_there = list(_runs(job))[::-1] if job else [], 0
        run = _run_of(record)
        if fault is None and (wanted := due.pop() if due else None) != run:
            expected = "no further run of this scheduler and workload" if wanted is None else _name(wanted)
            fault = f"found {_name(run)}, expected {expected}: a line was lost, added or moved"
        if fault is not None:
            raise RecordError(f"{directory.path}/records.jsonl:{n_whole + 1}: {fault}; {directory.what_to_do(n_whole)}")
        n_there += 1
    return n_there if due else 0


def _runs(job: Job) -> Iterator[_Run]:
    """Yield the runs of a population in the order of their records."""
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
    """Return the fault that shows that a record belongs to another run; None if there is none."""
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
            wanted_values = " or ".join(sorted(map(repr, right)))
            return f"key {key!r}: must be {wanted_values}, as in config.toml (value: {there!r})"
    return None
