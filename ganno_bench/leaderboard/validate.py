"""Check submissions and challenges: files, form and rules. They are data; nothing in them is executed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ganno_bench.baselines.files import slug
from ganno_bench.core.errors import RecordError, SubmissionError, UnknownNameError, did_you_mean
from ganno_bench.leaderboard.challenges import MAX_CHALLENGE, MAX_EVIDENCE, Challenge, parse_challenge
from ganno_bench.leaderboard.known import KnownSuite, KnownSuites
from ganno_bench.leaderboard.plausible import record_faults
from ganno_bench.leaderboard.replay import can_replay, replay_fault
from ganno_bench.leaderboard.rules import rule_faults
from ganno_bench.leaderboard.submissions import FILES, RECORDS, STUDIES, TOML, Submitted, is_slug, parse_submission
from ganno_bench.leaderboard.untrusted import Faults, printable
from ganno_bench.scoring.comparison import Baselines, compare
from ganno_bench.scoring.metrics import is_diverged

__all__ = ["Checked", "Verdict", "check_challenge", "check_leaderboard", "check_submission"]

MAX_SUBMISSION = 6 * 1024**2
"""Largest size of a submission, all files together, bytes."""


@dataclass(frozen=True)
class Verdict:
    """The result of checking a submission or a challenge.

    Attributes:
        name: Folder of the submission, or file of the challenge, below the leaderboard's folder.
        faults: Faults, safe to print; the last line may give the number of others.
        n_faults: Number of all faults.
        summary: A description, if there are no faults.
        submitted: The submission, if it is one and has no faults.
        challenge: The challenge, if it is one and has no faults.
    """

    name: str
    faults: list[str]
    n_faults: int
    summary: str = ""
    submitted: Submitted | None = None
    challenge: Challenge | None = None


@dataclass(frozen=True)
class Checked:
    """The result of checking a leaderboard.

    Attributes:
        verdicts: One for each submission, each challenge, and each file that is neither.
    """

    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def submissions(self) -> list[Submitted]:
        """The submissions that have no fault."""
        return [verdict.submitted for verdict in self.verdicts if verdict.submitted is not None]

    @property
    def challenges(self) -> list[Challenge]:
        """The challenges that have no fault."""
        return [verdict.challenge for verdict in self.verdicts if verdict.challenge is not None]

    @property
    def n_faults(self) -> int:
        """Number of faults."""
        return sum(verdict.n_faults for verdict in self.verdicts)


def check_leaderboard(root: Path, suites: KnownSuites | None = None, *, replay: bool = True) -> Checked:
    """Check all submissions and challenges of a leaderboard, or a single submission.

    Args:
        root: Folder of the leaderboard or of a submission.
        suites: The project's suites.
        replay: Whether to replay the tuning studies; see `ganno_bench.leaderboard.replay`.

    Raises:
        SubmissionError: There is no such folder.
    """
    suites = suites or KnownSuites()
    if not root.is_dir():
        raise SubmissionError(f"folder {str(root)!r} does not exist; give the path of a leaderboard or of a submission")
    if (root / TOML).exists() or (root / TOML).is_symlink():
        whole = root.resolve()
        return Checked([check_submission(root, whole.parent.name, whole.name, suites, replay=replay)])
    verdicts = []
    for folder, title, stray in _entries(root / "submissions", "submissions"):
        verdicts.append(
            stray or check_submission(folder, folder.parent.name, folder.name, suites, title, replay=replay)
        )
    names = {(verdict.submitted.info.suite, verdict.submitted.info.name) for verdict in verdicts if verdict.submitted}
    for folder, title, stray in _entries(root / "challenges", "challenges"):
        verdicts += [stray] if stray else _check_challenges(folder, names, suites, title)
    return Checked(verdicts)


def check_submission(
    folder: Path, suite: str, name: str, suites: KnownSuites, title: str = "", *, replay: bool = True
) -> Verdict:
    """Check a submission.

    Args:
        folder: Its folder.
        suite: The suite that it must be for: the name of the folder above.
        name: The name that it must have: the folder's.
        suites: The project's suites.
        title: Name of the folder in messages; by default its path.
        replay: Whether to replay the tuning studies, a tenth of a second for each.
    """
    title = title or str(folder)
    faults = Faults(f"{title}/")
    _check_files(folder, FILES, MAX_SUBMISSION, faults)
    submitted = None if faults.n_total else parse_submission(folder, faults)
    if submitted is None:
        return _verdict(title, faults)
    info = submitted.info
    for key, there, wanted in (("name", info.name, name), ("suite", info.suite, suite)):
        if there != wanted:
            faults.add(TOML, f"key {key!r}: must be {wanted!r}, as in the path of its folder (value: {there!r})")
    if info.ruleset == "zero-shot" and (folder / STUDIES).exists():
        faults.add(STUDIES, "a zero-shot entry is not tuned; remove this file")
    try:
        known = suites.load(info.suite)
    except UnknownNameError as error:
        faults.add(TOML, f"key 'suite': {error}")
        return _verdict(title, faults)
    for where, what in rule_faults(submitted, known):
        faults.add(where, what)
    if replay and not faults.n_total and can_replay(info.versions):
        for number, study in enumerate(submitted.studies, 1):
            space = info.search_space[known.workloads[study.workload].optimizer.name]
            if (fault := replay_fault(study, space, known.suite.budget)) is not None:
                faults.add(f"{STUDIES}:{number}", fault)
    if faults.n_total:
        return _verdict(title, faults)
    try:
        return _verdict(title, faults, summary=_summary(submitted, known), submitted=submitted)
    except RecordError as error:
        faults.add(RECORDS, f"cannot be scored: {error}")
        return _verdict(title, faults)


def _check_challenges(
    folder: Path, submissions: Set[tuple[str, str]], suites: KnownSuites, title: str
) -> Iterator[Verdict]:
    """Check the challenges of an entry; `submissions` has (suite, name) of all valid submissions."""
    files = Faults(f"{title}/")
    stems = {Path(name).stem for name in os.listdir(folder) if name.endswith(".toml")}
    allowed = {f"{stem}.toml": MAX_CHALLENGE for stem in stems} | {f"{stem}.jsonl": MAX_EVIDENCE for stem in stems}
    _check_files(folder, allowed, MAX_SUBMISSION, files, needed=())
    if files.n_total:
        yield _verdict(title, files)
        return
    for stem in sorted(stems):
        yield check_challenge(folder / f"{stem}.toml", folder.parent.name, folder.name, submissions, suites, title)


def check_challenge(
    file: Path, suite: str, entry: str, submissions: Set[tuple[str, str]], suites: KnownSuites, title: str
) -> Verdict:
    """Check a challenge and its records.

    Args:
        file: Its file.
        suite: The suite that it must be about: the name of the folder two levels above.
        entry: The entry that it must be about, as a file name: the name of the folder above.
        submissions: (suite, name) of all valid submissions.
        suites: The project's suites.
        title: Name of its folder in messages.
    """
    faults = Faults(f"{title}/")
    challenge = parse_challenge(file, faults)
    if not is_slug(file.stem):
        faults.add(file.name, "its name must have lower-case letters, digits, single dots and hyphens only")
    summary = ""
    if challenge is not None:
        for where, what in _challenge_faults(challenge, suite, entry, submissions, suites):
            faults.add(where, what)
        summary = f"challenge of {printable(challenge.info.entry)!r}, {challenge.info.status}, "
        summary += f"{len(challenge.records)} records"
    good = None if faults.n_total else challenge
    return _verdict(f"{title}/{file.name}", faults, summary=summary, challenge=good)


def _challenge_faults(
    challenge: Challenge, suite: str, entry: str, submissions: Set[tuple[str, str]], suites: KnownSuites
) -> Iterator[tuple[str, str]]:
    info, file = challenge.info, f"{challenge.slug}.toml"
    for key, there, wanted in (("suite", info.suite, suite), ("entry", slug(info.entry), entry)):
        if there != wanted:
            yield file, f"key {key!r}: must be {wanted!r}, as in the path of its folder (value: {getattr(info, key)!r})"
    try:
        known = suites.load(info.suite)
    except UnknownNameError as error:
        yield file, f"key 'suite': {error}"
        return
    if (info.suite, info.entry) not in submissions and info.entry not in known.entries:
        choices = {name for suite, name in submissions if suite == info.suite} | known.entries
        yield file, f"key 'entry': unknown entry {info.entry!r}{did_you_mean(info.entry, choices)}"
    for number, record in enumerate(challenge.records, 1):
        for what in record_faults(record, known):
            yield f"{challenge.slug}.jsonl:{number}", what


def _check_files(
    folder: Path, allowed: Mapping[str, int], most: int, faults: Faults, needed: Sequence[str] = (TOML, RECORDS)
) -> None:
    """Check names, kinds and sizes of a folder's files, without opening any; only the allowed files may exist."""
    total, names = 0, []
    with os.scandir(folder) as items:
        found = sorted(items, key=lambda item: item.name)
    for item in found:
        names.append(item.name)
        status = item.stat(follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            faults.add(item.name, "is a symbolic link")
        elif item.name not in allowed:
            faults.add(item.name, "is not expected here; allowed: " + ", ".join(sorted(allowed)))
        elif not stat.S_ISREG(status.st_mode):
            faults.add(item.name, "is not a regular file")
        elif status.st_size > allowed[item.name]:
            faults.add(item.name, f"must have at most {allowed[item.name]} bytes (value: {status.st_size})")
        total += status.st_size
    for name in needed:
        if name not in names:
            faults.add(name, "is missing")
    if total > most:
        faults.add("", f"all files together must have at most {most} bytes (value: {total})")


def _entries(parent: Path, title: str) -> Iterator[tuple[Path, str, Verdict | None]]:
    """Yield the folders SUITE/NAME below a folder with their titles, and verdicts on anything else in it."""
    if not parent.is_symlink() and not parent.exists():
        return
    level = [(parent, title)]
    for depth in range(3):
        below = []
        for path, name in level:
            if path.is_symlink() or not path.is_dir():
                faults = Faults()
                faults.add(name, "is a symbolic link" if path.is_symlink() else "is not a folder")
                yield path, name, _verdict(name, faults)
            elif depth == 2:
                yield path, name, None
            else:
                below += [(child, f"{name}/{child.name}") for child in sorted(path.iterdir())]
        level = below


def _summary(submitted: Submitted, known: KnownSuite) -> str:
    """Score a submission and return a short description.

    Raises:
        RecordError: It cannot be scored.
    """
    reports = [record for record in submitted.records if record.role == "report"]
    counts = (
        f"{submitted.info.ruleset}, {len(reports)} report runs on {len(known.workloads)} workloads, "
        f"{sum(map(is_diverged, reports))} diverged"
    )
    if submitted.studies and not can_replay(submitted.info.versions):
        counts += f", trials not replayed (made with Optuna {submitted.info.versions.get('optuna')})"
    scored = [record for record in submitted.ranked_records if record.workload in known.baselines.reference]
    if not scored:
        return f"{counts}; no score, because no reference is committed"
    table = compare(scored, Baselines(reference=known.baselines.reference)).standings(n_resamples=1)
    (row,) = [row for row in table.tables[submitted.info.ruleset] if row.kind == "entry"]
    return f"{counts}; score {row.iqm:+.1f}"


def _verdict(title: str, faults: Faults, **found: Any) -> Verdict:
    return Verdict(printable(title), faults.report(), faults.n_total, **found)
