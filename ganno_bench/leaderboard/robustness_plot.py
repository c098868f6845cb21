"""Plot robustness: scores against multiples, a column for each factor, a row for each workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ganno_bench.leaderboard.robustness_tables import FACTORS
from ganno_bench.leaderboard.style import RC, Look, headline, legend, looks
from ganno_bench.scoring.results import Standings
from ganno_bench.scoring.robustness import OWN, Robustness, Setting, VariedCell

__all__ = ["LOWEST_SCORE", "axis_of_multiples", "draw_factor", "plot_robustness"]

LOWEST_SCORE = -150
"""Lines are cut off below it: a score at chance, such as -400, would hide how the other scores differ."""


def plot_robustness(found: Robustness, standings: Standings) -> Figure:
    """Return a panel for each factor and workload, with a line for each entry; the first row is the mean.

    Bands are 95 % confidence intervals. The axis of multiples is logarithmic, with 0 a decade below the smallest.
    """
    look = looks(standings)
    factors = found.factors
    mean = f"mean of {len(found.workloads)} workloads, {found.n_seeds} report seeds"
    titles = [*([mean] if len(found.workloads) > 1 else []), *found.workloads]
    # The width of a factor's panel is roughly proportional to its number of settings.
    widths = [len(settings) + 2 for settings in factors.values()]
    with mpl.rc_context(RC | {"lines.markersize": 3.5}):
        size = (max(7.0, 0.62 * sum(widths) + 0.8), 2.0 * len(titles) + 1.1)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(
            len(titles), len(factors), squeeze=False, sharex="col", sharey="row", gridspec_kw={"width_ratios": widths}
        )
        for row, title in zip(grid, titles, strict=True):
            for axes, (factor, settings) in zip(row, factors.items(), strict=True):
                draw_factor(axes, found, settings, title, look)
                if axes in grid[-1]:
                    axes.set_xlabel(f"{FACTORS[factor]}, multiple")
            row[0].set_title(title, loc="left")
            row[0].set_ylabel("score")
            row[0].set_ylim(bottom=max(row[0].get_ylim()[0], LOWEST_SCORE))
        headline(figure, standings)
        legend(figure, {key: how for key, how in look.items() if key in {(e.ruleset, e.entry) for e in found.entries}})
    return figure


def draw_factor(
    axes: Axes,
    found: Robustness,
    settings: Sequence[Setting],
    workload: str,
    look: Mapping[tuple[str, str], Look],
) -> None:
    """Draw scores against the multiples of one factor, on a workload; with any other name, the mean over workloads."""
    points = sorted((OWN, *settings), key=lambda setting: setting.multiple)
    at = dict(zip(points, axis_of_multiples(axes, [setting.multiple for setting in points]), strict=True))
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
    axes.axvline(at[OWN], color="#b0b0b0", linewidth=0.8)
    for entry in sorted(found.entries, key=lambda entry: look[entry.ruleset, entry.entry].prominent):
        _draw(axes, at, entry.cells.get(workload, entry.overall), look[entry.ruleset, entry.entry])


def axis_of_multiples(axes: Axes, multiples: Sequence[float]) -> list[float]:
    """Mark multiples on the x-axis at their decadic logarithms, 0 a decade below the smallest; return these places."""
    least = min(multiple for multiple in multiples if multiple > 0)
    places = [float(np.log10(multiple)) if multiple > 0 else float(np.log10(least)) - 1 for multiple in multiples]
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{multiple:g}" for multiple in multiples])
    return places


def _draw(axes: Axes, at: Mapping[Setting, float], cells: Mapping[Setting, VariedCell], look: Look) -> None:
    own = [(place, cells[setting]) for setting, place in at.items()]
    axes.plot([place for place, _ in own], [cell.score for _, cell in own], marker="o", **look.line)
    bounds = [(place, cell.low, cell.high) for place, cell in own if cell.low is not None and cell.high is not None]
    if look.prominent and len(bounds) == len(own):
        places, low, high = zip(*bounds, strict=True)
        axes.fill_between(places, low, high, color=look.colour, alpha=0.15, linewidth=0)
