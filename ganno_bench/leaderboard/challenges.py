"""Challenges: claims that an entry's result is wrong, shown on the entry's page.

challenges/SUITE/ENTRY/SLUG.toml    the challenged claim, who challenges it, and why
challenges/SUITE/ENTRY/SLUG.jsonl   compact records that support the challenge (optional)

ENTRY is the name of a submission, or of a committed baseline as its files are named.
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
"""Size limits of a challenge and of its records, bytes."""
Paragraph = Annotated[str, Field(min_length=1, max_length=1000)]


class Evidence(Config):
    """Evidence against a claim."""

    command: Line
    """Command that shows the evidence. It is for readers; this project never runs it."""
    url: Url = ""


class ChallengeInfo(Config):
    """A challenge: the file `SLUG.toml`."""

    format: Literal[1] = 1
    suite: Slug
    entry: Line
    """Name of the entry."""
    claim: Line
    """The claim of the entry that is challenged."""
    by: Annotated[str, Field(min_length=1, max_length=100)]
    """Author of the challenge."""
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    status: Literal["open", "upheld", "withdrawn"] = "open"
    """`upheld`: the maintainers have confirmed it."""
    summary: Paragraph
    """Why the claim is wrong."""
    evidence: Evidence

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return the data unchanged; other formats are refused."""
        check_version(data.get("format", 1), 1)
        return data

    def text(self) -> str:
        """Return the challenge as TOML."""
        comment = "# Status: open, upheld (the maintainers have confirmed it) or withdrawn.\n\n"
        return comment + tomli_w.dumps(self.model_dump(mode="json"))


@dataclass(frozen=True)
class Challenge:
    """A challenge and its records.

    Attributes:
        slug: Its name among the challenges of the entry.
        info: The content of its TOML file.
        records: Supporting runs; often none.
    """

    slug: str
    info: ChallengeInfo
    records: list[RunRecord]


def parse_challenge(file: Path, faults: Faults) -> Challenge | None:
    """Read a challenge; if it is malformed, add the faults to `faults` and return None."""
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

    This checks their form only. Whether the challenged entries exist is checked by
    `ganno_bench.leaderboard.validate.check_leaderboard`.

    Raises:
        SubmissionError: A challenge is malformed; the message has its first fault.
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
    """Return the challenges of an entry, by the name of a submission or baseline."""
    return [c for c in challenges if c.info.suite == suite and slug(c.info.entry) == slug(entry)]
