"""The terms of the tables, each with its meaning in one line; `docs/glossary.md` has all terms of the project."""

from __future__ import annotations

from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Standings

__all__ = ["BASELINE", "OPEN_OPTIMIZER", "terms"]

BASELINE = "*"
"""Follows the name of a committed baseline; starts the note that says when the baselines were made."""

OPEN_OPTIMIZER = "†"
"""Follows the name of an entry that replaces the workload's optimizer."""


def terms(standings: Standings, *, per_workload: bool = True) -> list[tuple[str, str]]:
    """Return (term, meaning) for each column and mark that occurs in the tables.

    Args:
        standings: What the tables show.
        per_workload: Whether the tables by workload are also shown.
    """
    rows = [row for table in standings.tables.values() for row in table]
    baselines = [note.removeprefix(f"{BASELINE} ") for note in standings.notes if note.startswith(f"{BASELINE} ")]
    speed_ups = [row.speed_up for row in rows if row.speed_up is not None]
    missed = " missed: it does not on half of the workloads or more." if 0 in speed_ups else ""
    found: list[tuple[bool, str, str]] = [
        (
            True,
            "Score",
            f"100 ln(L_ref / L): L is the test loss, L_ref the loss of tuned {REFERENCE}. "
            "0: an equal loss. +10: a loss about 10 % lower.",
        ),
        (True, "IQM", "interquartile mean: the mean of the middle half of all runs on all workloads."),
        (
            any(row.iqm_low is not None for row in rows),
            "[..]",
            "95 % confidence interval, from a bootstrap over the report seeds of each workload.",
        ),
        (
            True,
            "Rank",
            "1 + the number of entries that are significantly better: the confidence interval of the paired difference "
            "excludes 0. =: a shared rank.",
        ),
        (
            any(row.improvement is not None for row in rows),
            "P(better)",
            f"share of runs with a lower test loss than tuned {REFERENCE} with the same seed. A tie counts half.",
        ),
        (True, "Mean rank", "rank by median test loss, averaged over the workloads."),
        (
            bool(speed_ups),
            "Speed-up",
            f"2x: the entry reaches the final validation loss of tuned {REFERENCE} in half the updates (median over "
            f"workloads).{missed}",
        ),
        (
            True,
            "Diverged",
            "runs whose loss stopped being finite. Other columns count them with the loss of chance.",
        ),
        (per_workload, "Test loss", "median over runs; nats are the unit of cross-entropy with the natural logarithm."),
        (
            per_workload and any(cell.test_error is not None for cell in standings.cells.values()),
            "Error",
            "share of wrong predictions on test data, median over runs. Language modelling has none.",
        ),
        (
            any(row.kind == "oracle" for row in rows),
            "oracle",
            "the best entry of each workload, chosen after the fact: an upper bound, not an entry.",
        ),
        (any((row.ruleset, row.entry) == ("tuned", REFERENCE) for row in rows), REFERENCE, _why_not_zero(standings)),
        (any(row.kind == "reference" for row in rows), "(tuned)", "an unranked row from the table of tuned entries."),
        (
            any(row.kind == "entry" and row.n_workloads < len(standings.workloads) for row in rows),
            f"(1/{len(standings.workloads)})",
            f"runs on 1 of {len(standings.workloads)} workloads; an entry that lacks workloads has no rank.",
        ),
        (any(row.entry.endswith("@default") for row in rows), "@default", "a scheduler with its default values."),
        (
            any(row.open_optimizer for row in rows),
            OPEN_OPTIMIZER,
            "open-optimizer: the entry replaces the workload's optimizer.",
        ),
        (
            any(row.baseline for row in rows),
            BASELINE,
            baselines[0] if baselines else "committed baseline: its results are part of the project.",
        ),
    ]
    return [(term, meaning) for occurs, term, meaning in found if occurs]


def _why_not_zero(standings: Standings) -> str:
    """Return why the reference's own score can differ from 0."""
    runs = "the reference's" if 0 < len(standings.committed) < len(standings.workloads) else "these"
    if len(standings.committed) == len(standings.workloads):
        runs = "the committed"
    study = ", of study 0 alone" if standings.studies.get(REFERENCE, 1) > 1 else ""
    return (
        f"its own score can differ from 0: score 0 is the median loss of {runs} runs{study}; "
        "a row's score is a mean of scores."
    )
