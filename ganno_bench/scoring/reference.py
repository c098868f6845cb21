"""The reference: tuned cosine. Every score is relative to its loss on the same workload."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from ganno_bench.core.config import Config, parse_config
from ganno_bench.core.errors import ConfigError, RecordError
from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.metrics import NOTHING_LEARNED, SOLVED, clipped_loss

__all__ = [
    "REFERENCE",
    "REFERENCE_STUDY",
    "ReferenceValues",
    "is_reference",
    "read_reference",
    "reference_losses",
    "reference_suites",
    "reference_values",
    "remark",
]

REFERENCE = "cosine"
"""Name of the scheduler; the reference is its tuned entry."""

REFERENCE_STUDY = 0
"""The tuning study of the committed reference; other studies show how much the luck of tuning changes scores."""

_FORM = "{suite hash: {workload: {loss, spread, target, fingerprint}}}"


def is_reference(record: RunRecord) -> bool:
    """Return whether a record is a report run of the reference."""
    return (record.scheduler, record.ruleset, record.role) == (REFERENCE, "tuned", "report")


class ReferenceValues(Config):
    """The committed results of the reference on one workload."""

    loss: Annotated[float, Field(ge=0)]
    """Median over the report seeds of the final test loss, nats. Scores are relative to it."""
    spread: Annotated[float, Field(ge=0)]
    """Interquartile range of these losses, nats."""
    target: Annotated[float, Field(ge=0)]
    """Median over the report seeds of the final validation loss, nats."""
    fingerprint: str
    """Fingerprint of the dataset of these runs."""


def reference_values(runs: Sequence[RunRecord]) -> ReferenceValues:
    """Compute the values to commit from the report runs of the reference on one workload."""
    losses = [clipped_loss(run) for run in runs]
    low, high = np.quantile(losses, (0.25, 0.75))
    return ReferenceValues(
        loss=float(np.median(losses)),
        spread=float(high - low),
        target=float(np.median([run.objective for run in runs])),
        fingerprint=runs[0].dataset_fingerprint,
    )


def read_reference(suite_hash: str, path: Path) -> dict[str, ReferenceValues]:
    """Read the committed reference of a suite, by workload; empty if there is none.

    Args:
        suite_hash: Hash of the suite.
        path: A file `{suite_hash: {workload: {"loss": ..., "spread": ..., "target": ..., "fingerprint": ...}}}`. A
            missing file means that nothing is committed.

    Raises:
        ConfigError: The file does not have this form.
    """
    found = _read(path).get(suite_hash, {})
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise ConfigError(f"{path}: key {suite_hash!r}: must have the form {_FORM} (value: {found!r})")
    return {
        workload: parse_config(ReferenceValues, values, f"{path}: {suite_hash}.{workload}")
        for workload, values in found.items()
    }


def reference_suites(path: Path) -> set[str]:
    """Return the hashes of the suites with a committed reference; see `read_reference`."""
    return set(_read(path))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must have the form {_FORM} (value: {content!r})")
    return content


def reference_losses(records: Iterable[RunRecord], committed: Mapping[str, float]) -> dict[str, float]:
    """Return the reference loss of each workload, nats.

    It is the committed loss if there is one, or else the median over the report runs of tuned cosine in the records.

    Raises:
        RecordError: A workload has neither, or its chance loss is 0, so that there is nothing to learn.
    """
    runs: dict[str, list[float]] = {}
    needed: dict[str, RunRecord] = {}
    for record in records:
        if record.role == "report":
            needed.setdefault(record.workload, record)
        if is_reference(record):
            runs.setdefault(record.workload, []).append(clipped_loss(record))
    found = {workload: float(np.median(losses)) for workload, losses in runs.items()} | dict(committed)
    for workload, record in needed.items():
        if record.chance_loss <= 0:
            raise RecordError(
                f"workload {workload!r} of {record.suite}@{record.suite_hash} cannot be scored: its chance loss is "
                f"{record.chance_loss:g}, because its data have a single class or token"
            )
        if workload not in found:
            raise RecordError(
                f"workload {workload!r} of {record.suite}@{record.suite_hash} has no reference to score against: "
                f"{'custom runs do not use committed results' if record.custom else 'no results are committed'}, and "
                f"the records have no report runs of tuned {REFERENCE!r}; add --scheduler {REFERENCE} to the run"
            )
    return found


def remark(workload: str, loss: float, chance: float) -> str | None:
    """Return a warning for a workload whose scores say little, a line of text; None if there is none.

    Args:
        workload: Its id.
        loss: Reference loss, nats.
        chance: Chance loss, nats.
    """
    if loss >= NOTHING_LEARNED * chance:
        return f"{workload}: tuned {REFERENCE} ends at chance, so scores on this workload compare with guessing."
    if loss <= SOLVED * chance:
        return (
            f"{workload}: tuned {REFERENCE} solves it (loss: {loss:.2g} nats), so all losses below a thousandth of "
            "chance count as equal."
        )
    return None
