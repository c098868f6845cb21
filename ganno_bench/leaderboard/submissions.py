"""Submissions to the leaderboard: their files and how to read them.

submissions/SUITE/NAME/submission.toml   author, entry, search space, cost
submissions/SUITE/NAME/records.jsonl     compact records of report and varied runs
submissions/SUITE/NAME/studies.jsonl     summaries of the tuning studies; not for zero-shot entries

Anyone may have written these files. They are data: nothing in them is executed, and no path or URL in them is followed.
The strings that are read can be printed on one line. Code that puts them into HTML or Markdown must escape them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tomli_w
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from ganno_bench.core.checksums import unsealed
from ganno_bench.core.config import Config
from ganno_bench.core.errors import RecordError, SubmissionError
from ganno_bench.core.records import SCHEMA_VERSION, RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.core.versions import with_code
from ganno_bench.leaderboard.search_spaces import Range
from ganno_bench.leaderboard.untrusted import Faults, parse_json, parse_model, parse_toml, printable, read_text
from ganno_bench.policies.policy import PolicyCard
from ganno_bench.scoring.results import Ruleset

__all__ = [
    "FILES",
    "RECORDS",
    "STUDIES",
    "TOML",
    "Hash",
    "Line",
    "Slug",
    "Submission",
    "SubmissionCost",
    "Submitted",
    "Url",
    "folders_in",
    "is_slug",
    "parse_lines",
    "parse_submission",
    "read_submissions",
    "submission_folders",
]

C = TypeVar("C", bound=Config)

TOML, RECORDS, STUDIES = "submission.toml", "records.jsonl", "studies.jsonl"
FILES = {TOML: 64 * 1024, RECORDS: 4 * 1024**2, STUDIES: 4 * 1024**2}
"""File -> largest size, bytes."""
_MAX_LINE = 64 * 1024
_MAX_LINES = 10_000

_SLUG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?([/?#][A-Za-z0-9._~:/?#@!$&()*+,;=%-]*)?")


def _slug(name: str) -> str:
    if not is_slug(name):
        raise PydanticCustomError(
            "slug", "must have lower-case letters and digits, with single dots and hyphens between, at most 64 in all"
        )
    return name


def _url(url: str) -> str:
    if url and (len(url) > 300 or not _URL.fullmatch(url)):
        raise PydanticCustomError("url", "must be a plain web address, http or https, of at most 300 characters")
    return url


Slug = Annotated[str, AfterValidator(_slug)]
"""A name that is valid as a folder's name on every system."""
Line = Annotated[str, Field(min_length=1, max_length=300)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Url = Annotated[str, AfterValidator(_url)]
"""A web address or an empty string. User names, and characters that could end an HTML attribute, are not allowed."""
_Count = Annotated[int, Field(ge=0)]


class SubmissionCost(Config):
    """The cost of an entry, over all workloads and studies."""

    updates: _Count
    """Updates of the report and varied runs."""
    tuning_updates: _Count
    """Updates of the tuning runs."""
    wall_seconds: Annotated[float, Field(ge=0)]
    """Time of all runs."""


class Submission(Config):
    """The content of the file `submission.toml`."""

    format: Literal[2] = 2
    name: Slug
    """Name on the leaderboard, and of the folder."""
    description: Line
    author: Annotated[str, Field(max_length=100)] = ""
    url: Url = ""
    """Web address of code or a paper."""
    suite: Slug
    suite_hash: Hash
    ruleset: Ruleset
    scheduler: Line
    """Name of the scheduler in its records."""
    ref: Line
    """Reference that it was run with, without the folders of the submitter's machine."""
    code: Line
    """Identifier of its code; see `ganno_bench.schedulers.registry.code_of`."""
    studies: Annotated[tuple[_Count, ...], Field(min_length=1, max_length=10)]
    """Indices of its independent tuning studies; (0,) for a zero-shot entry."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """Date of its last run."""
    open_optimizer: dict[str, Line] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Workload's optimizer -> `package.Class` of the optimizer that replaced it; empty if none was replaced."""
    cost: SubmissionCost
    versions: dict[str, Line]
    """Package -> version; several versions are separated by `/`."""
    search_space: dict[str, Annotated[dict[str, Range], Field(max_length=20)]] = Field(
        default_factory=dict, exclude_if=lambda value: not value
    )
    """Optimizer -> hyperparameter -> distribution and default; empty for a zero-shot entry."""
    policy: PolicyCard | None = None
    """The card of a learned policy; None for other entries."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert a submission of format 1, which had a hash in place of `code`."""
        return with_code(data, key="format", versioned=False)

    def text(self) -> str:
        """Return the file's text, TOML."""
        comment = "# Made by `ganno-bench leaderboard submit`. Description, author and url may be edited.\n\n"
        return comment + tomli_w.dumps(_without_none(self.model_dump(mode="json")))


@dataclass(frozen=True)
class Submitted:
    """The files of a submission, read and well-formed.

    Attributes:
        info: The content of `submission.toml`.
        records: Its report and varied runs.
        studies: Its tuning studies.
    """

    info: Submission
    records: list[RunRecord]
    studies: list[StudyRecord]

    @property
    def ranked_records(self) -> list[RunRecord]:
        """Its records with the submission's name as the scheduler; no baseline of the suite has that name."""
        return [record.model_copy(update={"scheduler": self.info.name}) for record in self.records]

    @property
    def ranked_studies(self) -> list[StudyRecord]:
        """Its studies with the submission's name as the scheduler."""
        return [study.model_copy(update={"scheduler": self.info.name}) for study in self.studies]


def read_submissions(root: Path) -> list[Submitted]:
    """Read all submissions of a leaderboard, sorted by suite and name.

    The files are read as untrusted, and this checks their form only. Before you publish them, check the benchmark's
    rules with `ganno_bench.leaderboard.validate.check_leaderboard`.

    Args:
        root: The leaderboard's folder; it may have no submissions.

    Raises:
        SubmissionError: A submission is malformed; the message has its first fault.
    """
    found = []
    for folder in submission_folders(root):
        faults = Faults()
        submitted = parse_submission(folder, faults)
        if faults.lines or submitted is None:
            raise SubmissionError(f"{printable(str(folder))}/{faults.lines[0]}")
        found.append(submitted)
    return found


def submission_folders(root: Path) -> list[Path]:
    """Return the folders of all submissions of a leaderboard, without links."""
    suites = folders_in(root / "submissions")
    return [folder for suite in suites for folder in folders_in(suite)]


def parse_submission(folder: Path, faults: Faults) -> Submitted | None:
    """Read the files of a submission; if one is malformed, add the faults to `faults` and return None."""
    n_before = faults.n_total
    info: Submission | None = None
    try:
        info, wrong = parse_model(Submission, parse_toml(read_text(folder / TOML, FILES[TOML])))
        for what in wrong:
            faults.add(TOML, what)
    except SubmissionError as error:
        faults.add(TOML, str(error))
    records = parse_lines(RunRecord, folder, RECORDS, faults)
    studies: list[StudyRecord] = []
    if info is None or info.ruleset == "tuned" or (folder / STUDIES).exists():
        studies = parse_lines(StudyRecord, folder, STUDIES, faults)
    return None if info is None or faults.n_total > n_before else Submitted(info, records, studies)


def parse_lines(model: type[C], folder: Path, name: str, faults: Faults, max_bytes: int = FILES[RECORDS]) -> list[C]:
    """Read a file of JSON lines, none of them empty; if there are no faults, item i is line i + 1."""
    found: list[C] = []
    try:
        text = read_text(folder / name, max_bytes)
        if text and not text.endswith("\n"):
            raise SubmissionError("must end with a line break")
        if (n_lines := text.count("\n")) > _MAX_LINES:
            raise SubmissionError(f"must have at most {_MAX_LINES} lines (value: {n_lines})")
    except SubmissionError as error:
        faults.add(name, str(error))
        return found
    for number, line in enumerate(text.split("\n")[:-1], 1):
        where = f"{name}:{number}"
        try:
            if len(line) > _MAX_LINE:
                raise SubmissionError(f"must have at most {_MAX_LINE} characters (value: {len(line)})")
            data = parse_json(line)
            _, is_sealed = unsealed(line.encode())
            if is_sealed:
                del data["checksum"]
            elif isinstance(data, dict) and data.get("schema_version") == SCHEMA_VERSION:
                raise SubmissionError("key 'checksum': is missing at the end of the line")
            made, wrong = parse_model(model, data)
        except (SubmissionError, RecordError) as error:
            faults.add(where, str(error))
            continue
        for what in wrong:
            faults.add(where, what)
        if made is not None:
            found.append(made)
    return found


def is_slug(name: str) -> bool:
    """Whether a name is valid for a submission or a challenge."""
    return len(name) <= 64 and _SLUG.fullmatch(name) is not None


def folders_in(parent: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without links; empty if the folder does not exist."""
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def _without_none(data: dict[str, object]) -> dict[str, object]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }
