"""The folder of committed baselines: its files and how to read them.

SCHEDULER.toml                    tuned values with their provenance, and the search space
records/SUITE/SCHEDULER.jsonl.gz  compact records of report and varied runs
studies/SUITE/SCHEDULER.jsonl     summaries of the tuning studies
reference.json                    the reference of scores: tuned cosine, study 0

All files are generated and sorted. SCHEDULER is the name of an entry as a file name; see `slug`.
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
    """The configuration of an entry on a workload, with its provenance."""

    suite: str
    suite_hash: str
    workload: str
    optimizer: str
    dataset_fingerprint: str
    study: int
    trials: int
    """0 for a zero-shot entry, whose configuration is frozen."""
    winner: int
    """Index of the best trial."""
    sampler: str
    tuning_seeds: int
    """Number of seeds of each trial: the first of this study's tuning seeds."""
    report_seeds: int
    """Number of seeds of the report: the first report seeds, which all studies share."""
    val_loss: float | None = None
    """Objective of the best trial, nats: final validation loss, mean over the tuning seeds."""
    config: dict[str, float | int | str | bool]
    git_commit: str
    """Commit of the checkout that wrote it, with `-dirty` if its code was changed; empty outside a checkout."""
    date: str
    versions: dict[str, str]

    @property
    def key(self) -> tuple[str, str, int]:
        """Suite hash, workload and study of the value."""
        return self.suite_hash, self.workload, self.study


class BaselineFile(Config):
    """All values of one entry."""

    schema_version: Literal[2] = 2
    name: str
    ref: str
    code: str
    """Identifier of its code; see `ganno_bench.schedulers.registry.code_of`."""
    ruleset: Literal["tuned", "zero-shot"]
    search_space: dict[str, dict[str, dict[str, Any]]]
    """Optimizer -> hyperparameter -> distribution and default; copied from the code for readers."""
    value: tuple[TunedValue, ...]

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert a file of version 1, which had a hash in place of `code`."""
        return with_code(data, versioned=False)

    def text(self) -> str:
        """Return the file's text, TOML."""
        command = f"ganno-bench tune SUITE --scheduler {shlex.quote(self.ref)} --write-baselines"
        comment = f"# Generated, never edited by hand: {command}\n\n"
        return comment + tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


class BaselineFolder:
    """The files of one folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Use a folder, which need not exist; by default the project's."""
        self.path = path or baselines_dir()

    @property
    def reference(self) -> Path:
        """The file of the reference."""
        return self.path / "reference.json"

    def toml(self, scheduler: str) -> Path:
        """Return the file of an entry's values."""
        return self.path / f"{slug(scheduler)}.toml"

    def records(self, suite: str, scheduler: str) -> Path:
        """Return the file of an entry's report and varied runs."""
        return self.path / "records" / suite / f"{slug(scheduler)}.jsonl.gz"

    def studies(self, suite: str, scheduler: str) -> Path:
        """Return the file of an entry's tuning studies."""
        return self.path / "studies" / suite / f"{slug(scheduler)}.jsonl"

    def read_toml(self, file: Path) -> BaselineFile:
        """Read the values of an entry.

        Raises:
            ConfigError: The file cannot be read, or its content is invalid.
        """
        return parse_config(BaselineFile, read_toml(file), str(file))


def slug(name: str) -> str:
    """Return the name of an entry as a file name: `policy:x` becomes `policy+x`. `unslug` is the inverse."""
    return quote(name, safe=":@").replace(":", "+")


def unslug(stem: str) -> str:
    """Return the name of the entry of a file name; the inverse of `slug`."""
    return unquote(stem.replace("+", ":"))


def read_baselines(suite: str, suite_hash: str, folder: BaselineFolder) -> Baselines:
    """Read the committed baselines of one suite.

    Raises:
        UserError: A file cannot be read or is invalid.
    """
    return Baselines(
        records=list(_lines(RunRecord, folder.path / "records" / suite, suite_hash)),
        studies=list(_lines(StudyRecord, folder.path / "studies" / suite, suite_hash)),
        reference=read_reference(suite_hash, folder.reference),
    )


def compare_with(folder: BaselineFolder | None, records: Sequence[RunRecord]) -> Comparison:
    """Compare the records of a run with the committed baselines of its suite; `folder=None` compares without any."""
    if folder is None or not records:
        return Comparison(records)
    return compare(records, read_baselines(records[0].suite, records[0].suite_hash, folder))


def read_lines(model: type[C], file: Path, wanted: Callable[[bytes], bool] = lambda line: True) -> Iterator[C]:
    """Read a file of JSON lines; a missing file has no lines.

    Args:
        model: The model of a line.
        file: The file.
        wanted: Whether to parse a line; of other lines only the checksum is checked.

    Raises:
        RecordError: A line is damaged or invalid.
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
            check_line(line, f"{file}:{number}")  # a damaged line may only look unwanted


def of_suite(suite_hash: str) -> Callable[[bytes], bool]:
    """Return a filter for `read_lines` that skips the lines of other suites before they are parsed."""
    mark = f'"suite_hash":"{suite_hash}"'.encode()
    return lambda line: mark in line


def record_lines(records: list[RunRecord]) -> str:
    """Return the text of a file with report and varied runs, sorted."""
    return "".join(dump_record(record) + "\n" for record in sorted(records, key=place))


def place(record: RunRecord) -> tuple[str, str, int, str, float, int]:
    """Return the sort key of an entry's runs: suite hash, workload, study, varied factor and multiple, seed."""
    r = record
    return r.suite_hash, r.workload, r.study, r.factor or "", 1.0 if r.multiple is None else r.multiple, r.seed


def study_lines(studies: list[StudyRecord]) -> str:
    """Return the text of a file with tuning studies, sorted."""
    ordered = sorted(studies, key=lambda s: (s.suite_hash, s.workload, s.study))
    return "".join(dump_study(study) + "\n" for study in ordered)


def _lines(model: type[C], folder: Path, suite_hash: str) -> Iterator[C]:
    for file in sorted(folder.glob("[!.]*.jsonl*")):
        yield from read_lines(model, file, of_suite(suite_hash))
