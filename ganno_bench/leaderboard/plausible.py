"""Check a record for impossible values, and for values that contradict the workload or one another."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

from ganno_bench.bench.plan import Change
from ganno_bench.core.records import RunRecord, compact_record, significant
from ganno_bench.leaderboard.known import KnownSuite
from ganno_bench.schedulers.drive import spread
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["record_faults"]

_MAX_CHANCE = 20.0
"""Largest plausible loss of chance, nats: half a billion classes or tokens."""


def record_faults(record: RunRecord, known: KnownSuite) -> Iterator[str]:
    """Yield the faults of the record of a report or varied run: `key 'x': fault (value: ...)`."""
    r, suite = record, known.suite
    if (r.suite, r.suite_hash) != (suite.name, suite.hash):
        yield f"key 'suite_hash': must be {suite.name}@{suite.hash} (value: {f'{r.suite}@{r.suite_hash}'!r})"
        return
    spec = next((spec for spec in suite.workload if spec.id == r.workload), None)
    if spec is None:
        yield f"key 'workload': must be a workload of suite {suite.name!r} (value: {r.workload!r})"
        return
    if spec.id not in known.workloads:
        yield f"key 'workload': runs on local data cannot be submitted; leave them out (value: {r.workload!r})"
        return
    if r.role == "tuning":
        yield "key 'role': tuning runs cannot be submitted; submit their studies (value: 'tuning')"
        return
    if (task := suite.dataset[spec.dataset].task) != r.task:
        yield f"key 'task': must be {task!r} (value: {r.task!r})"
    yield from _chance(r, known)
    change = Change.of_record(r)
    if change is not None:
        if suite.variation is None or (change.factor, change.multiple) not in suite.variation.settings:
            what = f"the suite does not vary {change.factor} by this multiple"
            yield f"key 'multiple': {what} (value: {change.multiple!r})"
            return
        spec = spec.varied(change.factor, change.multiple)
    yield from _outcome(r, spec)
    yield from _cost(r, spec)
    if compact_record(r) != r:
        yield "is not compact: it has too many learning rates, a host, or more than six digits in its curve"
    yield from _sketch(r, spec)
    yield from _provenance(r)


def _chance(r: RunRecord, known: KnownSuite) -> Iterator[str]:
    """Check the loss of chance, at which diverged runs are scored: with too low a chance any run would score well."""
    example = known.examples.get(r.workload)
    if example is not None and not math.isclose(r.chance_loss, example.chance_loss, rel_tol=1e-6):
        yield f"key 'chance_loss': must be {example.chance_loss!r} on this workload (value: {r.chance_loss!r})"
    elif not 0 < r.chance_loss <= _MAX_CHANCE:
        yield f"key 'chance_loss': must be above 0 and at most {_MAX_CHANCE:g} (value: {r.chance_loss!r})"
    elif r.task != "language-modelling" and not _is_whole(math.exp(r.chance_loss)):
        yield f"key 'chance_loss': must be ln(classes) (value: {r.chance_loss!r})"


def _outcome(r: RunRecord, spec: WorkloadSpec) -> Iterator[str]:
    metrics = r.metrics.model_dump()
    for name, value in metrics.items():
        if value is None:
            if r.status == "completed":
                yield f"key 'metrics.{name}': must not be null, because the run completed"
        elif name.endswith("_error"):
            if not 0 <= value <= 1:
                yield f"key 'metrics.{name}': must be in [0, 1] (value: {value!r})"
        elif value < 0:
            yield f"key 'metrics.{name}': must be at least 0 (value: {value!r})"
    if r.status == "diverged":
        for name in ("test_loss", "test_error", "val_error", "train_loss"):
            if metrics[name] is not None:
                yield f"key 'metrics.{name}': must be null, because the run diverged (value: {metrics[name]!r})"
    if r.diverged_at is None:
        if r.status == "diverged":
            yield "key 'diverged_at': must not be null, because the run diverged"
    elif r.status == "completed":
        yield f"key 'diverged_at': must be null, because the run completed (value: {r.diverged_at!r})"
    elif not 0 <= r.diverged_at <= spec.n_updates:
        yield f"key 'diverged_at': must be in [0, {spec.n_updates}] (value: {r.diverged_at!r})"
    yield from _curve(r, spec)


def _curve(r: RunRecord, spec: WorkloadSpec) -> Iterator[str]:
    points = spread(spec.n_updates, spec.n_evaluations)
    if r.curve.updates != points:
        yield f"key 'curve.updates': must be {list(points)} (value: {list(r.curve.updates)})"
        return
    for name, end in (("train_loss", r.metrics.train_loss), ("val_loss", r.metrics.val_loss)):
        curve: tuple[float | None, ...] = getattr(r.curve, name)
        if len(curve) != len(points):
            yield f"key 'curve.{name}': must have {len(points)} points (value: {len(curve)})"
        elif (lowest := min((loss for loss in curve if loss is not None), default=0.0)) < 0:
            yield f"key 'curve.{name}': must have losses of at least 0 (value: {lowest!r})"
        elif r.status == "completed" and end is not None and curve[-1] != significant(end):
            yield f"key 'curve.{name}': must end at {significant(end)!r}, as in 'metrics' (value: {curve[-1]!r})"


def _sketch(r: RunRecord, spec: WorkloadSpec) -> Iterator[str]:
    updates, layers, rates = r.lr_trace.updates, r.lr_trace.layers, r.lr_trace.lr
    if [len(row) for row in rates] != [len(layers)] * len(updates):
        yield f"key 'lr_trace.lr': must have shape {(len(updates), len(layers))}, updates by layers"
    if sorted(set(updates)) != list(updates) or not all(0 <= update < spec.n_updates for update in updates):
        yield f"key 'lr_trace.updates': must increase within [0, {spec.n_updates}) (value: {list(updates)})"
    if (lowest := min((rate for row in rates for rate in row), default=0.0)) < 0:
        yield f"key 'lr_trace.lr': must have learning rates of at least 0 (value: {lowest!r})"


def _cost(r: RunRecord, spec: WorkloadSpec) -> Iterator[str]:
    if r.cost.updates != spec.n_updates:
        yield f"key 'cost.updates': must be {spec.n_updates}, as for every entry (value: {r.cost.updates!r})"
    if r.cost.wall_seconds < 0:
        yield f"key 'cost.wall_seconds': must be at least 0 (value: {r.cost.wall_seconds!r})"
    if r.cost.tuning_updates < 0:
        yield f"key 'cost.tuning_updates': must be at least 0 (value: {r.cost.tuning_updates!r})"


def _provenance(r: RunRecord) -> Iterator[str]:
    try:
        if datetime.fromisoformat(r.provenance.timestamp).tzinfo is None:
            raise ValueError
    except ValueError:
        what = "must be an ISO 8601 time with a time zone"
        yield f"key 'provenance.timestamp': {what} (value: {r.provenance.timestamp!r})"
    if r.provenance.threads < 1:
        yield f"key 'provenance.threads': must be at least 1 (value: {r.provenance.threads!r})"


def _is_whole(value: float) -> bool:
    return round(value) >= 2 and math.isclose(value, round(value), rel_tol=1e-9)
