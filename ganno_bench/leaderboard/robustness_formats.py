"""Robustness as rich text for the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group
from rich.padding import Padding
from rich.text import Text

from ganno_bench.leaderboard.formats import escape_markdown, latex_table, markdown_table, rich_table, write_texts
from ganno_bench.leaderboard.robustness_tables import (
    robustness_csv,
    robustness_footer,
    robustness_table,
    setting_table,
)
from ganno_bench.scoring.robustness import Robustness

__all__ = ["robustness_latex", "robustness_markdown", "robustness_rich", "write_robustness"]


def robustness_rich(found: Robustness) -> Group:
    """Return the table of entries for a terminal; the settings are in the other formats."""
    footer = [Text(line, style="dim") for line in robustness_footer(found)]
    return Group(Padding(rich_table(robustness_table(found)), (1, 0, 0, 0)), Text(""), *footer)


def robustness_markdown(found: Robustness) -> str:
    """Return both tables as sections of a Markdown page."""
    parts = []
    for table in (robustness_table(found), setting_table(found)):
        parts += [f"## {table.title}", markdown_table(table)]
    parts.append("\n".join(f"- {escape_markdown(line)}" for line in robustness_footer(found)))
    return "\n\n".join(parts) + "\n"


def robustness_latex(found: Robustness) -> str:
    """Return both tables as `table` environments for the `booktabs` package, how to read them as comments."""
    tables = {"tab:robustness": robustness_table(found), "tab:robustness-settings": setting_table(found)}
    parts = ["\n".join(f"% {line}" for line in robustness_footer(found))]
    return "\n\n".join([*parts, *(latex_table(table, label) for label, table in tables.items())]) + "\n"


def write_robustness(found: Robustness, out_dir: Path) -> list[Path]:
    """Write `robustness.md`, `robustness.csv` and `robustness.tex` into a folder, which is made if need be."""
    texts = {"md": robustness_markdown(found), "csv": robustness_csv(found), "tex": robustness_latex(found)}
    return write_texts(texts, out_dir / "robustness")
