"""The outcome of a suite in a few sentences, computed from ranks and scores alone."""

from __future__ import annotations

from collections.abc import Sequence

from ganno_bench.leaderboard.tables import cautions, count, estimate
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Ruleset, Standings

__all__ = ["outcome"]

_MOST_NAMES = 4
"""Entries that a sentence names; it counts more."""

_PREFIXES: dict[Ruleset, str] = {"tuned": "Tuned: ", "zero-shot": "Zero-shot: "}


def outcome(standings: Standings) -> list[str]:
    """Return a line for each table: which entries have the first rank, and how they compare with tuned cosine.

    Where a table compares new entries with committed baselines, a line for each new one follows. Warnings come last, if
    the budget was small or not the suite's own.
    """
    lines = []
    for ruleset, rows in standings.tables.items():
        prefix = "" if tuple(standings.tables) == ("tuned",) else _PREFIXES[ruleset]
        entries = [row for row in rows if row.kind == "entry"]
        lines.append(prefix + " ".join(_sentences(entries, standings)))
        lines += _new_entries(entries)
    return [*lines, *cautions(standings)]


def _new_entries(entries: Sequence[Row]) -> list[str]:
    """Return rank and score of each entry that is not a baseline, if there are baselines to compare it with."""
    new = [row for row in entries if not row.baseline]
    if len(new) == len(entries):
        return []
    return [
        f"{row.entry}: {_rank(row, len(entries))}. {_against_reference(row)}" for row in new if not _is_reference(row)
    ]


def _rank(row: Row, n_entries: int) -> str:
    return "no rank" if row.rank is None else f"rank {row.rank} of {n_entries} entries"


def _sentences(entries: Sequence[Row], standings: Standings) -> list[str]:
    workloads = f"these {len(standings.workloads)} workloads" if len(standings.workloads) > 1 else "this workload"
    ranked = [row for row in entries if row.rank is not None]
    if not ranked:
        return [f"No entry is ranked, because none has results on all of {workloads}."]
    said = _first_rank(entries, ranked, workloads, standings)
    if missing := len(entries) - len(ranked):
        said.append(f"{count(missing, 'entry lacks', 'entries lack')} a workload and therefore a rank.")
    return said


def _first_rank(entries: Sequence[Row], ranked: Sequence[Row], workloads: str, standings: Standings) -> list[str]:
    """Return who has the first rank, given all entries, and the ranked ones, best first."""
    best = ranked[0]
    if len(ranked) == 1 and _is_reference(best):
        only = "is ranked" if len(entries) > 1 else "has results"
        return [f"Only the reference, tuned {REFERENCE}, {only}. Add another scheduler to compare it with."]
    if len(ranked) == 1:
        return [f"{best.entry} is the only ranked entry.", _against_reference(best)]
    if all(row.iqm_low is None for row in ranked):
        seeds = "With one report seed" if standings.n_seeds[-1] == 1 else "With one report seed on some workload"
        highest = [row for row in ranked if row.iqm == best.iqm]
        have = f"{_names(highest)} have" if len(highest) > 1 else f"{best.entry} has"
        return [
            f"{seeds} no difference is significant, so all {len(ranked)} entries share the first rank.",
            f"{have} the highest score, {estimate(best.iqm, None, None)}.",
        ]
    first = [row for row in ranked if row.rank == 1]
    reference = next((row for row in ranked if _is_reference(row)), None)
    if not first:  # pairs of entries are compared by different seeds
        said = [f"No entry has the first rank on {workloads}: each has at least one better entry."]
    elif len(first) == len(ranked):
        said = [f"All {len(ranked)} entries share the first rank on {workloads}: no difference is significant."]
    elif len(first) > 1:
        shared = f"{_names(first)} share the first rank on {workloads}"
        said = [f"{shared}: no entry is significantly better than them."]
    else:
        others = len(ranked) - 1
        said = [f"{best.entry} alone has the first rank on {workloads}: no entry is significantly better."]
        if others == 1:
            said.append("The other entry is significantly worse.")
        else:
            said.append(f"Each of the {others} others has at least one better entry.")
    if reference is None:
        return [*said, _against_reference(best)]
    if reference not in first:
        tied = sum(row.rank == reference.rank for row in ranked) > 1
        return [*said, f"Tuned {REFERENCE} (score 0) {'shares' if tied else 'has'} rank {reference.rank}."]
    if len(first) > 1:
        return [*said, f"Tuned {REFERENCE} (score 0) is one of them."]
    return [*said, f"Tuned {REFERENCE} is the reference (score 0)."]


def _against_reference(row: Row) -> str:
    """Return an entry's score, and on which side of the reference's score its confidence interval lies."""
    score = f"{row.entry} scores {estimate(row.iqm, row.iqm_low, row.iqm_high)}"
    if row.iqm_low is None or row.iqm_high is None:
        return f"{score}; tuned {REFERENCE} has score 0."
    side = "lies above" if row.iqm_low > 0 else "lies below" if row.iqm_high < 0 else "includes"
    return f"{score}; the confidence interval {side} 0, the score of tuned {REFERENCE}."


def _is_reference(row: Row) -> bool:
    return (row.ruleset, row.entry) == ("tuned", REFERENCE)


def _names(rows: Sequence[Row]) -> str:
    names = [row.entry for row in rows]
    if len(names) > _MOST_NAMES:
        names[_MOST_NAMES - 1 :] = [f"{len(names) - _MOST_NAMES + 1} more"]
    return f"{', '.join(names[:-1])} and {names[-1]}"
