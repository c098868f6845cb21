"""The reference: the loss of tuned cosine on each workload, which every score is relative to."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ganno_bench.core.errors import ConfigError, RecordError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.resources import resource_dir
from ganno_bench.scoring.metrics import clipped_loss

__all__ = ["REFERENCE", "is_reference", "read_reference", "reference_losses"]

REFERENCE = "cosine"
"""The scheduler, tuned."""


def is_reference(record: RunRecord) -> bool:
    """Return whether a record is a report run of the reference."""
    return (record.scheduler, record.ruleset, record.role) == (REFERENCE, "tuned", "report")


def read_reference(suite_hash: str, path: Path | None = None) -> dict[str, float]:
    """Return the committed reference losses of a suite, nats by workload; empty where none are committed.

    Args:
        suite_hash: Hash of the suite.
        path: A file `{suite_hash: {workload: loss}}`; by default the project's `baselines/reference.json`.

    Raises:
        ConfigError: The file is not of this form.
    """
    path = path or resource_dir("baselines") / "reference.json"
    if not path.is_file():
        return {}
    try:
        losses = json.loads(path.read_text(encoding="utf-8")).get(suite_hash, {})
        found = {str(workload): float(loss) for workload, loss in losses.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is not of the form {{suite hash: {{workload: loss}}}}: {error}") from None
    for workload, loss in found.items():
        if not 0 < loss < float("inf"):
            raise ConfigError(f"{path}: key '{suite_hash}.{workload}': a reference loss is positive (value: {loss})")
    return found


def reference_losses(records: Iterable[RunRecord], committed: Mapping[str, float]) -> dict[str, float]:
    """Return the reference loss of each workload, nats.

    It is the committed one; where none is, the median over the report runs of tuned cosine among the records.

    Raises:
        RecordError: A workload has neither.
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
        if workload not in found:
            raise RecordError(
                f"workload {workload!r} of {record.suite}@{record.suite_hash} has no reference to score against: "
                f"none is committed, and there are no report runs of tuned {REFERENCE!r} among the records"
            )
    return found
