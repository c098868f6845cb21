"""The run directory: what was decided at its start, and what was measured since. Nothing in it is ever rewritten.

config.toml      settings as resolved; a later call must agree with them
suite.toml       the suite as it was
records.jsonl    one line for each training run, appended population by population
failures.jsonl   what could not be run, and why
studies.journal  Optuna's studies, unless they lie in a storage of the user's
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from filelock import FileLock, Timeout
from pydantic import Field

from ganno_bench.core.config import Config, parse_config, read_toml
from ganno_bench.core.errors import ResumeError
from ganno_bench.core.files import replace_file
from ganno_bench.core.records import RunRecord, dump_record, parse_record
from ganno_bench.core.versions import code_of_hash, with_code

__all__ = ["EntryConfig", "RunConfig", "RunDirectory"]


class EntryConfig(Config):
    """A scheduler that takes part."""

    name: str
    ref: str
    code: str
    tag: str
    """Ends the names of its studies."""


class RunConfig(Config):
    """What decides a run's results, bit for bit; pinned when the run directory is made."""

    schema_version: Literal[2] = 2
    run_id: str
    """Random; part of the names of the Optuna studies."""
    suite: str
    suite_hash: str
    custom: bool
    study: int
    trials: int
    tuning_seeds: int
    report_seeds: int
    batch: int
    device: str
    """`cpu`, or the accelerator and its name."""
    threads: int
    torch: str
    """Version of PyTorch."""
    optuna: str
    """Version of Optuna, whose sampler proposes the trials."""
    backends: dict[str, str]
    """Workload -> backend, as resolved."""
    chunks: dict[str, int]
    """Workload -> most runs in one pass."""
    fingerprints: dict[str, str]
    """Workload -> fingerprint of its dataset."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Whose code the workloads' models and datasets are, where that is not built in; see `Provenance.plugins`."""
    entries: tuple[EntryConfig, ...]

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of a run that began with version 1; its studies keep their names."""
        if "schema_version" not in data and isinstance(data.get("entries"), list):
            data = data | {"entries": [_upgraded_entry(entry) for entry in data["entries"]]}
        return with_code(data, versioned=False)


class RunDirectory:
    """A run directory that this process holds; use it as a context manager.

    Attributes:
        path: The folder.
        records: What has been recorded so far.
    """

    def __init__(self, path: Path) -> None:
        """Take hold of a folder, make it if need be, and read what is there.

        Raises:
            ResumeError: Another process is at work in it, or it cannot be made.
            RecordError: A line of its records is corrupt (a torn last line is removed by `pin` instead).
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResumeError(f"{path}: cannot be used as a run directory: {error.strerror}") from None
        self._lock = FileLock(path / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ResumeError(f"{path}: another process is at work in this run directory") from None
        except OSError as error:
            raise ResumeError(f"{path}: cannot be used as a run directory: {error.strerror}") from None
        try:
            self.records = self._read()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    @property
    def journal(self) -> Path:
        """Where Optuna's journal lies."""
        return self.path / "studies.journal"

    def pin(self, config: RunConfig, suite_text: str) -> RunConfig:
        """Fix the settings, or check them against the ones that were fixed; entries may be added.

        Settings, and a scheduler's code, may change as long as nothing was recorded with them. Only after this may
        records be added.

        Returns:
            The settings that are in force: the first call's, with new entries.

        Raises:
            ResumeError: A setting differs; the message has both values. Nothing was changed.
        """
        file = self.path / "config.toml"
        pinned = parse_config(RunConfig, read_toml(file), str(file)) if file.exists() else None
        if self.records and pinned is None:
            raise ResumeError(f"{self.path}: there are records but no config.toml; give another --out")
        try:
            if pinned is not None:
                config = _continued(file, pinned, config, {record.scheduler for record in self.records})
        except ResumeError:
            if self.records:
                raise
            pinned = None
        if pinned is None:
            replace_file(self.path / "suite.toml", suite_text)
        if config != pinned:
            replace_file(file, tomli_w.dumps(config.model_dump(mode="json")))
        if self._n_bytes is not None:
            os.truncate(self.path / "records.jsonl", self._n_bytes)
        return config

    def append(self, records: Sequence[RunRecord]) -> None:
        """Write the records of one population and wait until they are on the disk."""
        with (self.path / "records.jsonl").open("ab") as file:
            file.write(b"".join(dump_record(record).encode() + b"\n" for record in records))
            file.flush()
            os.fsync(file.fileno())
        self.records.extend(records)

    def drop_tail(self, n_records: int) -> None:
        """Remove the last records: those of a population that was cut short."""
        if n_records:
            lines = (self.path / "records.jsonl").read_bytes().splitlines(keepends=True)
            os.truncate(self.path / "records.jsonl", sum(len(line) for line in lines[:-n_records]))
            del self.records[-n_records:]

    def fail(self, **failure: Any) -> None:
        """Note what could not be run, and why."""
        with (self.path / "failures.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(failure) + "\n")

    def _read(self) -> list[RunRecord]:
        file = self.path / "records.jsonl"
        self._n_bytes: int | None = None  # of whole lines
        if not file.exists():
            return []
        content = file.read_bytes()
        self._n_bytes = content.rfind(b"\n") + 1
        lines = content[: self._n_bytes].splitlines()
        return [parse_record(line, f"{file}:{number}") for number, line in enumerate(lines, 1)]


def _upgraded_entry(entry: Any) -> Any:
    if not (isinstance(entry, dict) and isinstance(entry.get("code_hash"), str)):
        return entry
    kept = {key: value for key, value in entry.items() if key != "code_hash"}
    return kept | {"code": code_of_hash(entry["code_hash"]), "tag": entry["code_hash"][:8]}


def _continued(file: Path, pinned: RunConfig, wanted: RunConfig, recorded: Set[str]) -> RunConfig:
    for name in RunConfig.model_fields:
        if name in ("run_id", "custom", "entries"):  # `custom` follows from the budget, which says more
            continue
        before, now = getattr(pinned, name), getattr(wanted, name)
        if before != now:
            if isinstance(before, dict):
                key = next(key for key in [*before, *now] if before.get(key) != now.get(key))
                name, before, now = f"{name}.{key}", before.get(key), now.get(key)
            raise ResumeError(
                f"{file}: this run has {name} = {before!r}, not {now!r}; give the former, or another --out"
            )
    entries = {entry.name: entry for entry in pinned.entries}
    for entry in wanted.entries:
        known = entries.get(entry.name)
        if known is None or entry.name not in recorded:
            entries[entry.name] = entry
        elif known.code != entry.code:
            raise ResumeError(
                f"{file}: the code of scheduler {entry.name!r} has changed since ({known.code}, now {entry.code}); "
                "give another --out"
            )
    return pinned.model_copy(update={"entries": tuple(entries.values())})
