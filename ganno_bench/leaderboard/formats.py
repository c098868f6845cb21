"""Standings as Markdown, CSV and LaTeX; `terminal` shows them on a screen."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ganno_bench.leaderboard.outcome import outcome
from ganno_bench.leaderboard.tables import TextTable, header, main_table, remarks, workload_table
from ganno_bench.leaderboard.terms import terms
from ganno_bench.scoring.results import Row, Standings

__all__ = [
    "escape_markdown",
    "latex_table",
    "markdown_table",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_tables",
    "write_texts",
]

_CSV_COLUMNS = (
    "table", "entry", "ruleset", "kind", "workload", "rank", "score", "score_low", "score_high", "improvement",
    "improvement_low", "improvement_high", "mean_rank", "speed_up", "test_loss", "test_error", "reference_loss",
    "diverged", "runs", "workloads", "trials", "suite", "suite_hash", "custom", "open_optimizer", "baseline",
)  # fmt: skip


def to_markdown(standings: Standings) -> str:
    """Return a Markdown page: the outcome, then tables, terms and remarks; the best cells are bold."""
    parts = [f"# Standings: {standings.suite}", _bullets(outcome(standings)), _bullets(header(standings))]
    for make in (main_table, workload_table):
        for ruleset in standings.tables:
            table = make(standings, ruleset)
            parts += [f"## {table.title}", markdown_table(table)]
    parts += ["## Terms", _bullets(_explained(standings))]
    if notes := remarks(standings):
        parts += ["## Remarks", _bullets(notes)]
    return "\n\n".join(parts) + "\n"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def _explained(standings: Standings) -> list[str]:
    return [f"{term}: {meaning}" for term, meaning in terms(standings)]


def to_csv(standings: Standings) -> str:
    """Return plain numbers with six significant digits: for each row of a table, a line `overall` and one per workload.

    Losses are in nats, errors in [0, 1]; an empty field means that there is no value. `score` is the interquartile mean
    over runs and workloads in a line `overall`, and the mean over runs in the others.
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
    """Return `table` environments for the `booktabs` package, the best cells bold, everything else as comments."""
    said = (*outcome(standings), *header(standings), *_explained(standings), *remarks(standings))
    parts = ["\n".join(f"% {' '.join(line.split())}" for line in said)]
    for make in (main_table, workload_table):
        for ruleset in standings.tables:
            table = make(standings, ruleset)
            label = f"tab:{standings.suite}-{ruleset}{'-workloads' if make is workload_table else ''}"
            parts.append(latex_table(table, label))
    return "\n\n".join(parts) + "\n"


def write_tables(standings: Standings, out_dir: Path) -> list[Path]:
    """Write `standings.md`, `standings.csv` and `standings.tex` into a folder, which is created if it is missing."""
    texts = {"md": to_markdown(standings), "csv": to_csv(standings), "tex": to_latex(standings)}
    return write_texts(texts, out_dir / "standings")


def write_texts(texts: Mapping[str, str], stem: Path) -> list[Path]:
    """Write a text for each suffix, and return the paths; `stem` is the path without suffix. Create its folder."""
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
    """Return a table in Markdown without its title: the best cells bold, columns aligned in the source."""
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
    """Return a text with the special characters of Markdown escaped."""
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
