"""The leaderboard's page in Markdown: the tables of every suite, one for each ruleset."""

from __future__ import annotations

from collections.abc import Sequence

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.formats import escape_markdown, markdown_table
from ganno_bench.leaderboard.outcome import outcome
from ganno_bench.leaderboard.picks import suite_choices
from ganno_bench.leaderboard.robustness_tables import robustness_footer, robustness_table
from ganno_bench.leaderboard.tables import Column, TextTable, estimate, header, main_table, remarks
from ganno_bench.leaderboard.text import page_name, visible

__all__ = ["leaderboard_readme"]

_INTRODUCTION = """\
# Leaderboard

Generated from committed records by `ganno-bench leaderboard build`; never edited by hand. The site shows more: curves,
depths, budgets and a page for each entry. Open [`site/index.html`](site/index.html) in a browser.
[How to build and read the leaderboard](../docs/leaderboard.md), [what each column means](../docs/reading.md#columns).

## What to use"""


def leaderboard_readme(boards: Sequence[Board], pending: Sequence[str]) -> str:
    """Return the page.

    Args:
        boards: The suites.
        pending: Names of suites without results to compare yet.
    """
    parts = [_INTRODUCTION, markdown_table(_choice_table(boards))]
    if pending:
        parts.append(f"Not shown yet: {', '.join(pending)}.")
    for board in boards:
        parts += _suite(board)
    return "\n\n".join(parts) + "\n"


def _choice_table(boards: Sequence[Board]) -> TextTable:
    titles = ("Suite", "Tuning", "Entry", "Score (IQM)", "How certain")
    columns = tuple(Column(title, numeric=title.startswith("Score")) for title in titles)
    rows = []
    for board in boards:
        for index, choice in enumerate(suite_choices(board)):
            row = choice.row
            name = "" if index else board.name
            score = estimate(row.iqm, row.iqm_low, row.iqm_high)
            rows.append((name, choice.title, visible(row.entry), score, choice.sure))
    best = frozenset((index, 2) for index in range(len(rows)))
    return TextTable("What to use", columns, tuple(rows), best, frozenset(), frozenset())


def _suite(board: Board) -> list[str]:
    standings = board.standings
    lines = [*outcome(standings), *header(standings)]
    if board.left_out:
        lines.append(f"Left out until every baseline has finished them: {', '.join(board.left_out)}")
    parts = (
        [f"## {board.name}", escape_markdown(board.suite.description)]
        if board.suite.description
        else [f"## {board.name}"]
    )
    parts.append("\n".join(f"- {escape_markdown(visible(line))}" for line in lines))
    for ruleset in standings.tables:
        table = main_table(standings, ruleset)
        parts += [f"### {table.title}", markdown_table(_visible(table))]
    notes = remarks(standings)
    varied = board.robustness
    if varied is not None:
        table = robustness_table(varied)
        parts += [f"### {table.title}", markdown_table(_visible(table))]
        notes += robustness_footer(varied)
    parts.append("\n".join(f"- {escape_markdown(visible(line))}" for line in notes))
    stem = f"tables/{page_name(board.name)}"
    parts.append(f"Workload by workload: [CSV]({stem}.csv), [LaTeX]({stem}.tex), [who beats whom]({stem}-pairs.csv).")
    return parts


def _visible(table: TextTable) -> TextTable:
    rows = tuple(tuple(map(visible, row)) for row in table.rows)
    return TextTable(table.title, table.columns, rows, table.best, table.faint, table.rules)
