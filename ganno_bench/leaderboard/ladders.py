"""The depth ladders of a suite: how an entry's score changes from one depth to the next."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ganno_bench.leaderboard.style import RC, Look, headline, legend, looks, panels
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Standings

__all__ = ["draw_ladder", "ladders_of", "plot_ladders"]

_RUNG = re.compile(r"(?P<ladder>.+)-(?P<depth>\d+)")
_LOWEST_SCORE = -80
"""Curves are cut off below it: a single entry at chance would hide how the others differ."""


def ladders_of(workloads: Iterable[str]) -> dict[str, dict[int, str]]:
    """Return the ladders among workloads: name -> depth -> workload id, by ascending depth.

    A ladder is at least two workloads whose ids differ only in the number at the end.
    """
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for workload in workloads:
        if match := _RUNG.fullmatch(workload):
            found[match["ladder"]][int(match["depth"])] = workload
    return {name: dict(sorted(rungs.items())) for name, rungs in found.items() if len(rungs) > 1}


def plot_ladders(standings: Standings) -> Figure | None:
    """Return the score against depth with 95 % confidence intervals, a panel for each ladder; None without ladders."""
    ladders = ladders_of(standings.workloads)
    if not ladders:
        return None
    look = looks(standings)
    with mpl.rc_context(RC):
        figure, axes = panels(ladders)
        for panel, rungs in zip(axes, ladders.values(), strict=True):
            draw_ladder(panel, rungs, standings, look)
        axes[0].set_ylabel(f"score\n100 ln(loss of tuned {REFERENCE} / loss)")
        headline(figure, standings)
        legend(figure, look)
    return figure


def draw_ladder(axes: Axes, rungs: dict[int, str], standings: Standings, look: dict[tuple[str, str], Look]) -> None:
    """Draw the scores of one ladder against depth; `rungs` is depth -> workload id."""
    prominent = [key for key, how in look.items() if how.prominent]
    lowest = 0.0
    for key in sorted(look, key=lambda key: look[key].prominent):
        how = look[key]
        cells = {depth: standings.cells[*key, name] for depth, name in rungs.items() if (*key, name) in standings.cells}
        if not cells:
            continue
        # Shift entries sideways, so that their confidence intervals at one depth do not overlap.
        place = prominent.index(key) - (len(prominent) - 1) / 2 if key in prominent else 0.0
        depths = np.array(list(cells)) * 1.025**place
        scores = np.array([cell.score for cell in cells.values()])
        axes.plot(depths, scores, **how.line, marker="o" if how.prominent else None, markersize=3)
        lowest = min(lowest, float(scores.min()))
        if how.prominent:
            ends = [
                (cell.score if cell.score_low is None else cell.score_low,
                 cell.score if cell.score_high is None else cell.score_high)
                for cell in cells.values()
            ]  # fmt: skip
            axes.vlines(depths, *np.array(ends).T, color=how.colour, linewidth=0.8, zorder=how.line["zorder"])
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(list(rungs)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("depth")
    if lowest < _LOWEST_SCORE:
        axes.set_ylim(bottom=_LOWEST_SCORE)
