"""Write the results of a run as committed baselines, one entry on one workload at a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock
from optuna.distributions import distribution_to_json

from ganno_bench.baselines.files import (
    BaselineFile,
    BaselineFolder,
    TunedValue,
    place,
    read_lines,
    record_lines,
    slug,
    study_lines,
)
from ganno_bench.bench.runner import Finished
from ganno_bench.bench.store import RunConfig
from ganno_bench.core.errors import BaselineError
from ganno_bench.core.files import read_file, replace_file
from ganno_bench.core.records import RunRecord, compact_record
from ganno_bench.core.resources import checkout
from ganno_bench.core.studies import StudyRecord, study_of
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.scoring.reference import (
    REFERENCE_STUDY,
    ReferenceValues,
    is_reference,
    read_reference,
    reference_values,
)
from ganno_bench.tuning.space import default_config, search_space
from ganno_bench.tuning.study import describe_sampler

__all__ = ["BaselineWriter", "space_snapshot"]

T = TypeVar("T", TunedValue, RunRecord, StudyRecord)


class BaselineWriter:
    """Write finished results into a folder of baselines; pass `write` as `on_finished` to `run_suite`.

    An equal committed result stays as it is, with its provenance. A different one is an error, or is replaced.

    Attributes:
        folder: The folder.
        replace: Whether to replace results that differ.
        n_written: Number of results, one for each entry on each workload, that were new or replaced.
    """

    def __init__(self, folder: BaselineFolder, *, replace: bool = False) -> None:
        self.folder = folder
        self.replace = replace
        self.n_written = 0

    @staticmethod
    def check_budget(custom: bool) -> None:
        """Refuse a run with another budget than the suite's.

        Raises:
            BaselineError: It is custom.
        """
        if custom:
            raise BaselineError(
                "a custom run cannot be written as baselines; leave out --trials, --tuning-seeds and --report-seeds"
            )

    def write(self, done: Finished) -> None:
        """Write the result of one entry on one workload.

        Results on local data are not written. A zero-shot entry, which is not tuned, is written for study 0 only.

        Raises:
            BaselineError: The run is custom, or contradicts a committed result; nothing was changed.
        """
        self.check_budget(done.config.custom)
        if done.suite.dataset[done.spec.dataset].local or (
            done.entry.zero_shot and done.config.study != REFERENCE_STUDY
        ):
            return
        self.folder.path.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.path / ".lock"):
            self.n_written += _Merge(self.folder, done, self.replace).write()

    def is_needed(self, config: RunConfig, workload: str, entry: SchedulerEntry) -> bool:
        """Return whether an entry must run on a workload: its result is not committed yet, or is to be replaced.

        Raises:
            ConfigError: The file of the entry cannot be read.
        """
        file = self.folder.toml(entry.name)
        if self.replace or not file.exists():
            return True
        content = self.folder.read_toml(file)
        key = (config.suite_hash, workload, REFERENCE_STUDY if entry.zero_shot else config.study)
        there = {value.key: value.dataset_fingerprint for value in content.value}
        # If data or code differ, the entry runs and `write` raises the error.
        return content.code != entry.code or there.get(key) != config.fingerprints[workload]


def space_snapshot(entry: SchedulerEntry, optimizer: str) -> dict[str, dict[str, Any]]:
    """Return an entry's search space with an optimizer as plain data; empty for a zero-shot entry."""
    if entry.zero_shot:
        return {}
    defaults = default_config(entry, optimizer)
    snapshot = {}
    for name, distribution in search_space(entry, optimizer).items():
        plain = json.loads(distribution_to_json(distribution))
        attributes = {key: value for key, value in plain["attributes"].items() if value is not None}
        snapshot[name] = {"distribution": plain["name"], **attributes, "default": defaults[name]}
    return snapshot


