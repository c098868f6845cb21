"""Run records: one line of JSON for each run, with all data for tables and plots."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from ganno_bench.core.append_only import lines_in_place
from ganno_bench.core.checksums import Place, sealed
from ganno_bench.core.config import Config
from ganno_bench.core.errors import RecordError
from ganno_bench.core.files import read_file
from ganno_bench.core.lines import parse_line
from ganno_bench.core.versions import with_code

__all__ = [
    "SCHEMA_VERSION",
    "Cost",
    "Curve",
    "Factor",
    "LrTrace",
    "Metrics",
    "Provenance",
    "RunRecord",
    "compact_record",
    "dump_record",
    "parse_record",
    "read_records",
    "record_text",
    "significant",
]

SCHEMA_VERSION = 3
SKETCHED = 24
"""Number of points of a run's learning rates that a compact record keeps."""

Factor = Literal["base_lr", "weight_decay", "horizon", "batch_size"]
"""The value that a varied run changes, in the entry's configuration or in the workload."""


class Metrics(Config):
    """Final metrics of a run. Losses are mean cross-entropies, nats per example or token; None if the run diverged."""

    train_loss: float | None
    """Mean over the training batches since the last but one evaluation."""
    val_loss: float | None
    val_error: float | None
    """Share of wrong predictions, in [0, 1]."""
    test_loss: float | None
    """Also None for tuning runs, which are never evaluated on test data."""
    test_error: float | None


class Curve(Config):
    """Losses during a run. Entry i was measured after `updates[i]` updates; None after a divergence."""

    updates: tuple[int, ...]
    train_loss: tuple[float | None, ...]
    """Mean over the updates since the previous entry."""
    val_loss: tuple[float | None, ...]


class LrTrace(Config):
    """Learning rates at some updates of a run. Row i has each layer's rate in update `updates[i]`, counted from 0."""

    updates: tuple[int, ...]
    layers: tuple[str, ...]
    lr: tuple[tuple[float, ...], ...]


class Cost(Config):
    """Updates and time of a run."""

    updates: int
    tuning_updates: int
    """Updates of the tuning that found this configuration."""
    wall_seconds: float
    """This run's share of the time of its population."""


class Provenance(Config):
    """Origin of a record: time, machine, backend and versions."""

    timestamp: str
    """UTC, ISO 8601."""
    host: str
    platform: str
    device: str
    """`cpu`, or the accelerator's name."""
    backend: str
    threads: int
    cpu: str = ""
    """Model and instruction set of the processor; the last bits of results depend on them. Empty in old records."""
    versions: dict[str, str]
    """Package -> version, for all packages that affect results."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Plugins that took part: `KIND NAME`, such as `model NAME` -> package, version and hash of the code."""


