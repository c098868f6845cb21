"""Challenges: somebody says that an entry's result does not hold, and how to see it. They stand beside the entry.

challenges/SUITE/ENTRY/SLUG.toml    what is challenged, by whom, and why
challenges/SUITE/ENTRY/SLUG.jsonl   runs that show it, compact, if there are any

ENTRY is a submission's name, or that of a committed baseline as its files are called.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field

from ganno_bench.baselines.files import slug
from ganno_bench.core.config import Config
from ganno_bench.core.errors import SubmissionError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.versions import check_version
from ganno_bench.leaderboard.submissions import Line, Slug, Url, folders_in, parse_lines
from ganno_bench.leaderboard.untrusted import Faults, parse_model, parse_toml, printable, read_text

__all__ = [
    "MAX_CHALLENGE",
    "MAX_EVIDENCE",
    "Challenge",
    "ChallengeInfo",
    "Evidence",
    "challenges_of",
    "parse_challenge",
    "read_challenges",
]

MAX_CHALLENGE, MAX_EVIDENCE = 16 * 1024, 4 * 1024**2
"""Most bytes of a challenge, and of the runs beside it."""
Paragraph = Annotated[str, Field(min_length=1, max_length=1000)]


class Evidence(Config):
    """How to see that a claim does not hold."""

    command: Line
    """Command that shows it, to be read and never run by anything of this project."""
    url: Url = ""


class ChallengeInfo(Config):
    """A challenge: the file `SLUG.toml`."""

    format: Literal[1] = 1
    suite: Slug
    entry: Line
    """Name of the entry."""
    claim: Line
    """What it claims."""
    by: Annotated[str, Field(min_length=1, max_length=100)]
    """Who says that it does not hold."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    status: Literal["open", "upheld", "withdrawn"] = "open"
    """`upheld`: the maintainers could see it, too."""
    summary: Paragraph
    """Why it does not hold."""
    evidence: Evidence

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a challenge as it is; one of another format is refused."""
        check_version(data.get("format", 1), 1)
        return data

    def text(self) -> str:
        """Return it as TOML."""
        comment = "# Status: open; upheld (the maintainers saw it, too) or withdrawn.\n\n"
        return comment + tomli_w.dumps(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Challenge:
    """A challenge that was read.

    Attributes:
        slug: Its name among those of the entry.
        info: What is said.
        records: Runs that show it; mostly none.
    """

    slug: str
    info: ChallengeInfo
    records: list[RunRecord]


def parse_challenge(file: Path, faults: Faults) -> Challenge | None:
    """Read a challenge; None where it is not well-formed, which `faults` then says."""
    n_before = faults.n_total
    info: ChallengeInfo | None = None
    try:
        info, wrong = parse_model(ChallengeInfo, parse_toml(read_text(file, MAX_CHALLENGE)))
        for what in wrong:
            faults.add(file.name, what)
    except SubmissionError as error:
        faults.add(file.name, str(error))
    beside = file.with_suffix(".jsonl")
    records = parse_lines(RunRecord, file.parent, beside.name, faults, MAX_EVIDENCE) if beside.exists() else []
    return None if info is None or faults.n_total > n_before else Challenge(file.stem, info, records)


def read_challenges(root: Path) -> list[Challenge]:
    """Read all challenges of a leaderboard, sorted by suite, entry and name.

    As with `read_submissions` they have to be well-formed, and whether they are about something that is there is for
    `ganno_bench.leaderboard.validate.check_leaderboard` to say.

    Raises:
        SubmissionError: One of them is not well-formed; the message has the first thing that is wrong.
    """
    found = []
    for folder in (entry for suite in folders_in(root / "challenges") for entry in folders_in(suite)):
        for file in sorted(folder.glob("*.toml")):
            faults = Faults()
            challenge = parse_challenge(file, faults)
            if challenge is None:
                raise SubmissionError(f"{printable(str(folder))}/{faults.lines[0]}")
            found.append(challenge)
    return found


def challenges_of(challenges: Iterable[Challenge], suite: str, entry: str) -> list[Challenge]:
    """Return the challenges of an entry: a submission's name, or that of a baseline."""
    return [c for c in challenges if c.info.suite == suite and slug(c.info.entry) == slug(entry)]
