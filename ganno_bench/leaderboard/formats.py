"""Standings as rich text for the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ganno_bench.leaderboard.tables import Column, TextTable, footer, header, main_table, workload_table
from ganno_bench.scoring.results import Row, Standings

__all__ = [
    "escape_markdown",
    "latex_table",
    "markdown_table",
    "rich_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_rich",
    "write_tables",
    "write_texts",
]

_CSV_COLUMNS = (
    "table", "entry", "ruleset", "kind", "workload", "rank", "score", "score_low", "score_high", "improvement",
    "improvement_low", "improvement_high", "mean_rank", "speed_up", "test_loss", "test_error", "reference_loss",
    "diverged", "runs", "workloads", "trials", "suite", "suite_hash", "custom", "open_optimizer", "baseline",
)  # fmt: skip


def to_rich(standings: Standings, *, per_workload: bool = True) -> Group:
    """Return everything for a terminal of 100 columns or more.

    Args:
        standings: What to show.
        per_workload: Whether to add the tables by workload.
    """
    parts: list[RenderableType] = [
        Text(line, style="bold" if index == 0 else "dim") for index, line in enumerate(header(standings))
    ]
    for ruleset in standings.tables:
        parts.append(Padding(rich_table(main_table(standings, ruleset)), (1, 0, 0, 0)))
    if per_workload:
        for ruleset in standings.tables:
            parts.append(Padding(rich_table(_grouped(workload_table(standings, ruleset))), (1, 0, 0, 0)))
    parts.append(Text(""))
    parts += [Text(line, style="dim") for line in footer(standings)]
    return Group(*parts)


def _grouped(table: TextTable) -> TextTable:
    """Return a table whose first column has become a line of its own above each group: it fits 80 columns."""
    rows: list[tuple[str, ...]] = []
    places = {}
    for index, (group, entry, *cells) in enumerate(table.rows):
        if group:
            rows.append((group, *[""] * len(cells)))
        places[index] = len(rows)
        rows.append((f"  {entry}", *cells))
    rules = frozenset(places[index] - 1 for index in table.rules)
    best = frozenset((places[index], column - 1) for index, column in table.best)
    faint = frozenset(places[index] for index in table.faint)
    columns = (
        Column(f"{table.columns[0].title} / {table.columns[1].title.lower()}", numeric=False),
        *table.columns[2:],
    )
    return TextTable(table.title, columns, tuple(rows), best, faint, rules)


def rich_table(table: TextTable) -> Table:
    """Return a table for the terminal: the best cells bold and green, unranked rows dim."""
    result = Table(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for column in table.columns:
        title = "\n".join(column.title.rsplit(" ", 1)) if column.numeric else column.title
        result.add_column(title, justify="right" if column.numeric else "left", no_wrap=column.numeric, overflow="fold")
    for index, row in enumerate(table.rows):
        if index and index in table.rules:
            result.add_section()
        style = "dim" if index in table.faint else ""
        cells = [Text(cell, style="bold green" if (index, at) in table.best else style) for at, cell in enumerate(row)]
        result.add_row(*cells)
    return result


def to_markdown(standings: Standings) -> str:
    """Return a Markdown page: the best cells bold, columns aligned in the source, too."""
    parts = [f"# Standings: {standings.suite}", "\n".join(f"- {escape_markdown(line)}" for line in header(standings))]
    for make in (main_table, workload_table):
        for ruleset in standings.tables:
            table = make(standings, ruleset)
            parts += [f"## {table.title}", markdown_table(table)]
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in footer(standings)))
    return "\n\n".join(parts) + "\n"


def to_csv(standings: Standings) -> str:
    """Return plain numbers, six significant digits: a line for each row of a table and workload, and one `overall`.

    Losses are in nats, errors in [0, 1]; an empty field is a value that there is none of. `score` is the
    interquartile mean over runs x workloads in an `overall` line, and the mean over runs in the others.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for ruleset, rows in standings.tables.items():
        for row in rows:
            common = {
                "table": ruleset,
                "entry": row.entry,
                "ruleset": row.ruleset,
                "kind": row.kind,
                "suite": standings.suite,
                "suite_hash": standings.suite_hash,
                "custom": str(standings.custom).lower(),
                "open_optimizer": str(row.open_optimizer).lower(),
                "baseline": str(row.baseline).lower(),
            }
            writer.writerow(common | {key: _plain(value) for key, value in _overall(row).items()})
            for workload in standings.workloads:
                cell = standings.cells.get((row.ruleset, row.entry, workload))
                if row.kind == "oracle" or cell is None:
                    continue
                values = {
                    "score": cell.score,
                    "score_low": cell.score_low,
                    "score_high": cell.score_high,
                    "speed_up": cell.speed_up,
                    "test_loss": cell.test_loss,
                    "test_error": cell.test_error,
                    "reference_loss": standings.reference[workload],
                    "diverged": cell.diverged,
                    "runs": cell.n_runs,
                }
                numbers = {key: _plain(value) for key, value in values.items()}
                writer.writerow(common | {"workload": workload} | numbers)
    return out.getvalue()


