"""Checks that records can be compared, and the order in which scoring uses them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from ganno_bench.core.errors import RecordError
from ganno_bench.core.records import RunRecord

__all__ = ["check_records"]


def check_records(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records in canonical order, each run once.

    Raises:
        RecordError: They cannot be compared. They mix custom and other runs, two suites, two versions of a workload's
            data or of a scheduler's code, two configurations where one is allowed, or two results of one run.
    """
    ordered = sorted(records, key=lambda r: (*_run(r), r.provenance.timestamp))
    _same(
        ordered,
        lambda r: None,
        lambda r: r.custom,
        lambda a, b: (
            "custom runs cannot be mixed with runs at the suite's own settings: "
            f"{_name(a if a.custom else b)} is custom, {_name(b if a.custom else a)} is not; give records of one kind"
        ),
    )
    _same(
        ordered,
        lambda r: None,
        lambda r: (r.suite, r.suite_hash),
        lambda a, b: (
            f"records of two suites cannot be compared: {a.suite}@{a.suite_hash} ({_name(a)}) "
            f"and {b.suite}@{b.suite_hash} ({_name(b)}); give records of one suite"
        ),
    )
    _same(
        ordered,
        lambda r: r.workload,
        lambda r: r.dataset_fingerprint,
        lambda a, b: (
            f"workload {a.workload!r} was run on two datasets: fingerprint {a.dataset_fingerprint!r} "
            f"({_name(a)}) and {b.dataset_fingerprint!r} ({_name(b)}); give records on one of them"
        ),
    )
    _same(
        ordered,
        lambda r: r.scheduler,
        lambda r: r.code,
        lambda a, b: (
            f"scheduler {a.scheduler!r} was run with two versions of its code: {a.code!r} and {b.code!r}; "
            "give records of one version"
        ),
    )
    reports = [record for record in ordered if record.role == "report"]
    _same(
        [record for record in ordered if record.role != "tuning"],
        lambda r: (r.scheduler, r.ruleset, r.workload, r.study, r.factor, r.multiple),
        lambda r: (r.trial, r.config),
        lambda a, b: (
            f"{_name(a)} has {a.role} runs of two configurations in study {a.study}: "
            f"trial {a.trial} {a.config} and trial {b.trial} {b.config}; give the records of one of them"
        ),
    )
    _same(
        [record for record in reports if record.ruleset == "zero-shot"],
        lambda r: r.scheduler,
        _hyperparameters,
        lambda a, b: (
            f"zero-shot entry {a.scheduler!r} has two configurations: {_hyperparameters(a)} on {a.workload!r} "
            f"and {_hyperparameters(b)} on {b.workload!r}; give the records of one of them"
        ),
    )
    _same(
        ordered,
        _run,
        lambda r: (r.config, r.status, r.metrics, r.curve),
        lambda a, b: (
            f"there are two different results of one run: {_name(a)}, {a.role} study {a.study}, "
            f"trial {a.trial}, seed {a.seed}; give the records of one of them"
        ),
    )
    return list({_run(record): record for record in reversed(ordered)}.values())[::-1]


def _run(record: RunRecord) -> tuple[str, str, str, str, int, int, int, str, float]:
    r = record
    return r.scheduler, r.ruleset, r.workload, r.role, r.study, r.trial, r.seed, r.factor or "", r.multiple or 0.0


def _name(record: RunRecord) -> str:
    return f"{record.scheduler} ({record.ruleset}) on {record.workload!r}"


def _hyperparameters(record: RunRecord) -> dict[str, float | int | str | bool]:
    """Return the configuration without base learning rate and weight decay, whose defaults depend on the optimizer."""
    return {key: value for key, value in record.config.items() if key not in {"base_lr", "weight_decay"}}


def _same(
    records: Iterable[RunRecord],
    group: Callable[[RunRecord], Hashable],
    value: Callable[[RunRecord], object],
    message: Callable[[RunRecord, RunRecord], str],
) -> None:
    """Raise a `RecordError` unless `value` is the same for all records of each group."""
    first: dict[Hashable, RunRecord] = {}
    for record in records:
        other = first.setdefault(group(record), record)
        if value(other) != value(record):
            raise RecordError(message(other, record))
