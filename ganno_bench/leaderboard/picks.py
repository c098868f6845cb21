"""Recommendations: the best entry of each ruleset, and how certain that is."""

from __future__ import annotations

from dataclasses import dataclass

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.tables import claims
from ganno_bench.leaderboard.text import DASH
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Ruleset

__all__ = ["Choice", "rank_label", "suite_choices"]

_MOST_NAMES = 3


@dataclass(frozen=True)
class Choice:
    """The best entry of a ruleset.

    Attributes:
        title: The tuning that it needs.
        row: Its row in the table.
        sure: How certain it is that the entry is the best.
        href: Link to its page; empty if there are no pages.
    """

    title: str
    row: Row
    sure: str
    href: str = ""


def rank_label(board: Board, row: Row) -> str:
    """Return a row's rank as tables show it, followed by `=` if it is shared."""
    if row.rank is None or row.kind != "entry":
        return DASH
    ranks = [other.rank for other in board.ranked(row.ruleset)]
    return f"{row.rank}{'=' * (ranks.count(row.rank) > 1)}"


def suite_choices(board: Board) -> list[Choice]:
    """Return the best entry without tuning, and the best with the suite's budget; among ties, the highest score."""
    titles: dict[Ruleset, str] = {
        "zero-shot": "Without tuning",
        "tuned": f"With {board.suite.budget.trials} Optuna trials per workload",
    }
    choices = []
    for ruleset, title in titles.items():
        ranked = board.ranked(ruleset)
        if ranked:
            best = min(ranked, key=lambda row: (row.rank or 0, -row.iqm, row.entry))
            sure = [_against_others(ranked, best), _against_cosine(best), *claims(board.standings)[1:]]
            choices.append(Choice(title, best, " ".join(sure)))
    return choices


def _against_others(ranked: list[Row], best: Row) -> str:
    tied = [row.entry for row in ranked if row.rank == best.rank and row is not best]
    if len(ranked) == 1:
        return "The only entry."
    if not tied:
        return f"Alone on rank {best.rank}, ahead of {len(ranked) - 1} other{'s' * (len(ranked) > 2)}."
    names = ", ".join(tied[:_MOST_NAMES])
    if len(tied) > _MOST_NAMES:
        names += f" and {len(tied) - _MOST_NAMES} more"
    return f"Tied with {names}: the data show no significant difference."


def _against_cosine(row: Row) -> str:
    if (row.ruleset, row.entry) == ("tuned", REFERENCE):
        return "It is the reference itself."
    if row.iqm_low is None or row.iqm_high is None:
        return "A single seed gives no confidence interval."
    if row.iqm_low > 0:
        verdict = f"Better than tuned {REFERENCE}"
    elif row.iqm_high < 0:
        verdict = f"Worse than tuned {REFERENCE}"
    else:
        verdict = f"No clear difference from tuned {REFERENCE}"
    if row.improvement is None:
        return f"{verdict}."
    chance = f"{100 * row.improvement:.0f}\N{NO-BREAK SPACE}%"
    return f"{verdict}; its test loss is lower on {chance} of runs."