def to_latex(standings: Standings) -> str:
    """Return `table` environments for the `booktabs` package, the best cells bold, how to read them as comments."""
    parts = ["\n".join(f"% {line}" for line in (*header(standings), *footer(standings)))]
    for make in (main_table, workload_table):
        for ruleset in standings.tables:
            table = make(standings, ruleset)
            label = f"tab:{standings.suite}-{ruleset}{'-workloads' if make is workload_table else ''}"
            parts.append(latex_table(table, label))
    return "\n\n".join(parts) + "\n"


def write_tables(standings: Standings, out_dir: Path) -> list[Path]:
    """Write `standings.md`, `standings.csv` and `standings.tex` into a folder, which is made if need be."""
    texts = {"md": to_markdown(standings), "csv": to_csv(standings), "tex": to_latex(standings)}
    return write_texts(texts, out_dir / "standings")


def write_texts(texts: Mapping[str, str], stem: Path) -> list[Path]:
    """Write a text for each suffix, and return the paths; `stem` is the path without it, its folder made if need be."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = {stem.with_name(f"{stem.name}.{suffix}"): text for suffix, text in texts.items()}
    for path, text in paths.items():
        path.write_text(text, encoding="utf-8")
    return list(paths)


def _overall(row: Row) -> dict[str, float | str | None]:
    return {
        "workload": "overall",
        "rank": row.rank,
        "score": row.iqm,
        "score_low": row.iqm_low,
        "score_high": row.iqm_high,
        "improvement": row.improvement,
        "improvement_low": row.improvement_low,
        "improvement_high": row.improvement_high,
        "mean_rank": row.mean_rank,
        "speed_up": row.speed_up,
        "diverged": row.diverged,
        "runs": row.n_runs,
        "workloads": row.n_workloads,
        "trials": row.n_trials,
    }


def _plain(value: float | str | None) -> str:
    if value is None:
        return ""
    return format(value, ".6g") if isinstance(value, float) else str(value)


def markdown_table(table: TextTable) -> str:
    """Return a table in Markdown without its title: the best cells bold, columns aligned in the source, too."""
    lines = [[column.title for column in table.columns]]
    for index, row in enumerate(table.rows):
        cells = [escape_markdown(cell) for cell in row]
        lines.append([f"**{cell}**" if (index, at) in table.best else cell for at, cell in enumerate(cells)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = [
        "-" * (width - 1) + ":" if column.numeric else "-" * width
        for width, column in zip(widths, table.columns, strict=True)
    ]
    lines.insert(1, rule)
    justify = [str.rjust if column.numeric else str.ljust for column in table.columns]
    padded = ([pad(cell, width) for pad, cell, width in zip(justify, line, widths, strict=True)] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in padded)


def escape_markdown(text: str) -> str:
    """Return a text whose characters mean nothing to Markdown."""
    return re.sub(r"([\\|*_`<])", r"\\\1", text)


def latex_table(table: TextTable, label: str) -> str:
    """Return a `table` environment for the `booktabs` package, the best cells bold."""
    spec = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [" & ".join(_escape_latex(column.title) for column in table.columns) + r" \\"]
    for index, row in enumerate(table.rows):
        if index == 0 or index in table.rules:
            lines.append(r"\midrule")
        cells = [_escape_latex(cell) for cell in row]
        cells = [rf"\textbf{{{cell}}}" if (index, at) in table.best else cell for at, cell in enumerate(cells)]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join(
        (
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape_latex(table.title)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        )
    )


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "†": r"\textdagger{}", **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


def _escape_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w}])-(?=\d)", "$-$", escaped)