class RunRecord(Config):
    """The record of one run."""

    schema_version: Literal[3] = 3
    suite: str
    suite_hash: str
    custom: bool
    """Whether the budget differs from the suite's own."""
    workload: str
    dataset_fingerprint: str
    task: str
    scheduler: str
    """Name of the entry in tables."""
    code: str
    """Identifier of the scheduler's code, such as `revision 1`; see `ganno_bench.schedulers.registry.code_of`."""
    ruleset: Literal["tuned", "zero-shot"]
    study: int
    """Index of the study."""
    role: Literal["tuning", "report", "varied"]
    """`varied`: a report run with one factor changed, on the first report seeds."""
    trial: int
    """Index of the trial in its study; for report and varied runs, of the best trial."""
    seed: Annotated[int, Field(ge=0)]
    """Index of the seed within its role; varied runs use the indices of the report."""
    factor: Factor | None = Field(default=None, exclude_if=lambda value: value is None)
    """What a varied run changes; None for other runs."""
    multiple: float | None = Field(default=None, validate_default=True, exclude_if=lambda value: value is None)
    """The changed value divided by the report's value; None for other runs."""
    config: dict[str, float | int | str | bool]
    """`base_lr`, `weight_decay` and the scheduler's hyperparameters."""
    status: Literal["completed", "diverged"]
    diverged_at: int | None
    """Index of the first update whose loss was not finite."""
    chance_loss: float
    """Loss of a network that has learned nothing. A run with a higher loss is scored at this value."""
    metrics: Metrics
    curve: Curve
    lr_trace: LrTrace
    open_optimizer: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """`package.Class` of the released optimizer that replaced the workload's; None if it was kept."""
    cost: Cost
    provenance: Provenance

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert a record of an earlier schema version; see `with_code`."""
        return with_code(data, newest=SCHEMA_VERSION)

    @field_validator("multiple")
    @classmethod
    def _matches_role(cls, multiple: float | None, known: ValidationInfo) -> float | None:
        given = {known.data.get("role") == "varied", known.data.get("factor") is not None, multiple is not None}
        if len(given) > 1:
            raise ValueError("a varied run must have a factor and a multiple, other runs neither")
        return multiple

    @property
    def objective(self) -> float:
        """The value that tuning minimises: the final validation loss, at most chance."""
        return self.clipped(self.metrics.val_loss)

    def clipped(self, loss: float | None) -> float:
        """Return the loss that is scored: at most chance, and chance for a diverged run (None)."""
        return self.chance_loss if loss is None else min(loss, self.chance_loss)


def significant(value: float) -> float:
    """Round to six significant digits, the precision in which curves are kept and compared."""
    return float(f"{value:.6g}")


def compact_record(record: RunRecord) -> RunRecord:
    """Return a record in the form that is committed: a rounded curve, no host, metrics in full precision.

    The report run of the first seed keeps a sketch of its learning rates for plots: 24 points, four digits. Other runs
    keep none.
    """
    curve = Curve(
        updates=record.curve.updates,
        train_loss=tuple(None if loss is None else significant(loss) for loss in record.curve.train_loss),
        val_loss=tuple(None if loss is None else significant(loss) for loss in record.curve.val_loss),
    )
    return record.model_copy(
        update={
            "curve": curve,
            "lr_trace": _sketch(record.lr_trace)
            if (record.role, record.seed) == ("report", 0)
            else LrTrace(updates=(), layers=(), lr=()),
            "provenance": record.provenance.model_copy(update={"host": ""}),
        }
    )


def _sketch(trace: LrTrace) -> LrTrace:
    last = len(trace.updates) - 1
    kept = sorted({round(last * point / (SKETCHED - 1)) for point in range(SKETCHED)}) if trace.updates else []
    return LrTrace(
        updates=tuple(trace.updates[row] for row in kept),
        layers=trace.layers,
        lr=tuple(tuple(float(f"{rate:.4g}") for rate in trace.lr[row]) for row in kept),
    )


def dump_record(record: RunRecord) -> str:
    """Return a record as one line of JSON with its checksum, without line end."""
    return sealed(record_text(record))


def record_text(record: RunRecord) -> str:
    """Return a record as JSON without checksum, for an `AppendOnlyFile`."""
    return json.dumps(record.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)


def parse_record(line: str | bytes, where: str) -> RunRecord:
    """Read a record from a line of JSON.

    Args:
        line: The line.
        where: File and line number, for messages.

    Raises:
        RecordError: The line is not valid JSON, was changed after it was written, has a schema version that cannot be
            read, or has a missing or invalid key.
    """
    return parse_line(RunRecord, line, where)


def read_records(paths: Iterable[Path]) -> list[RunRecord]:
    """Read record files.

    Args:
        paths: Files (those that end in `.gz` are compressed), or run directories that hold a `records.jsonl`.

    Raises:
        RecordError: A file is missing, has an invalid line, or was changed after it was written.
    """
    records = []
    for path in paths:
        file = path / "records.jsonl" if path.is_dir() else path
        try:
            for number, line in enumerate(lines_in_place(file, partial(_lines, file), Place()), 1):
                if line.strip():
                    records.append(parse_record(line, f"{file}:{number}"))
        except OSError as error:
            hint = "; give a run directory, such as runs/quickstart, or a file of records" if not path.exists() else ""
            raise RecordError(f"{file}: cannot be read: {error.strerror or error}{hint}") from None
    return records


def _lines(file: Path) -> list[bytes]:
    lines = read_file(file).splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n") and not _is_json(lines[-1]):
        raise RecordError(f"{file}:{len(lines)}: the line is cut short; resume the run to repair the file")
    return lines


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
