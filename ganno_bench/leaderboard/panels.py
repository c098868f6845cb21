"""The drawings of the pages: title, description, data and drawing function of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext

from ganno_bench.core.records import LrTrace, RunRecord
from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.draw import (
    draw_budget,
    draw_layers,
    draw_learning_rates,
    draw_losses,
    draw_profile,
    mean_budget,
    profiles,
)
from ganno_bench.leaderboard.drawings import Drawing
from ganno_bench.leaderboard.ladders import draw_ladder, ladders_of
from ganno_bench.leaderboard.robustness_plot import LOWEST_SCORE, draw_factor
from ganno_bench.leaderboard.robustness_tables import FACTORS
from ganno_bench.leaderboard.style import Look
from ganno_bench.leaderboard.tables import count
from ganno_bench.leaderboard.text import visible
from ganno_bench.scoring.budget import trials_to_match
from ganno_bench.scoring.metrics import validation_curves
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.robustness import Robustness, Setting

__all__ = [
    "budget_panel",
    "entry_loss_panel",
    "entry_rate_panel",
    "ladder_panels",
    "loss_panel",
    "profile_panels",
    "robustness_panels",
]

_Key = tuple[str, str]
_TUNED = ("tuned", REFERENCE)
_OWN_COLOUR = "#0072B2"
_WIDE = (540, 300)


def ladder_panels(board: Board, workload: str | None = None) -> list[Drawing]:
    """Return the score against depth: a panel for each ladder, or for the ladder of one workload."""
    panels = []
    for name, rungs in ladders_of(board.standings.workloads).items():
        if workload is not None and workload not in rungs.values():
            continue
        look, tips = _named(board.looks)
        cells = {key: [board.standings.cells.get((*key, rung)) for rung in rungs.values()] for key in look}
        leader = {
            depth: max(
                (cell.score, key[1]) for key in look if (cell := board.standings.cells.get((*key, rung))) is not None
            )
            for depth, rung in rungs.items()
        }
        seen = ", ".join(f"{who} ({score:+.1f}) at depth {depth}" for depth, (score, who) in leader.items())
        panels.append(
            Drawing(
                f"ladder-{_id(name)}",
                f"{name}: score against depth",
                f"Best: {seen}.",
                (list(rungs.items()), list(look.items()), list(cells.items())),
                _titled("score", _ladder, rungs, board, look),
                tips=tips,
            )
        )
    return panels


def budget_panel(
    board: Board, workloads: Sequence[str], title: str, name: str, *, wide: bool = False
) -> Drawing | None:
    """Return the mean budget curve over workloads; None if tuned cosine has fewer than two trials on one of them."""
    known = board.budget.get(_TUNED, {})
    if not workloads or any(len(known.get(workload, ())) < 2 for workload in workloads):
        return None
    look, tips = _named(board.looks)
    scores = {key: values for key, values in mean_budget(board.budget, workloads).items() if key in look}
    n_trials = len(scores[_TUNED])
    found = {key[1]: trials_to_match(scores[_TUNED], float(own[0])) for key, own in scores.items() if len(own) == 1}
    seen = ", ".join(f"{who} {_after(n, n_trials)}" for who, n in found.items())
    return Drawing(
        name,
        title,
        f"Tuned {REFERENCE} catches up with zero-shot entries: {seen}." if seen else title,
        (list(look.items()), list(scores.items())),
        _titled("expected best score, validation", draw_budget, scores, look),
        size=_WIDE if wide else (264, 190),
        tips=tips,
    )


def profile_panels(board: Board) -> list[Drawing]:
    """Return a performance profile for each ruleset."""
    panels = []
    for ruleset, profile in profiles(board.comparison.records, board.standings).items():
        look, tips = _named({key: how for key, how in board.looks.items() if key in profile.shares})
        wins = sorted(((float(shares[0]), key[1]) for key, shares in profile.shares.items()), reverse=True)[:3]
        panels.append(
            Drawing(
                f"profile-{ruleset}",
                f"{ruleset.capitalize()}: performance profile",
                f"Most often best: {', '.join(f'{who} on {share:.0%} of runs' for share, who in wins)}.",
                (list(look.items()), profile),
                _titled("runs within the ratio (%)", draw_profile, profile, look),
                tips=tips,
            )
        )
    return panels


def robustness_panels(board: Board, workload: str = "") -> list[Drawing]:
    """Return scores against the multiples of each factor: the mean over workloads, or one workload."""
    found = board.robustness
    if found is None or (workload and workload not in found.workloads):
        return []
    look, tips = _named(board.looks)
    panels = []
    for factor, settings in found.factors.items():
        best, entry = max((entry.factors[factor], entry.entry) for entry in found.entries)
        panels.append(
            Drawing(
                f"robust-{_id(factor)}",
                f"{FACTORS[factor].capitalize()}: score against its multiple",
                f"Best mean: {entry}, {best:+.1f}.",
                (settings, list(look.items()), found.entries, workload),
                _titled("score", _factor, found, settings, workload, look),
                tips=tips,
            )
        )
    return panels


def loss_panel(board: Board, workload: str) -> Drawing:
    """Return the validation curves of all entries on a workload."""
    look, tips = _named({key: how for key, how in board.looks.items() if (*key, workload) in board.reports})
    runs = {key: board.reports[*key, workload] for key in look}
    final = sorted((float(np.median([run.objective for run in own])), key[1]) for key, own in runs.items())[:3]
    return Drawing(
        "losses",
        f"Validation loss on {workload}",
        f"Lowest median at the end: {', '.join(f'{who} {loss:.4g} nats' for loss, who in final)}.",
        (list(look.items()), [_curves(own) for own in runs.values()]),
        _titled("validation loss (nats)", draw_losses, runs, look),
        size=_WIDE,
        tips=tips,
    )


def entry_loss_panel(board: Board, key: _Key, workload: str, name: str) -> Drawing:
    """Return an entry's validation curve on a workload, with the reference's for comparison."""
    look, tips = _named(_own_looks(board, key))
    runs = {who: board.reports[*who, workload] for who in look if (*who, workload) in board.reports}
    ends = [f"{who[1]} {np.median([run.objective for run in own]):.4g} nats" for who, own in runs.items()]
    return Drawing(
        name,
        f"Validation loss on {workload}",
        f"Medians at the end: {', '.join(ends)}.",
        (list(look.items()), [_curves(own) for own in runs.values()]),
        _titled("validation loss (nats)", draw_losses, runs, look),
        tips=tips,
    )


def entry_rate_panel(board: Board, key: _Key, workload: str, name: str) -> Drawing | None:
    """Return the learning rates of an entry's first run on a workload; None if its records have none.

    If layers differ, it is a heat map with a row for each layer. Otherwise it is a line, with the reference's.
    """
    trace = _trace(board, key, workload)
    if trace is None:
        return None
    lr = np.array(trace.lr, dtype=np.float64)
    title = f"Learning rate on {workload}"
    at = trace.updates[int(lr.max(axis=1).argmax())]
    seen = f"It peaks at {lr.max():.3g} at update {at} and ends at {lr[-1].mean():.3g}."
    if (lr.min(axis=1) < lr.max(axis=1)).any():
        moving = lr.min(axis=1) > 0
        spread = float((lr[moving].max(axis=1) / lr[moving].min(axis=1)).max()) if moving.any() else 1.0
        return Drawing(
            name,
            f"{title}, per layer",
            f"{seen} Its {lr.shape[1]} layers differ by a factor of up to {spread:.3g}.",
            ("layers", trace),
            lambda axes: draw_layers(axes, trace),
            margins=(58, 34, 6, 18),
        )
    look, tips = _named(_own_looks(board, key))
    traces = {who: found for who in look if (found := _trace(board, who, workload)) is not None}
    return Drawing(
        name,
        title,
        f"{seen} All layers have the same learning rate.",
        (list(look.items()), list(traces.items())),
        _titled("learning rate", draw_learning_rates, traces, look),
        tips=tips,
    )


def _titled(title: str, draw: Callable[..., None], *arguments: Any) -> Callable[[Axes], None]:
    def drawn(axes: Axes) -> None:
        draw(axes, *arguments)
        axes.set_title(title, loc="left")
        for axis in (axes.xaxis, axes.yaxis):
            if isinstance(axis.get_major_formatter(), LogFormatterMathtext):  # `themed_svg` shows no powers
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))

    return drawn


def _ladder(axes: Axes, rungs: dict[int, str], board: Board, look: dict[_Key, Look]) -> None:
    """Draw a ladder, cut off below the lowest confidence interval of the prominent entries."""
    draw_ladder(axes, rungs, board.standings, look)
    cells = [board.standings.cells.get((*key, rung)) for key in look if look[key].prominent for rung in rungs.values()]
    ends = [end for cell in cells if cell is not None for end in (cell.score, cell.score_low) if end is not None]
    axes.set_ylim(bottom=max(axes.get_ylim()[0], min(ends) - 3))


def _factor(
    axes: Axes, found: Robustness, settings: Sequence[Setting], workload: str, look: Mapping[_Key, Look]
) -> None:
    draw_factor(axes, found, settings, workload, look)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], LOWEST_SCORE))
    axes.set_xlabel("multiple")


def _curves(runs: Sequence[RunRecord]) -> tuple[object, ...]:
    return (*validation_curves(runs), runs[0].chance_loss)


def _trace(board: Board, key: _Key, workload: str) -> LrTrace | None:
    runs = board.reports.get((*key, workload), ())
    return runs[0].lr_trace if runs and runs[0].lr_trace.updates else None


def _named(look: Mapping[_Key, Look]) -> tuple[dict[_Key, Look], dict[str, str]]:
    """Return looks whose lines have a name in the SVG, and name -> the tip that pointing at the line shows."""
    named = {key: replace(how, gid=f"e{index}") for index, (key, how) in enumerate(look.items())}
    return named, {str(how.gid): visible(how.label) for how in named.values()}


def _own_looks(board: Board, key: _Key) -> dict[_Key, Look]:
    """Return the looks on an entry's own page: the entry, with the reference behind it."""
    own = replace(board.looks[key], colour=_OWN_COLOUR, dashed=False, prominent=True)
    if key == _TUNED or _TUNED not in board.looks:
        return {key: own}
    return {_TUNED: board.looks[_TUNED], key: own}


def _id(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower())


def _after(n_trials: int | None, most: int) -> str:
    return f"after {count(n_trials, 'trial')}" if n_trials else f"not within {count(most, 'trial')}"
