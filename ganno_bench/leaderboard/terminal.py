"""Standings and tables as rich text for a terminal of any width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from ganno_bench.leaderboard.outcome import outcome
from ganno_bench.leaderboard.tables import TextTable, header, main_table, remarks, workload_table
from ganno_bench.leaderboard.terms import terms
from ganno_bench.scoring.results import Standings

__all__ = ["Paragraph", "TerminalTable", "to_rich"]

_LEAST_TEXT = 20
"""Characters of a paragraph on a line, however narrow the terminal is."""

_RULE = "─"


def to_rich(standings: Standings, *, per_workload: bool = True) -> Group:
    """Return everything for a terminal: the outcome, the tables, their terms, and remarks.

    Args:
        standings: What to show.
        per_workload: Whether to add the tables by workload.
    """
    parts: list[RenderableType] = [Paragraph(line, style="bold") for line in outcome(standings)]
    parts += [Text(), *(Paragraph(line, style="dim") for line in header(standings))]
    for ruleset in standings.tables:
        parts += [Text(), TerminalTable(main_table(standings, ruleset))]
    if per_workload:
        for ruleset in standings.tables:
            parts += [Text(), TerminalTable(workload_table(standings, ruleset), n_heading=1)]
    explained = terms(standings, per_workload=per_workload)
    width = max(len(term) for term, _ in explained) + 2
    parts += [Text(), *(Paragraph(meaning, f"{term:<{width}}", style="dim") for term, meaning in explained)]
    if notes := remarks(standings):
        parts += [Text(), *(Paragraph(note, "- ", style="dim") for note in notes)]
    return Group(*parts)


class Paragraph:
    """Text that is wrapped between words and indented by the width of its label.

    Args:
        text: What it says.
        label: What stands before the first line.
        style: Style of both.
    """

    def __init__(self, text: str, label: str = "", *, style: str = "") -> None:
        self._text, self._label, self._style = text, label, style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        indent = " " * len(self._label)
        lines = textwrap.wrap(
            self._text,
            max(options.max_width, len(indent) + _LEAST_TEXT),
            initial_indent=self._label,
            subsequent_indent=indent,
            break_on_hyphens=False,
        )
        yield Text("\n".join(lines), style=self._style)


class TerminalTable:
    """A table for the terminal: the best cells bold and green, unranked rows dim.

    If the terminal is too narrow, the first cells of each row become a line above its numbers.

    Args:
        table: The table.
        n_heading: Number of columns that are always lines above the others, such as the workload of a group of rows.
    """

    def __init__(self, table: TextTable, *, n_heading: int = 0) -> None:
        self._table, self._n_heading = table, n_heading

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        lines = list(self._lines(self._n_heading))
        if max(line.cell_len for line in lines) > options.max_width:
            numeric = [column.numeric for column in self._table.columns]
            first_text = numeric.index(False) if False in numeric else 0
            lines = list(self._lines(numeric.index(True, first_text) if True in numeric[first_text:] else 0))
        if options.ascii_only:
            lines = [Text(line.plain.replace(_RULE, "-")) if _RULE in line.plain else line for line in lines]
        yield from (Text(self._table.title, style="bold"), Text(), *lines)

    def _lines(self, n_heading: int) -> Iterator[Text]:
        table, columns = self._table, self._table.columns
        titles: list[list[str]] = [[], []]
        for column in columns:
            *above, last = column.title.rsplit(" ", 1) if column.numeric else [column.title]
            titles[0].append(" ".join(above))
            titles[1].append(last)
        widths = [max(map(cell_len, cells)) for cells in zip(*titles, *table.rows, strict=True)]
        indent = "  " * sum(not column.numeric for column in columns[:n_heading])

        def line(cells: Sequence[str], styles: Sequence[str], start: int, stop: int, indent: str) -> Text:
            result = Text(indent)
            for at in range(start, stop):
                padding = " " * (widths[at] - cell_len(cells[at]))
                result.append(padding + cells[at] if columns[at].numeric else cells[at] + padding, styles[at])
                result.append("  ")
            result.rstrip()
            return result

        for title in titles:
            if any(title[n_heading:]):
                yield line(title, ["bold"] * len(title), n_heading, len(title), indent)
        yield Text(indent + _RULE * (sum(widths[n_heading:]) + 2 * len(widths[n_heading:]) - 2))
        for index, row in enumerate(table.rows):
            plain = "dim" if index in table.faint else ""
            styles = ["bold green" if (index, at) in table.best else plain for at in range(len(row))]
            if index and index in table.rules:
                yield Text()
            start, level = 0, 0
            for at in range(n_heading):
                if columns[at].numeric:
                    continue
                if any(row[start : at + 1]):
                    yield line(row, styles, start, at + 1, "  " * level)
                start, level = at + 1, level + 1
            yield line(row, styles, n_heading, len(row), indent)
