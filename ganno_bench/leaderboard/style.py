"""What all plots share: the entries' colours and line styles, panels, axes, files."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ganno_bench.leaderboard.tables import claims
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Standings

__all__ = ["RC", "Look", "headline", "legend", "literal", "log_ticks", "looks", "panels", "save"]

RC: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.hashsalt": "ganno-bench",
}
"""Matplotlib settings; the fixed salt makes the ids in an SVG reproducible."""

# Okabe and Ito's colours, which colour-blind readers can distinguish; without black (the reference) and yellow (too
# pale for a line).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_GREY = "#b8b8b8"


@dataclass(frozen=True)
class Look:
    """The colour and line style of an entry: tuned is solid, zero-shot dashed; entries not among the best are grey.

    Attributes:
        label: Its name in a legend.
        colour: Its colour.
        dashed: Whether its lines are dashed.
        prominent: Whether it has its own colour and thick lines; others are thin and grey.
        gid: Name of its lines in an SVG, or None.
    """

    label: str
    colour: str
    dashed: bool
    prominent: bool
    gid: str | None = None

    @property
    def line(self) -> dict[str, Any]:
        """Return keyword arguments of `Axes.plot`."""
        return {
            "color": self.colour,
            "linestyle": "--" if self.dashed else "-",
            "linewidth": 1.6 if self.prominent else 0.8,
            "zorder": 3 if self.prominent else 2,
            "gid": self.gid,
        }


def looks(standings: Standings) -> dict[tuple[str, str], Look]:
    """Return (ruleset, entry) -> its look.

    The reference is black. Six other entries have a colour, taken in turn from the top of each ruleset's table.
    """
    tables = [[row for row in table if row.kind == "entry"] for table in standings.tables.values()]
    rows = [row for table in tables for row in table]
    by_place = [row for place in zip_longest(*tables) for row in place if row is not None]
    others = [row for row in by_place if (row.ruleset, row.entry) != ("tuned", REFERENCE)]
    colours = {("tuned", REFERENCE): "black"}
    colours |= {(row.ruleset, row.entry): colour for row, colour in zip(others, _COLOURS, strict=False)}
    names = [row.entry for row in rows]
    found: dict[tuple[str, str], Look] = {}
    for row in rows:
        key = (row.ruleset, row.entry)
        label = f"{row.entry} ({row.ruleset})" if names.count(row.entry) > 1 else row.entry
        found[key] = Look(label, colours.get(key, _GREY), row.ruleset == "zero-shot", key in colours)
    return found


def literal(text: str) -> str:
    """Return a text for matplotlib in which dollar signs are characters, and do not enclose a formula."""
    return text.replace("$", r"\$")


def panels(titles: Iterable[str], *, height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """Return a figure with one panel for each title, at most three side by side.

    Args:
        titles: Panel titles.
        height: Height of a panel, inches.
    """
    titles = list(titles)
    n_columns = 2 if len(titles) == 4 else min(3, len(titles))
    n_rows = math.ceil(len(titles) / n_columns)
    figure = Figure(figsize=(max(5.5, 3.5 * n_columns), height * n_rows + 1.0), layout="constrained")
    axes = []
    for index, title in enumerate(titles):
        axes.append(figure.add_subplot(n_rows, n_columns, index + 1))
        axes[-1].set_title(literal(title), loc="left")
    return figure, axes


def headline(figure: Figure, standings: Standings) -> None:
    """Write above the panels what was run, and whether it supports a claim."""
    text = " ".join(claims(standings))
    width = int(14 * figure.get_figwidth())
    figure.suptitle(literal(textwrap.fill(text, width)), x=0.01, ha="left", fontsize=9, color="#606060")


def legend(figure: Figure, shown: Mapping[tuple[str, str], Look]) -> None:
    """Add a legend below the panels, with one item for all grey lines."""
    handles = [Line2D([], [], label=literal(look.label), **look.line) for look in shown.values() if look.prominent]
    if len(handles) < len(shown):
        handles.append(Line2D([], [], label="others", color=_GREY, linewidth=0.8))
    longest = max(len(str(handle.get_label())) for handle in handles)
    n_columns = max(1, int(figure.get_figwidth() / (0.7 + 0.075 * longest)))  # inches, at the legend's font size
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), n_columns))


def log_ticks(axis: Axis) -> None:
    """Label a logarithmic axis at decades; if it covers less than 1.5 decades, at numbers in between as well."""
    low, high = axis.get_view_interval()
    narrow = np.log10(high / low) < 1.5
    axis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if narrow else (1.0,)))
    if narrow:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as PNG and SVG with reproducible bytes; `stem` is the path without its suffix."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in ("png", "svg")]
    with mpl.rc_context(RC):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
