"""Check committed baselines without training: do the files agree with one another and with the code?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from ganno_bench.baselines.checks import Expected, check_runs, check_study
from ganno_bench.baselines.files import BaselineFile, BaselineFolder, TunedValue, read_lines, unslug
from ganno_bench.baselines.write import space_snapshot
from ganno_bench.core.config import Config
from ganno_bench.core.errors import UnknownNameError, UserError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.scoring.reference import REFERENCE, REFERENCE_STUDY, read_reference, reference_suites, reference_values
from ganno_bench.workloads.suite import Suite, WorkloadSpec, find_suite, load_suite

__all__ = ["BaselineSuites", "check_files"]

C = TypeVar("C", bound=Config)
_Key = tuple[str, str, int]


class BaselineSuites:
    """The suites whose baselines are verified: all of the project's, or the one that the user names.

    Attributes:
        only: Name of the only suite to verify; None for all.
    """

    def __init__(self, ref: str | None = None) -> None:
        """Load the only suite to verify, by name or path; None verifies all.

        Raises:
            UserError: There is no such suite, or it is invalid.
        """
        self.only = None
        self._refs: dict[str, str] = {}
        self._loaded: dict[str, Suite] = {}
        if ref is not None:
            suite = load_suite(ref)
            self.only = suite.name
            self._refs[suite.name], self._loaded[suite.name] = ref, suite

    def wanted(self, name: str) -> bool:
        """Return whether to verify a suite."""
        return self.only in (None, name)

    def load(self, name: str) -> Suite:
        """Return a suite.

        Raises:
            UserError: There is no suite of this name, or it is invalid.
        """
        if name not in self._loaded:
            self._loaded[name] = load_suite(name)
        return self._loaded[name]

    def source(self, name: str) -> Path:
        """Return the file of a suite."""
        return find_suite(self._refs.get(name, name))


def check_files(folder: BaselineFolder, suites: BaselineSuites) -> list[str]:
    """Return the faults of the files of a folder, one line each."""
    faults: list[str] = []
    for file in sorted(folder.path.glob("*.toml")):
        faults += _guarded(file, partial(_check_entry, folder, file, suites))
    for file in sorted(folder.path.glob("*/*/[!.]*.jsonl*")):
        toml = folder.toml(unslug(file.name.removesuffix(".gz").removesuffix(".jsonl")))
        if suites.wanted(file.parent.name) and not toml.exists():
            faults.append(f"{file}: belongs to {toml.name}, which is missing")
    return faults + _guarded(folder.reference, partial(_check_reference, folder, suites))


def _guarded(file: Path, check: Callable[[], Iterator[str]]) -> list[str]:
    """Run a check and return its faults; a file that cannot be read is a fault."""
    try:
        return list(check())
    except UserError as error:
        text = str(error)
        return [text if text.startswith(str(file.parent)) else f"{file}: {text}"]


def _check_entry(folder: BaselineFolder, file: Path, suites: BaselineSuites) -> Iterator[str]:
    content = folder.read_toml(file)
    if folder.toml(content.name) != file:
        yield f"{file}: key 'name': the values of {content.name!r} belong in {folder.toml(content.name).name}"
        return
    values = [value for value in content.value if suites.wanted(value.suite)]
    if not values:
        return
    yield from _check_code(file, content)
    names = {value.suite for value in values}
    names |= {
        path.parent.name for path in folder.path.glob(f"*/*/{file.stem}.jsonl*") if suites.wanted(path.parent.name)
    }
    for suite in sorted(names):
        own = {value.key: value for value in values if value.suite == suite}
        records_file, studies_file = folder.records(suite, content.name), folder.studies(suite, content.name)
        records = _by_key(read_lines(RunRecord, records_file), lambda r: (r.suite_hash, r.workload, r.study))
        studies = _by_key(read_lines(StudyRecord, studies_file), lambda s: (s.suite_hash, s.workload, s.study))
        for where, found in ((records_file, records), (studies_file, studies)):
            for key in sorted(found.keys() - own.keys()):
                yield f"{where}: {_name(key)}: {file.name} has no value for these"
        for key, value in sorted(own.items()):
            for fault in _check_value(value, suites):
                yield f"{file}: {_name(key)}: {fault}"
            expected = _expected(content, value)
            for fault in check_runs(expected, records.get(key, []), suites.load(suite).variation):
                yield f"{records_file}: {_name(key)}: {fault}"
            for fault in check_study(expected, studies.get(key, [])):
                yield f"{studies_file}: {_name(key)}: {fault}"


def _check_code(file: Path, content: BaselineFile) -> Iterator[str]:
    entry = load_scheduler(content.ref)
    if entry.name != content.name:
        yield f"{file}: key 'ref': {content.ref!r} loads {entry.name!r}, not {content.name!r}"
        return
    if entry.code != content.code:
        yield f"{file}: key 'code': the code has changed since ({content.code}, now {entry.code})"
    if entry.zero_shot != (content.ruleset == "zero-shot"):
        ruleset = "zero-shot" if entry.zero_shot else "tuned"
        yield f"{file}: key 'ruleset': must be {ruleset!r}, as in the code (value: {content.ruleset!r})"
    optimizers = {value.optimizer for value in content.value}
    if optimizers != set(content.search_space):
        yield (
            f"{file}: key 'search_space': must be for {sorted(optimizers)}, the optimizers of the values "
            f"(value: {sorted(content.search_space)})"
        )
    for optimizer, space in content.search_space.items():
        if space != (now := space_snapshot(entry, optimizer)):
            names = sorted(name for name in {*space, *now} if space.get(name) != now.get(name))
            yield f"{file}: key 'search_space.{optimizer}': differs from the code in {', '.join(map(repr, names))}"


def _check_value(value: TunedValue, suites: BaselineSuites) -> Iterator[str]:
    suite = suites.load(value.suite)
    if value.suite_hash != suite.hash:
        right = f"must be {suite.hash!r}, the hash of suite {value.suite!r}"
        yield f"key 'suite_hash': {right} (value: {value.suite_hash!r})"
        return
    try:
        spec: WorkloadSpec = suite.find_workload(value.workload)
    except UnknownNameError as error:
        yield str(error)
        return
    if value.optimizer != spec.optimizer.name:
        yield f"key 'optimizer': must be {spec.optimizer.name!r}, as in the suite (value: {value.optimizer!r})"
    expected = {"report_seeds": suite.budget.report_seeds}
    if value.trials:
        expected |= {"trials": suite.budget.trials, "tuning_seeds": suite.budget.tuning_seeds}
    for key, number in expected.items():
        if getattr(value, key) != number:
            yield f"key {key!r}: must be {number}, as in the suite (value: {getattr(value, key)})"


def _expected(content: BaselineFile, value: TunedValue) -> Expected:
    return Expected(
        suite=value.suite,
        dataset_fingerprint=value.dataset_fingerprint,
        scheduler=content.name,
        code=content.code,
        ruleset=content.ruleset,
        winner=value.winner,
        config=value.config,
        report_seeds=value.report_seeds,
        trials=value.trials,
        tuning_seeds=value.tuning_seeds,
        val_loss=value.val_loss,
    )


def _check_reference(folder: BaselineFolder, suites: BaselineSuites) -> Iterator[str]:
    """Compare the reference with the records of tuned cosine, and the data of all entries with the reference's."""
    file = folder.toml(REFERENCE)
    values = folder.read_toml(file).value if file.exists() else ()
    due = {value.key: value.suite for value in values if value.study == REFERENCE_STUDY and suites.wanted(value.suite)}
    hashes = reference_suites(folder.reference) if suites.only is None else {suites.load(suites.only).hash}
    hashes |= {suite_hash for suite_hash, _, _ in due}
    committed = {name: read_reference(name, folder.reference) for name in sorted(hashes)}
    for suite_hash, found in committed.items():
        for workload in found:
            if (suite_hash, workload, REFERENCE_STUDY) not in due:
                yield f"{folder.reference}: key '{suite_hash}.{workload}': {file.name} has no value for it"
    for (suite_hash, workload, study), suite in sorted(due.items()):
        records = read_lines(RunRecord, folder.records(suite, REFERENCE))
        runs = [
            r for r in records if (r.suite_hash, r.workload, r.study, r.role) == (suite_hash, workload, study, "report")
        ]
        there = committed[suite_hash].get(workload)
        if runs and (expected := reference_values(runs)) != there:
            yield (
                f"{folder.reference}: key '{suite_hash}.{workload}': must be {expected!r}, as in the records "
                f"(value: {there!r})"
            )
    for path in sorted(folder.path.glob("*.toml")):
        for value in folder.read_toml(path).value:
            reference = committed.get(value.suite_hash, {}).get(value.workload)
            if reference is not None and reference.fingerprint != value.dataset_fingerprint:
                yield f"{path}: {_name(value.key)}: its data differ from the reference's"


def _by_key(items: Iterator[C], key: Callable[[C], _Key]) -> dict[_Key, list[C]]:
    found: dict[_Key, list[C]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def _name(key: _Key) -> str:
    return f"{key[1]} of {key[0]}, study {key[2]}"
