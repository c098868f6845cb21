"""The run directory: the settings of a run, fixed at its start, and its results. Results are appended, never rewritten.

config.toml      resolved settings; a later call must agree with them
suite.toml       copy of the suite
records.jsonl    one line for each training run, appended population by population
records.end      number of lines written to records.jsonl, and a hash of them
failures.jsonl   what failed, and why
studies.journal  Optuna's studies, unless the user names another storage
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from filelock import FileLock, Timeout
from pydantic import Field

from ganno_bench.core.append_only import AppendOnlyFile, EndError
from ganno_bench.core.config import Config, parse_config, read_toml
from ganno_bench.core.errors import RecordError, ResumeError
from ganno_bench.core.files import replace_file, writing
from ganno_bench.core.records import RunRecord, parse_record, record_text
from ganno_bench.core.versions import code_of_hash, with_code
from ganno_bench.workloads.suite import load_suite

__all__ = ["EntryConfig", "RunConfig", "RunDirectory"]


class EntryConfig(Config):
    """A scheduler that takes part in the run."""

    name: str
    ref: str
    code: str
    tag: str
    """Suffix of the names of its studies."""


class RunConfig(Config):
    """Everything that decides a run's results, bit for bit; fixed when the run directory is made."""

    schema_version: Literal[2] = 2
    run_id: str
    """Random part of the names of the Optuna studies."""
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
    """Origins of the workloads' models and datasets that are not built in; see `Provenance.plugins`."""
    entries: tuple[EntryConfig, ...]

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert the settings of a run of version 1; its studies keep their names."""
        if "schema_version" not in data and isinstance(data.get("entries"), list):
            data = data | {"entries": [_upgraded_entry(entry) for entry in data["entries"]]}
        return with_code(data, versioned=False)


def pinned_backends(path: Path) -> dict[str, str]:
    """Return workload -> backend of the run whose records are in a run directory; empty if there are none.

    Raises:
        ConfigError: Its config.toml is not valid.
    """
    file, records = path / "config.toml", path / "records.jsonl"
    if not (file.is_file() and records.is_file() and records.stat().st_size):
        return {}
    return parse_config(RunConfig, read_toml(file), str(file)).backends


class RunDirectory:
    """A run directory that this process has locked; use it as a context manager.

    Attributes:
        path: The folder.
        records: The records so far.
    """

    def __init__(self, path: Path) -> None:
        """Lock a folder, make it if necessary, and read its records.

        Raises:
            ResumeError: Another process uses it, or it cannot be made.
            RecordError: Its records were changed after they were written. (`pin` removes a torn last line instead.)
        """
        self.path = path
        self._file = AppendOnlyFile(path / "records.jsonl")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResumeError(
                f"{path}: cannot be used as a run directory: {error.strerror}; give another --out"
            ) from None
        self._lock = FileLock(path / ".lock", timeout=0)
        try:
            self._lock.acquire()
        except Timeout:
            raise ResumeError(
                f"{path}: another process uses this run directory; wait until it has finished, or give another --out"
            ) from None
        except OSError as error:
            raise ResumeError(
                f"{path}: cannot be used as a run directory: {error.strerror}; give another --out"
            ) from None
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
        """The file of Optuna's journal."""
        return self.path / "studies.journal"

    def pin(self, config: RunConfig, suite_text: str) -> RunConfig:
        """Fix the settings, or check them against the fixed ones; entries may be added.

        Settings and a scheduler's code may change until something is recorded with them. Call this before `append`.

        Returns:
            The settings of the run: the first call's, with new entries added.

        Raises:
            ResumeError: A setting differs; the message has both values. Nothing was changed.
        """
        file = self.path / "config.toml"
        pinned = parse_config(RunConfig, read_toml(file), str(file)) if file.exists() else None
        if self.records and pinned is None:
            raise ResumeError(f"{self.path}: has records but no config.toml; give another --out")
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
        self._file.cut()
        return config

    def check_suite(self, suite_hash: str) -> None:
        """Check that nobody edited the copy of the suite.

        Raises:
            ResumeError: Its hash has changed.
            UserError: It cannot be read.
        """
        file = self.path / "suite.toml"
        if (found := load_suite(str(file)).hash) != suite_hash:
            raise ResumeError(
                f"{file}: was edited after this run began (hash {found}, not {suite_hash}); restore it, or "
                "give another --out"
            )

    def append(self, records: Sequence[RunRecord]) -> None:
        """Write the records of one population and wait until they are on disk.

        Raises:
            StorageError: They cannot be written.
        """
        self._file.append([record_text(record) for record in records])
        self.records.extend(records)

    def drop_tail(self, n_records: int) -> None:
        """Remove the last records: those of an incomplete population."""
        if n_records:
            del self.records[-n_records:]
            self._file.cut(len(self.records))

    def what_to_do(self, n_whole: int) -> str:
        """Return the remedy if the first `n_whole` records are intact and the next one is not."""
        return (
            f"restore the file, or keep its first {n_whole} lines and remove {self._file.end.name}: the same command "
            "then trains the rest again"
        )

    def fail(self, **failure: Any) -> None:
        """Append a failure to failures.jsonl."""
        path = self.path / "failures.jsonl"
        with writing(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(failure) + "\n")

    def _read(self) -> list[RunRecord]:
        records: list[RunRecord] = []
        try:
            for line in self._file.lines():
                records.append(parse_record(line, f"{self._file.path}:{len(records) + 1}"))
        except EndError:
            raise
        except RecordError as error:
            # Without checksums, an earlier line may be the changed one.
            remedy = self.what_to_do(len(records)) if self._file.is_known else "restore the file, or give another --out"
            raise RecordError(f"{error}; {remedy}") from None
        except OSError as error:
            raise RecordError(f"{self._file.path}: cannot be read: {error.strerror or error}") from None
        return records


def _upgraded_entry(entry: Any) -> Any:
    if not (isinstance(entry, dict) and isinstance(entry.get("code_hash"), str)):
        return entry
    kept = {key: value for key, value in entry.items() if key != "code_hash"}
    return kept | {"code": code_of_hash(entry["code_hash"]), "tag": entry["code_hash"][:8]}


def _continued(file: Path, pinned: RunConfig, wanted: RunConfig, recorded: Set[str]) -> RunConfig:
    # `custom` comes last: it follows from the budget, whose keys say more.
    for name in [*(name for name in RunConfig.model_fields if name not in ("run_id", "custom", "entries")), "custom"]:
        before, now = getattr(pinned, name), getattr(wanted, name)
        if before != now:
            if isinstance(before, dict):
                key = next(key for key in [*before, *now] if before.get(key) != now.get(key))
                name, before, now = f"{name}.{key}", before.get(key), now.get(key)
            is_suite = name == "suite_hash"
            remedy = "the suite was edited: restore it" if is_suite else "use the same value"
            raise ResumeError(f"{file}: this run has {name} = {before!r}, not {now!r}; {remedy}, or give another --out")
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
