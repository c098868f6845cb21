"""The entries of the leaderboard, from baselines and submissions alike; tables and pages are made from them."""

from __future__ import annotations

import inspect
import shlex
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from ganno_bench.baselines.files import BaselineFolder, of_suite, read_lines
from ganno_bench.core.errors import RecordError, UserError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.policies.policy import PolicyCard, load_policy
from ganno_bench.scoring.results import Ruleset
from ganno_bench.workloads.suite import load_suite

__all__ = ["Challenge", "Entry", "baseline_entries", "by_suite"]

_LEARNED = ("policy", "mean-curve", "profile", "curve-profile", "without")
"""Kinds of entries that are made from a trained policy; untrained policies and random actions are not."""


@dataclass(frozen=True)
class Challenge:
    """A challenge of an entry's result, as its page shows it.

    Attributes:
        claim: The claim of the entry that is challenged.
        summary: Why the claim is wrong.
        by: Author of the challenge.
        date: Its date, YYYY-MM-DD.
        status: `upheld`: the maintainers have confirmed it.
        command: Command that shows the evidence; this project never runs it.
        url: Web address with more information, or None.
        source: Its file, relative to the project.
    """

    claim: str
    summary: str
    by: str
    date: str
    status: Literal["open", "upheld", "withdrawn"]
    command: str
    url: str | None
    source: str


@dataclass(frozen=True)
class Entry:
    """One scheduler in one suite.

    Attributes:
        suite: Name of the suite.
        name: Its name in tables.
        ruleset: Its ruleset.
        description: A sentence or two about what it does; untrusted text.
        url: Web address with more information, or None.
        origin: Whether it is a committed baseline or a submission.
        records: Its report and varied runs.
        studies: Its tuning studies.
        challenges: Challenges of its result.
        sources: The files that it was read from, relative to the project.
        command: Command that runs it again.
        author: Who submitted it; empty for a baseline.
        card: Card of the learned policy that it is made from; None for other entries.
    """

    suite: str
    name: str
    ruleset: Ruleset
    description: str
    url: str | None
    origin: Literal["baseline", "submission"]
    records: tuple[RunRecord, ...]
    studies: tuple[StudyRecord, ...]
    challenges: tuple[Challenge, ...]
    sources: tuple[str, ...]
    command: str
    author: str = ""
    card: PolicyCard | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Its key in standings: ruleset and name."""
        return self.ruleset, self.name


def baseline_entries(folder: BaselineFolder) -> list[Entry]:
    """Return the committed baselines of all suites, each at the suite's current hash.

    Raises:
        UserError: A file cannot be read.
    """
    entries = []
    for file in sorted(folder.path.glob("*.toml")):
        content = folder.read_toml(file)
        description, card = _summary(content.ref), _card(content.name)
        for suite in sorted({value.suite for value in content.value}):
            present = of_suite(load_suite(suite).hash)
            paths = [folder.records(suite, content.name), folder.studies(suite, content.name)]
            records = tuple(read_lines(RunRecord, paths[0], present))
            studies = tuple(read_lines(StudyRecord, paths[1], present))
            if records:
                entries.append(
                    Entry(
                        suite=suite,
                        name=content.name,
                        ruleset=content.ruleset,
                        description=description,
                        url=None,
                        origin="baseline",
                        records=records,
                        studies=studies,
                        challenges=(),
                        sources=tuple(_relative(path, folder.path) for path in [file, *paths] if path.exists()),
                        command=f"ganno-bench run {suite} --scheduler {shlex.quote(content.ref)}",
                        card=card,
                    )
                )
    return entries


def by_suite(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group entries by suite, both sorted by name.

    Raises:
        RecordError: Two entries of a suite and a ruleset have the same name.
    """
    suites: dict[str, list[Entry]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (entry.suite, entry.ruleset, entry.name)):
        suites[entry.suite].append(entry)
    for suite, own in suites.items():
        _check_names(suite, own)
    return dict(suites)


def _check_names(suite: str, entries: Sequence[Entry]) -> None:
    for first, second in pairwise(entries):
        if first.key == second.key:
            raise RecordError(
                f"two entries of suite {suite!r} are named {first.name!r} ({first.ruleset}): "
                f"{first.sources[0]} and {second.sources[0]}"
            )


def _summary(ref: str) -> str:
    """Return the first line of a scheduler's docstring; empty if its code cannot be loaded."""
    from ganno_bench.schedulers.registry import load_scheduler

    try:
        return (inspect.getdoc(load_scheduler(ref).cls) or "").partition("\n")[0]
    except UserError:
        return ""


def _card(name: str) -> PolicyCard | None:
    """Return the card of the shipped policy that an entry is made from."""
    kind, _, rest = name.partition(":")
    if not rest or kind not in _LEARNED:
        return None
    from ganno_bench.schedulers.policy import find_policy

    try:
        return load_policy(find_policy(rest.rpartition(":")[2])).card
    except UserError:  # the policy is no longer shipped
        return None


def _relative(path: Path, folder: Path) -> str:
    return path.relative_to(folder.parent).as_posix()
