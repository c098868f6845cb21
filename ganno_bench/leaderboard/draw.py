"""Draw single panels, for plots with several panels and for the pages' drawings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from ganno_bench.core.records import LrTrace, RunRecord
from ganno_bench.leaderboard.style import Look, log_ticks
from ganno_bench.scoring.budget import trials_to_match
from ganno_bench.scoring.metrics import (
    SOLVED,
    FloatArray,
    clipped_loss,
    counted,
    performance_profile,
    validation_curves,
)
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Ruleset, Standings

__all__ = [
    "Profile",
    "draw_budget",
    "draw_layers",
    "draw_learning_rates",
    "draw_losses",
    "draw_profile",
    "mean_budget",
    "profiles",
]

Looks = Mapping[tuple[str, str], Look]
"""(ruleset, entry) -> colour and line style."""

_HEAT_COLUMNS = 48
_MOST_LAYERS = 9
_LONGEST_LAYER = 10
_LOWEST_LOSS = SOLVED / 10
"""Lowest loss that is drawn, as a share of the loss of chance."""
_LOWEST_SCORE = -60
"""Budget curves are cut off below it: trials at chance would hide where the curves end."""


def draw_losses(axes: Axes, runs: Mapping[tuple[str, str], Sequence[RunRecord]], look: Looks) -> None:
    """Draw validation losses of one workload: the median over runs, and a band for the middle half of the runs.

    Curves are clipped at chance, where diverged runs stay. Since a loss may be 0, they are also clipped at a tenth of
    the loss that counts as solved.
    """
    lowest, chance = np.inf, 0.0
    for key in _by_prominence(runs, look):
        updates, losses = validation_curves(runs[key])
        losses = np.maximum(losses, _LOWEST_LOSS * runs[key][0].chance_loss)
        low, median, high = np.quantile(losses, (0.25, 0.5, 0.75), axis=0)
        axes.plot(updates, median, **look[key].line)
        if look[key].prominent and len(runs[key]) > 1:
            axes.fill_between(updates, low, high, color=look[key].colour, alpha=0.15, linewidth=0)
        lowest, chance = min(lowest, float(low.min())), max(chance, runs[key][0].chance_loss)
    axes.set_yscale("log")
    axes.axhline(chance, color="black", linewidth=0.8, linestyle=":")
    axes.annotate("chance", (1, chance), (0, 2), axes.get_yaxis_transform(), "offset points", ha="right")
    axes.set_ylim(lowest * 0.95, chance * max(1.05, (chance / lowest) ** 0.12))
    axes.set_xlim(left=0)
    log_ticks(axes.yaxis)
    axes.set_xlabel("updates")


def draw_learning_rates(axes: Axes, traces: Mapping[tuple[str, str], LrTrace], look: Looks) -> None:
    """Draw the learning rates of one run of each entry.

    A layerwise entry has a line for the geometric mean, thin lines for the layers, and a band from the lowest to the
    highest.
    """
    highest = 0.0
    for key in _by_prominence(traces, look):
        trace, how = traces[key], look[key]
        lr = np.array(trace.lr, dtype=np.float64).reshape(len(trace.updates), -1)
        if lr.size == 0:
            continue
        highest = max(highest, float(lr.max()))
        positive = np.maximum(lr, np.finfo(np.float64).tiny)
        axes.plot(trace.updates, np.exp(np.log(positive).mean(axis=1)), **how.line)
        if how.prominent and (lr.min(axis=1) < lr.max(axis=1)).any():
            axes.plot(trace.updates, positive, color=how.colour, linewidth=0.6, alpha=0.7)
            low, high = positive.min(axis=1), positive.max(axis=1)
            axes.fill_between(trace.updates, low, high, color=how.colour, alpha=0.12, linewidth=0)
    axes.set_yscale("log")
    if highest > 0:
        axes.set_ylim(max(axes.dataLim.minposy, highest * 1e-4) / 1.5, highest * 1.5)
        log_ticks(axes.yaxis)
    axes.set_xlabel("updates")


def draw_layers(axes: Axes, trace: LrTrace) -> None:
    """Draw the learning rates of one run as a heat map: a row for each layer, the input layer at the top.

    Colours are logarithmic: dark is the lowest learning rate, or a thousandth of the highest; bright is the highest.
    """
    lr = np.array(trace.lr, dtype=np.float64)
    high = float(lr.max())
    low = max(float(lr[lr > 0].min(initial=high)), high * 1e-3)
    grid = np.linspace(0, trace.updates[-1], _HEAT_COLUMNS)
    at = np.searchsorted(trace.updates, grid, side="right") - 1  # a learning rate holds until the next recorded one
    n_layers = lr.shape[1]
    axes.imshow(
        np.log10(np.clip(lr[at], low, high)).T,
        aspect="auto",
        interpolation="none",
        cmap="viridis",
        vmin=np.log10(low),
        vmax=np.log10(high) if high > low else np.log10(low) + 1,
        extent=(0, trace.updates[-1], n_layers - 0.5, -0.5),
    )
    shown = range(n_layers) if n_layers <= _MOST_LAYERS else sorted({0, n_layers // 3, 2 * n_layers // 3, n_layers - 1})
    axes.yaxis.set_major_locator(FixedLocator(list(shown)))
    axes.set_yticklabels([trace.layers[index][:_LONGEST_LAYER] for index in shown])
    axes.grid(visible=False)
    axes.set_title(f"learning rate, {low:.2g} to {high:.2g}", loc="left")
    axes.set_xlabel("updates")


def mean_budget(
    scores: Mapping[tuple[str, str], Mapping[str, FloatArray]], workloads: Sequence[str]
) -> dict[tuple[str, str], FloatArray]:
    """Return the mean expected best scores over workloads, shape (N,), of the entries that have all workloads."""
    return {
        key: np.mean([on[name][: min(map(len, on.values()))] for name in workloads], axis=0)
        for key, on in scores.items()
        if all(name in on for name in workloads)
    }


def draw_budget(axes: Axes, scores: Mapping[tuple[str, str], FloatArray], look: Looks) -> None:
    """Draw the expected best score against the number of trials; zero-shot entries are horizontal lines.

    A dot marks where tuned cosine crosses a zero-shot entry, with the number of trials.

    Args:
        axes: Axes to draw into.
        scores: Entry -> expected best score after 1, 2, ... N trials, shape (N,); shape (1,) for zero-shot entries.
            Tuned cosine must be included.
        look: Colour and line style of each entry.
    """
    reference = scores["tuned", REFERENCE]
    n_trials = max(len(values) for values in scores.values())
    for key in _by_prominence(scores, look):
        how = look[key]
        if key[0] == "tuned":
            axes.plot(np.arange(1, len(scores[key]) + 1), scores[key], **how.line)
            continue
        level = float(scores[key][0])
        axes.axhline(level, **how.line)
        n = trials_to_match(reference, level)
        if how.prominent and n is not None:
            axes.plot([n], [reference[n - 1]], "o", color=how.colour, markersize=5, zorder=4)
            axes.annotate(
                f"{n}",
                (n, reference[n - 1]),
                (4, -11),
                textcoords="offset points",
                color=how.colour,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    axes.set_ylim(bottom=max(axes.get_ylim()[0], _LOWEST_SCORE))
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(n_trials.bit_length()) if 2**power <= n_trials]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([str(tick) for tick in ticks])
    axes.set_xlabel("Optuna trials per workload")


@dataclass(frozen=True)
class Profile:
    """A performance profile of a ruleset's ranked entries.

    Attributes:
        ratios: Test loss / best entry's test loss, ascending from 1, shape (n,).
        shares: (ruleset, entry) -> share of runs within each ratio, from 0 to 1, shape (n,).
    """

    ratios: FloatArray
    shares: dict[tuple[str, str], FloatArray]


def profiles(records: Iterable[RunRecord], standings: Standings) -> dict[Ruleset, Profile]:
    """Return the performance profile of every ruleset with at least two ranked entries.

    A problem is a workload with a report seed, in each entry's first study. Only problems that every ranked entry has
    are counted.
    """
    losses: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for run in sorted(records, key=lambda run: run.study, reverse=True):
        if run.role == "report" and run.workload in standings.workloads:
            loss = counted(clipped_loss(run), standings.reference[run.workload], run.chance_loss)
            losses[run.ruleset, run.scheduler][run.workload, run.seed] = float(loss)
    found: dict[Ruleset, Profile] = {}
    for ruleset, table in standings.tables.items():
        ranked: list[tuple[str, str]] = [(row.ruleset, row.entry) for row in table if row.rank is not None]
        problems = [
            problem
            for problem in (losses[ranked[0]] if len(ranked) > 1 else ())
            if all(problem in losses[key] for key in ranked)
        ]
        if problems:
            values = np.array([[losses[key][problem] for problem in problems] for key in ranked])
            ratios = np.geomspace(1, max(1.01, float((values / values.min(axis=0)).max())), 200)
            shares = performance_profile(values, ratios)
            found[ruleset] = Profile(ratios, dict(zip(ranked, shares, strict=True)))
    return found


def draw_profile(axes: Axes, profile: Profile, look: Looks) -> None:
    """Draw a performance profile: the share of runs, per cent, on which an entry is within a ratio of the best loss."""
    for key, shares in profile.shares.items():
        axes.step(profile.ratios, 100 * shares, where="post", **look[key].line)
    axes.set_xscale("log")
    axes.set_xlim(1, profile.ratios[-1])
    axes.set_ylim(0, 102)
    log_ticks(axes.xaxis)
    axes.set_xlabel("test loss / best entry's test loss")


def _by_prominence(keys: Iterable[tuple[str, str]], look: Looks) -> list[tuple[str, str]]:
    """Return the given entries in the order of the looks, those that are not prominent first."""
    known = set(keys)
    return sorted((key for key in look if key in known), key=lambda key: look[key].prominent)
