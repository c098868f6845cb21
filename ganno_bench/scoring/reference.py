"""The reference: the loss of tuned cosine on each workload, which every score is relative to."""

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
"""The scheduler, tuned."""

REFERENCE_STUDY = 0
"""The tuning study that is the committed reference; others show how much of a score is the luck of tuning."""

_FORM = "{suite hash: {workload: {loss, spread, target, fingerprint}}}"


def is_reference(record: RunRecord) -> bool:
    """Return whether a record is a report run of the reference."""
    return (record.scheduler, record.ruleset, record.role) == (REFERENCE, "tuned", "report")


class ReferenceValues(Config):
    """What is committed of the reference on one workload."""

    loss: Annotated[float, Field(ge=0)]
    """Median over the report seeds of the final test loss, nats: what scores are relative to."""
    spread: Annotated[float, Field(ge=0)]
    """Interquartile range of these losses, nats."""
    target: Annotated[float, Field(ge=0)]
    """Median over the report seeds of the final validation loss, nats."""
    fingerprint: str
    """Fingerprint of the dataset that it holds for."""


def reference_values(runs: Sequence[RunRecord]) -> ReferenceValues:
    """Return what is to be committed, from the report runs of the reference on one workload."""
    losses = [clipped_loss(run) for run in runs]
    low, high = np.quantile(losses, (0.25, 0.75))
    return ReferenceValues(
        loss=float(np.median(losses)),
        spread=float(high - low),
        target=float(np.median([run.objective for run in runs])),
        fingerprint=runs[0].dataset_fingerprint,
    )


def read_reference(suite_hash: str, path: Path) -> dict[str, ReferenceValues]:
    """Return what is committed of the reference of a suite, by workload; empty where nothing is.

    Args:
        suite_hash: Hash of the suite.
        path: A file `{suite_hash: {workload: {"loss": ..., "spread": ..., "target": ..., "fingerprint": ...}}}`, which
            need not exist.

    Raises:
        ConfigError: The file is not of this form.
    """
    found = _read(path).get(suite_hash, {})
    if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
        raise ConfigError(f"{path}: key {suite_hash!r}: is not of the form {_FORM} (value: {found!r})")
    return {
        workload: parse_config(ReferenceValues, values, f"{path}: {suite_hash}.{workload}")
        for workload, values in found.items()
    }


def reference_suites(path: Path) -> set[str]:
    """Return the hashes of the suites that a reference is committed of; see `read_reference`."""
    return set(_read(path))


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: is not of the form {_FORM} (value: {content!r})")
    return content


def reference_losses(records: Iterable[RunRecord], committed: Mapping[str, float]) -> dict[str, float]:
    """Return the reference loss of each workload, nats.

    It is the committed one; where none is given, the median over the report runs of tuned cosine among the records.

    Raises:
        RecordError: A workload has neither, or there is nothing to learn on it.
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
                f"workload {workload!r} of {record.suite}@{record.suite_hash} has nothing to score: its chance loss is "
                f"{record.chance_loss:g}, as there is a single class, or token"
            )
        if workload not in found:
            raise RecordError(
                f"workload {workload!r} of {record.suite}@{record.suite_hash} has no reference to score against: "
                f"{'a custom run has none of the committed ones' if record.custom else 'none is committed'}, and there "
                f"are no report runs of tuned {REFERENCE!r} among the records; add --scheduler {REFERENCE} to the run"
            )
    return found


def remark(workload: str, loss: float, chance: float) -> str | None:
    """Return what a reader of scores on a workload must know of its reference, a sentence; None: nothing.

    Args:
        workload: Its id.
        loss: Reference loss, nats.
        chance: Chance loss, nats.
    """
    if loss >= NOTHING_LEARNED * chance:
        return f"{workload}: tuned {REFERENCE} ends at chance, so a score there compares with guessing."
    if loss <= SOLVED * chance:
        return (
            f"{workload}: tuned {REFERENCE} solves it, with {loss:.2g} nats; losses below a thousandth of chance tie."
        )
    return None
