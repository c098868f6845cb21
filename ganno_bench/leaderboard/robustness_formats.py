"""Robustness for the terminal, and as Markdown and LaTeX."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.text import Text

from ganno_bench.leaderboard.formats import escape_markdown, latex_table, markdown_table, write_texts
from ganno_bench.leaderboard.robustness_tables import (
    robustness_csv,
    robustness_footer,
    robustness_remarks,
    robustness_table,
    robustness_terms,
    setting_table,
)
from ganno_bench.leaderboard.terminal import Paragraph, TerminalTable
from ganno_bench.scoring.robustness import Robustness

__all__ = ["robustness_latex", "robustness_markdown", "robustness_rich", "write_robustness"]


def robustness_rich(found: Robustness) -> Group:
    """Return the table of entries for a terminal, its terms and remarks; the other formats also have the settings."""
    explained = robustness_terms(found)
    width = max(len(term) for term, _ in explained) + 2
    said = [Paragraph(meaning, f"{term:<{width}}", style="dim") for term, meaning in explained]
    notes = [Paragraph(note, "- ", style="dim") for note in robustness_remarks(found)]
    return Group(TerminalTable(robustness_table(found)), Text(), *said, *[Text()] * bool(notes), *notes)


def robustness_markdown(found: Robustness) -> str:
    """Return both tables as sections of a Markdown page."""
    parts = []
    for table in (robustness_table(found), setting_table(found)):
        parts += [f"## {table.title}", markdown_table(table)]
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in robustness_footer(found)))
    return "\n\n".join(parts) + "\n"


def robustness_latex(found: Robustness) -> str:
    """Return both tables as `table` environments for the `booktabs` package, terms and remarks as comments."""
    tables = {"tab:robustness": robustness_table(found), "tab:robustness-settings": setting_table(found)}
    parts = ["\n".join(f"% {line}" for line in robustness_footer(found))]
    return "\n\n".join([*parts, *(latex_table(table, label) for label, table in tables.items())]) + "\n"


def write_robustness(found: Robustness, out_dir: Path) -> list[Path]:
    """Write `robustness.md`, `robustness.csv` and `robustness.tex` into a folder, which is created if it is missing."""
    texts = {"md": robustness_markdown(found), "csv": robustness_csv(found), "tex": robustness_latex(found)}
    return write_texts(texts, out_dir / "robustness")
