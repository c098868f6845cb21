"""The folder of committed baselines: what lies where, and how it is read.

SCHEDULER.toml                    tuned values with their provenance, and the search space they were found in
records/SUITE/SCHEDULER.jsonl.gz  report runs, and varied ones, compact
studies/SUITE/SCHEDULER.jsonl     tuning studies, in short
reference.json                    what scores are relative to: tuned cosine, study 0

All of it is generated and sorted. SCHEDULER is the name of an entry as a file name; see `slug`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import quote, unquote

import tomli_w

from ganno_bench.core.config import Config, parse_config, read_toml
from ganno_bench.core.errors import BaselineError
from ganno_bench.core.files import read_file
from ganno_bench.core.lines import check_line, parse_line
from ganno_bench.core.records import RunRecord, dump_record
from ganno_bench.core.resources import baselines_dir
from ganno_bench.core.studies import StudyRecord, dump_study
from ganno_bench.core.versions import with_code
from ganno_bench.scoring.comparison import Baselines, Comparison, compare
from ganno_bench.scoring.reference import read_reference

__all__ = [
    "BaselineFile",
    "BaselineFolder",
    "TunedValue",
    "compare_with",
    "of_suite",
    "place",
    "read_baselines",
    "read_lines",
    "record_lines",
    "slug",
    "study_lines",
    "unslug",
]

C = TypeVar("C", bound=Config)


class TunedValue(Config):
    """The configuration of an entry on a workload, and where it comes from."""

    suite: str
    suite_hash: str
    workload: str
    optimizer: str
    dataset_fingerprint: str
    study: int
    trials: int
    """0 for a zero-shot entry, whose configuration is frozen."""
    winner: int
    """Index of the trial that won."""
    sampler: str
    tuning_seeds: int
    """Seeds of each trial: index 0, 1, ... of this study's tuning seeds."""
    report_seeds: int
    """Seeds of the report: index 0, 1, ... of the report seeds, which all studies share."""
    val_loss: float | None = None
    """Objective of the winner, nats: final validation loss, mean over the tuning seeds."""
    config: dict[str, float | int | str | bool]
    git_commit: str
    """Commit of the checkout that wrote it, `-dirty` after it where code differed; empty outside a checkout."""
    date: str
    versions: dict[str, str]

    @property
    def key(self) -> tuple[str, str, int]:
        """What it is the value of: suite hash, workload, study."""
        return self.suite_hash, self.workload, self.study


class BaselineFile(Config):
    """All values of one entry."""

    schema_version: Literal[2] = 2
    name: str
    ref: str
    code: str
    """What stands for its code; see `ganno_bench.schedulers.registry.code_of`."""
    ruleset: Literal["tuned", "zero-shot"]
    search_space: dict[str, dict[str, dict[str, Any]]]
    """Optimizer -> hyperparameter -> distribution and default; a snapshot of the code's, for readers."""
    value: tuple[TunedValue, ...]

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a file of version 1, which had none, with what stands for its code."""
        return with_code(data, versioned=False)

    def text(self) -> str:
        """Return it as TOML."""
        command = f"ganno-bench tune SUITE --scheduler {shlex.quote(self.ref)} --write-baselines"
        comment = f"# Generated, never edited by hand: {command}\n\n"
        return comment + tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


class BaselineFolder:
    """The files of one folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Name a folder, which need not exist; by default the project's."""
        self.path = path or baselines_dir()

    @property
    def reference(self) -> Path:
        """The file of the reference."""
        return self.path / "reference.json"

    def toml(self, scheduler: str) -> Path:
        """Return the file of an entry's values."""
        return self.path / f"{slug(scheduler)}.toml"

    def records(self, suite: str, scheduler: str) -> Path:
        """Return the file of an entry's report runs."""
        return self.path / "records" / suite / f"{slug(scheduler)}.jsonl.gz"

    def studies(self, suite: str, scheduler: str) -> Path:
        """Return the file of an entry's tuning studies."""
        return self.path / "studies" / suite / f"{slug(scheduler)}.jsonl"

    def read_toml(self, file: Path) -> BaselineFile:
        """Read the values of an entry.

        Raises:
            ConfigError: The file cannot be read, or is not of this form.
        """
        return parse_config(BaselineFile, read_toml(file), str(file))


def slug(name: str) -> str:
    """Return the name of an entry as a file name, from which `unslug` gets it back: `policy:x` is `policy+x`."""
    return quote(name, safe=":@").replace(":", "+")


def unslug(stem: str) -> str:
    """Return the name of the entry that a file name stands for."""
    return unquote(stem.replace("+", ":"))


def read_baselines(suite: str, suite_hash: str, folder: BaselineFolder) -> Baselines:
    """Read what is committed of one suite, and nothing else.

    Raises:
        UserError: A file cannot be read, or is not what it should be.
    """
    return Baselines(
        records=list(_lines(RunRecord, folder.path / "records" / suite, suite_hash)),
        studies=list(_lines(StudyRecord, folder.path / "studies" / suite, suite_hash)),
        reference=read_reference(suite_hash, folder.reference),
    )


def compare_with(folder: BaselineFolder | None, records: Sequence[RunRecord]) -> Comparison:
    """Put the records of a run beside the committed baselines of its suite; None is a comparison without any."""
    if folder is None or not records:
        return Comparison(records)
    return compare(records, read_baselines(records[0].suite, records[0].suite_hash, folder))


def read_lines(model: type[C], file: Path, wanted: Callable[[bytes], bool] = lambda line: True) -> Iterator[C]:
    """Read a file of JSON lines, none where it does not exist.

    Args:
        model: What a line is.
        file: The file.
        wanted: Whether a line is to be read at all.

    Raises:
        RecordError: A line is corrupt.
        BaselineError: The file cannot be read.
    """
    try:
        content = read_file(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise BaselineError(f"{file}: cannot be read: {error.strerror or error}") from None
    for number, line in enumerate(content.splitlines(), 1):
        if wanted(line):
            yield parse_line(model, line, f"{file}:{number}")
        else:
            check_line(line, f"{file}:{number}")  # a change may have made it one that is not wanted


def of_suite(suite_hash: str) -> Callable[[bytes], bool]:
    """Return what tells whether a line is of a suite, for `read_lines` to leave out others before they are parsed."""
    mark = f'"suite_hash":"{suite_hash}"'.encode()
    return lambda line: mark in line


def record_lines(records: list[RunRecord]) -> str:
    """Return report and varied runs as the text of a file, sorted."""
    return "".join(dump_record(record) + "\n" for record in sorted(records, key=place))


def place(record: RunRecord) -> tuple[str, str, int, str, float, int]:
    """Return what the runs of an entry are sorted by: suite hash, workload, study, what was varied, seed."""
    r = record
    return r.suite_hash, r.workload, r.study, r.factor or "", 1.0 if r.multiple is None else r.multiple, r.seed


def study_lines(studies: list[StudyRecord]) -> str:
    """Return tuning studies as the text of a file, sorted."""
    ordered = sorted(studies, key=lambda s: (s.suite_hash, s.workload, s.study))
    return "".join(dump_study(study) + "\n" for study in ordered)


def _lines(model: type[C], folder: Path, suite_hash: str) -> Iterator[C]:
    for file in sorted(folder.glob("[!.]*.jsonl*")):
        yield from read_lines(model, file, of_suite(suite_hash))
