"""Run records: one JSON line for each training run, with everything that a table or a plot is made of."""

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
"""Points that are left of a run's learning rates in a compact record."""

Factor = Literal["base_lr", "weight_decay", "horizon", "batch_size"]
"""What a varied run changes of an entry's own configuration, or of its workload."""


class Metrics(Config):
    """Where a run ended. Losses are mean cross-entropy in nats per example or token; None where it diverged."""

    train_loss: float | None
    """Mean over the last evaluation interval, on training batches."""
    val_loss: float | None
    val_error: float | None
    """Share of wrong predictions, in [0, 1]."""
    test_loss: float | None
    """None for tuning runs, too: they are never evaluated on test data."""
    test_error: float | None


class Curve(Config):
    """Losses along a run; entry i belongs to `updates[i]` updates done; None from divergence on."""

    updates: tuple[int, ...]
    train_loss: tuple[float | None, ...]
    """Mean over the updates since the last entry."""
    val_loss: tuple[float | None, ...]


class LrTrace(Config):
    """Learning rates along a run, decimated: row i is what update `updates[i]` (counted from 0) used, per layer."""

    updates: tuple[int, ...]
    layers: tuple[str, ...]
    lr: tuple[tuple[float, ...], ...]


class Cost(Config):
    """What a run cost."""

    updates: int
    tuning_updates: int
    """Updates that were spent on finding this configuration."""
    wall_seconds: float
    """This run's share of the time that its population took."""


class Provenance(Config):
    """Where a record comes from."""

    timestamp: str
    """UTC, ISO 8601."""
    host: str
    platform: str
    device: str
    """`cpu`, or the accelerator's name."""
    backend: str
    threads: int
    cpu: str = ""
    """Model and instruction set of the processor, on which the last bits depend; empty in old records."""
    versions: dict[str, str]
    """Package -> version, of all that affects results."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Whose code it was, where that is not built in: `model NAME`, ... -> package, version and hash of the code."""


class RunRecord(Config):
    """One training run."""

    schema_version: Literal[3] = 3
    suite: str
    suite_hash: str
    custom: bool
    """Whether the run departed from the suite's own budget."""
    workload: str
    dataset_fingerprint: str
    task: str
    scheduler: str
    """Name under which it is ranked."""
    code: str
    """What stands for the scheduler's code, as `revision 1`; see `ganno_bench.schedulers.registry.code_of`."""
    ruleset: Literal["tuned", "zero-shot"]
    study: int
    """Index of the independent tuning study."""
    role: Literal["tuning", "report", "varied"]
    """`varied`: the report once more, on the first of its seeds, with one factor changed."""
    trial: int
    """Index of the trial in its study; for a report and what is varied of it, of the trial that won."""
    seed: Annotated[int, Field(ge=0)]
    """Index of the seed within its role; that of a varied run is the report's."""
    factor: Factor | None = Field(default=None, exclude_if=lambda value: value is None)
    """What a varied run changes; None for others."""
    multiple: float | None = Field(default=None, validate_default=True, exclude_if=lambda value: value is None)
    """Its value over the report's; None for others."""
    config: dict[str, float | int | str | bool]
    """`base_lr`, `weight_decay` and the scheduler's hyperparameters."""
    status: Literal["completed", "diverged"]
    diverged_at: int | None
    """Index of the first update whose loss was not finite."""
    chance_loss: float
    """Loss of a predictor that knows nothing but the classes (tokens): what a run is scored at if it did worse."""
    metrics: Metrics
    curve: Curve
    lr_trace: LrTrace
    open_optimizer: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """`package.Class` of the released optimizer that replaced the workload's; None where it was kept."""
    cost: Cost
    provenance: Provenance

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a record of an earlier version with what stands for its code."""
        return with_code(data, newest=SCHEMA_VERSION)

    @field_validator("multiple")
    @classmethod
    def _goes_with_its_role(cls, multiple: float | None, known: ValidationInfo) -> float | None:
        given = {known.data.get("role") == "varied", known.data.get("factor") is not None, multiple is not None}
        if len(given) > 1:
            raise ValueError("varied runs, and no others, have a factor and a multiple")
        return multiple

    @property
    def objective(self) -> float:
        """What tuning minimises: the final validation loss, at worst chance."""
        return self.clipped(self.metrics.val_loss)

    def clipped(self, loss: float | None) -> float:
        """Return what a loss counts as: at worst chance, and chance where the run had diverged."""
        return self.chance_loss if loss is None else min(loss, self.chance_loss)


def significant(value: float) -> float:
    """Return a value with the six significant digits that curves are kept and compared with."""
    return float(f"{value:.6g}")


def compact_record(record: RunRecord) -> RunRecord:
    """Return a record as it is committed: a rounded curve, no host; metrics in full precision.

    Of the learning rates the report of the first seed keeps a sketch, for a picture: 24 points, four digits.
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
    """Return a record as one line of JSON with its checksum, without the line's end."""
    return sealed(record_text(record))


def record_text(record: RunRecord) -> str:
    """Return a record as JSON without its checksum, for a file that is only added to."""
    return json.dumps(record.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)


def parse_record(line: str | bytes, where: str) -> RunRecord:
    """Read a record from a line of JSON.

    Args:
        line: The line.
        where: File and line number, for messages.

    Raises:
        RecordError: The line is no JSON, was changed after it was written, has a schema version that cannot be read, or
            lacks something.
    """
    return parse_line(RunRecord, line, where)


def read_records(paths: Iterable[Path]) -> list[RunRecord]:
    """Read record files.

    Args:
        paths: Files (those that end in `.gz` are compressed), or run directories that hold a `records.jsonl`.

    Raises:
        RecordError: A file is missing, has a line that is no record, or is not as it was written.
    """
    records = []
    for path in paths:
        file = path / "records.jsonl" if path.is_dir() else path
        try:
            for number, line in enumerate(lines_in_place(file, partial(_lines, file), Place()), 1):
                if line.strip():
                    records.append(parse_record(line, f"{file}:{number}"))
        except OSError as error:
            raise RecordError(f"{file}: cannot be read: {error.strerror or error}") from None
    return records


def _lines(file: Path) -> list[bytes]:
    lines = read_file(file).splitlines(keepends=True)
    if lines and not lines[-1].endswith(b"\n") and not _is_json(lines[-1]):
        raise RecordError(f"{file}:{len(lines)}: the line is cut short; going on with the run mends that")
    return lines


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