class _Merge:
    """The committed results of an entry, and a new one on one workload."""

    def __init__(self, folder: BaselineFolder, done: Finished, replace: bool) -> None:
        self.folder, self.done, self.replace = folder, done, replace
        self.entry, self.suite = done.entry, done.config.suite
        self.key = (done.config.suite_hash, done.spec.id, done.config.study)
        self.where = (
            f"{self.entry.name} on {done.spec.id!r} of {self.suite}@{done.config.suite_hash}, study {self.key[2]}"
        )
        self.toml = folder.toml(self.entry.name)
        self.file = folder.read_toml(self.toml) if self.toml.exists() else None
        self.runs = [compact_record(record) for record in done.records if record.role != "tuning"]
        self.reports = [record for record in self.runs if record.role == "report"]
        self.study = study_of(done.records)
        self.value = _value_of(done, self.reports, self.study)
        self.is_reference = is_reference(self.reports[0])

    def write(self) -> bool:
        """Write the new result; return whether any file changed."""
        self._check_data()
        stale = self._is_stale()
        file = None if stale else self.file
        records_file = self.folder.records(self.suite, self.entry.name)
        studies_file = self.folder.studies(self.suite, self.entry.name)
        values, other_values = self._split(file.value if file else ())
        records, other_records = self._split(() if stale else read_lines(RunRecord, records_file))
        studies, other_studies = self._split(() if stale else read_lines(StudyRecord, studies_file))
        new_studies = [self.study] if self.study else []
        reference = self._new_reference(stale)
        differs = (
            (bool(values) and _result(values[0]) != _result(self.value))
            or (bool(records) and _essence(records) != _essence(self.runs))
            or (bool(studies) and studies != new_studies)
        )
        if differs and not self.replace:
            raise BaselineError(
                f"{self.toml}: {self.where}: the committed result differs; use --replace to overwrite it"
            )
        if differs:
            values, records, studies = [], [], []
        texts = {self.toml: self._file(file, [*other_values, *(values or [self.value])]).text()}
        if not studies:  # equal results stay as they are, even in an earlier version of the format
            texts[studies_file] = study_lines([*other_studies, *new_studies])
        if not records:
            texts[records_file] = record_lines([*other_records, *self.runs])
        if reference is not None:
            texts[self.folder.reference] = reference
        if stale:
            self._drop()
        changed = {path: text for path, text in texts.items() if text and _content(path) != text}
        for path, text in changed.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, text)
        return bool(changed)

    def _split(self, items: Iterable[T]) -> tuple[list[T], list[T]]:
        """Return the items of this workload and study, and the other items."""
        found = list(items)
        own = [item for item in found if (item.suite_hash, item.workload, item.study) == self.key]
        return own, [item for item in found if (item.suite_hash, item.workload, item.study) != self.key]

    def _check_data(self) -> None:
        """Refuse a result whose data differ from the reference's."""
        committed = read_reference(self.key[0], self.folder.reference).get(self.key[1])
        new = self.value.dataset_fingerprint
        replaced = self.is_reference and self.key[2] == REFERENCE_STUDY and self.replace
        if committed is not None and committed.fingerprint != new and not replaced:
            raise BaselineError(
                f"{self.folder.reference}: the data of {self.key[1]!r} of {self.suite} differ from the committed "
                f"reference's (fingerprint {new}, not {committed.fingerprint})"
            )

    def _is_stale(self) -> bool:
        """Whether other code made the committed results, and they are to be replaced."""
        file = self.file
        if file is None or (file.code, file.ruleset) == (self.entry.code, self.reports[0].ruleset):
            return False
        if not self.replace:
            raise BaselineError(
                f"{self.toml}: the code of scheduler {self.entry.name!r} has changed since ({file.code}, now "
                f"{self.entry.code}); use --replace to drop all results of the old code"
            )
        return True

    def _drop(self) -> None:
        for kind in ("records", "studies"):
            for file in self.folder.path.glob(f"{kind}/*/{slug(self.entry.name)}.jsonl*"):
                file.unlink()
        self.toml.unlink()

    def _new_reference(self, stale: bool) -> str | None:
        """Return the text of the reference's file with this workload added; None if this is not the reference."""
        if not self.is_reference or self.key[2] != REFERENCE_STUDY:
            return None
        path = self.folder.reference
        committed = read_reference(self.key[0], path).get(self.key[1])
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() and not stale else {}
        values: ReferenceValues = reference_values(self.reports)
        if committed is not None and committed != values and not self.replace:
            raise BaselineError(
                f"{path}: the reference on {self.key[1]!r} of {self.suite} is {committed.loss} nats, not "
                f"{values.loss}; use --replace to overwrite it"
            )
        content.setdefault(self.key[0], {})[self.key[1]] = values.model_dump(mode="json")
        return json.dumps(content, indent=2, sort_keys=True) + "\n"

    def _file(self, file: BaselineFile | None, values: list[TunedValue]) -> BaselineFile:
        optimizers = sorted({value.optimizer for value in values})
        return BaselineFile(
            name=self.entry.name,
            ref=file.ref if file else self.entry.ref,
            code=self.entry.code,
            ruleset=self.reports[0].ruleset,
            search_space={optimizer: space_snapshot(self.entry, optimizer) for optimizer in optimizers},
            value=tuple(sorted(values, key=lambda value: (value.suite, *value.key))),
        )


def _value_of(done: Finished, reports: Sequence[RunRecord], study: StudyRecord | None) -> TunedValue:
    run, budget = reports[0], done.suite.budget
    return TunedValue(
        suite=run.suite,
        suite_hash=run.suite_hash,
        workload=run.workload,
        optimizer=done.spec.optimizer.name,
        dataset_fingerprint=run.dataset_fingerprint,
        study=run.study,
        trials=len(study.trials) if study else 0,
        winner=run.trial,
        sampler=describe_sampler(budget.batch, budget.startup_trials) if study else "",
        tuning_seeds=budget.tuning_seeds if study else 0,
        report_seeds=len(reports),
        val_loss=study.trials[run.trial].objective if study else None,
        config=run.config,
        git_commit=_git_commit(),
        date=max(report.provenance.timestamp for report in reports)[:10],
        versions=dict(sorted(run.provenance.versions.items())),
    )


def _result(value: TunedValue) -> dict[str, Any]:
    """Return the part of a value that a repetition must reproduce."""
    return value.model_dump(exclude={"git_commit", "date", "versions", "sampler"})


def _essence(records: Sequence[RunRecord]) -> list[Any]:
    """Return the parts of report and varied runs that a repetition must reproduce."""
    return [
        (
            r.role,
            r.factor,
            r.multiple,
            r.seed,
            r.trial,
            r.code,
            r.dataset_fingerprint,
            r.config,
            r.status,
            r.metrics,
            r.curve,
        )
        for r in sorted(records, key=place)
    ]


def _content(path: Path) -> str | None:
    return read_file(path).decode() if path.exists() else None


@cache
def _git_commit() -> str:
    root = checkout()
    if root is None:
        return ""
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", "ganno_bench", "suites", "policies")
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f"{commit}-dirty" if changed else commit


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
