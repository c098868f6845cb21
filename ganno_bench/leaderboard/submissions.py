"""Submissions to the leaderboard: what a folder of one holds, and how it is read.

submissions/SUITE/NAME/submission.toml   who submits what, and what it took
submissions/SUITE/NAME/records.jsonl     report runs, and varied ones, compact
submissions/SUITE/NAME/studies.jsonl     tuning studies, in short; not for zero-shot entries

All of it may have been written by anyone. It is data: nothing in it is executed, and no path or URL in it is followed.
Strings that were read can be printed, on one line. Whoever makes HTML or Markdown of them has to escape them.
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
"""File -> most bytes that it may have."""
_MAX_LINE = 64 * 1024
_MAX_LINES = 10_000

_SLUG = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")
_URL = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?([/?#][A-Za-z0-9._~:/?#@!$&()*+,;=%-]*)?")


def _slug(name: str) -> str:
    if not is_slug(name):
        raise PydanticCustomError(
            "slug", "takes lower-case letters and digits, with single dots and hyphens between, at most 64"
        )
    return name


def _url(url: str) -> str:
    if url and (len(url) > 300 or not _URL.fullmatch(url)):
        raise PydanticCustomError("url", "is no plain web address, http or https, of at most 300 characters")
    return url


Slug = Annotated[str, AfterValidator(_slug)]
"""A name that is a folder's name on every system."""
Line = Annotated[str, Field(min_length=1, max_length=300)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Url = Annotated[str, AfterValidator(_url)]
"""A web address or nothing, without a user's name, and without what could end an attribute of HTML."""
_Count = Annotated[int, Field(ge=0)]


class SubmissionCost(Config):
    """What an entry cost, all workloads and studies together."""

    updates: _Count
    """Of the report runs and varied ones."""
    tuning_updates: _Count
    """Of the tuning runs."""
    wall_seconds: Annotated[float, Field(ge=0)]
    """Of all of them."""


class Submission(Config):
    """What is said of a submission: the file `submission.toml`."""

    format: Literal[2] = 2
    name: Slug
    """Under which it stands on the leaderboard: the folder's."""
    description: Line
    author: Annotated[str, Field(max_length=100)] = ""
    url: Url = ""
    """Where code or a paper lies."""
    suite: Slug
    suite_hash: Hash
    ruleset: Ruleset
    scheduler: Line
    """Name of the scheduler in its records."""
    ref: Line
    """Reference that it was run by, without the folders of the machine that it was run on."""
    code: Line
    """What stands for its code; see `ganno_bench.schedulers.registry.code_of`."""
    studies: Annotated[tuple[_Count, ...], Field(min_length=1, max_length=10)]
    """Indices of its independent tuning studies; (0,) for a zero-shot entry."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    """Of its last run."""
    open_optimizer: dict[str, Line] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Workload's optimizer -> `package.Class` of the released one that replaced it; empty where it was kept."""
    cost: SubmissionCost
    versions: dict[str, Line]
    """Package -> version, several ones with `/` between them."""
    search_space: dict[str, Annotated[dict[str, Range], Field(max_length=20)]] = Field(
        default_factory=dict, exclude_if=lambda value: not value
    )
    """Optimizer -> hyperparameter -> distribution and default; empty for a zero-shot entry."""
    policy: PolicyCard | None = None
    """The card of a learned policy; None for others."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a submission of format 1 with what stands for its code."""
        return with_code(data, key="format", versioned=False)

    def text(self) -> str:
        """Return it as TOML."""
        comment = "# Made by `ganno-bench leaderboard submit`. Description, author and url may be edited.\n\n"
        return comment + tomli_w.dumps(_without_none(self.model_dump(mode="json")))


@dataclass(frozen=True)
class Submitted:
    """A submission that was read.

    Attributes:
        info: What is said of it.
        records: Its report runs, and varied ones.
        studies: Its tuning studies.
    """

    info: Submission
    records: list[RunRecord]
    studies: list[StudyRecord]

    @property
    def ranked_records(self) -> list[RunRecord]:
        """Its records under the name of the submission, which no baseline of the suite has."""
        return [record.model_copy(update={"scheduler": self.info.name}) for record in self.records]

    @property
    def ranked_studies(self) -> list[StudyRecord]:
        """Its studies under the name of the submission."""
        return [study.model_copy(update={"scheduler": self.info.name}) for study in self.studies]


def read_submissions(root: Path) -> list[Submitted]:
    """Read all submissions of a leaderboard, sorted by suite and name.

    The files are read as a stranger's, and have to be well-formed. Whether they keep the benchmark's rules is what
    `ganno_bench.leaderboard.validate.check_leaderboard` says, which is to be asked before they are published.

    Args:
        root: The leaderboard's folder; one without submissions has none.

    Raises:
        SubmissionError: One of them is not well-formed; the message has the first thing that is wrong.
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
    """Return the folders of all submissions of a leaderboard, links left out."""
    suites = folders_in(root / "submissions")
    return [folder for suite in suites for folder in folders_in(suite)]


def parse_submission(folder: Path, faults: Faults) -> Submitted | None:
    """Read the files of a submission; None where one of them is not well-formed, which `faults` then says."""
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
    """Read a file of JSON lines, of which none may be empty; where nothing is wrong, item i is line i + 1."""
    found: list[C] = []
    try:
        text = read_text(folder / name, max_bytes)
        if text and not text.endswith("\n"):
            raise SubmissionError("does not end with a line's end")
        if (n_lines := text.count("\n")) > _MAX_LINES:
            raise SubmissionError(f"has more than {_MAX_LINES} lines (value: {n_lines})")
    except SubmissionError as error:
        faults.add(name, str(error))
        return found
    for number, line in enumerate(text.split("\n")[:-1], 1):
        where = f"{name}:{number}"
        try:
            if len(line) > _MAX_LINE:
                raise SubmissionError(f"is longer than {_MAX_LINE} characters")
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
    """Whether a name is one that a submission or a challenge can have."""
    return len(name) <= 64 and _SLUG.fullmatch(name) is not None


def folders_in(parent: Path) -> list[Path]:
    """Return the folders in a folder, sorted, links left out; none where it is not there."""
    if not parent.is_dir() or parent.is_symlink():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def _without_none(data: dict[str, object]) -> dict[str, object]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }
