"""Turn submissions and challenges into entries of the leaderboard."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ganno_bench.baselines.files import slug
from ganno_bench.core.errors import SubmissionError
from ganno_bench.leaderboard.challenges import Challenge as SubmittedChallenge
from ganno_bench.leaderboard.challenges import challenges_of
from ganno_bench.leaderboard.entries import Challenge, Entry
from ganno_bench.leaderboard.submissions import RECORDS, STUDIES, TOML, Submitted
from ganno_bench.leaderboard.validate import check_leaderboard

__all__ = ["published_entries"]


def published_entries(baselines: Iterable[Entry], root: Path) -> list[Entry]:
    """Return all entries of a leaderboard, with their challenges.

    Args:
        baselines: The entries of the committed baselines.
        root: The leaderboard's folder.

    Raises:
        SubmissionError: A submission or challenge breaks a rule.
    """
    if not root.is_dir():
        return list(baselines)
    checked = check_leaderboard(root, replay=False)
    if checked.n_faults:
        first = next(fault for verdict in checked.verdicts for fault in verdict.faults)
        raise SubmissionError(f"{first} ({checked.n_faults} faults; run: ganno-bench leaderboard validate {root})")
    return _with_challenges([*baselines, *_submitted(checked.submissions, root)], checked.challenges, root)


def _submitted(submissions: Iterable[Submitted], root: Path) -> list[Entry]:
    entries = []
    for submitted in submissions:
        info = submitted.info
        folder = f"{root.name}/submissions/{info.suite}/{info.name}"
        names = [TOML, RECORDS, *([STUDIES] if submitted.studies else [])]
        entries.append(
            Entry(
                suite=info.suite,
                name=info.name,
                ruleset=info.ruleset,
                description=info.description,
                url=info.url or None,
                origin="submission",
                records=tuple(submitted.ranked_records),
                studies=tuple(submitted.ranked_studies),
                challenges=(),
                sources=tuple(f"{folder}/{name}" for name in names),
                command=f"ganno-bench run {info.suite} --scheduler {shlex.quote(info.ref)}",
                author=info.author,
                card=info.policy,
            )
        )
    return entries


def _with_challenges(entries: Iterable[Entry], known: Sequence[SubmittedChallenge], root: Path) -> list[Entry]:
    return [
        replace(
            entry,
            challenges=tuple(
                Challenge(
                    claim=found.info.claim,
                    summary=found.info.summary,
                    by=found.info.by,
                    date=found.info.date,
                    status=found.info.status,
                    command=found.info.evidence.command,
                    url=found.info.evidence.url or None,
                    source=f"{root.name}/challenges/{entry.suite}/{slug(entry.name)}/{found.slug}.toml",
                )
                for found in challenges_of(known, entry.suite, entry.name)
            ),
        )
        for entry in entries
    ]
