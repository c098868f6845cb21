"""One picture of the whole leaderboard, for the project's first page: the best entries on all suites."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from statistics import fmean

import matplotlib as mpl
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.drawings import BEGIN, END, SVG_RC, digest
from ganno_bench.leaderboard.tables import count
from ganno_bench.leaderboard.text import minus, short, visible
from ganno_bench.leaderboard.themed_svg import themed_svg
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Ruleset

__all__ = ["THEMES", "overview_boards", "overview_entries", "overview_svg"]

THEMES = ("light", "dark")

_TRIALS = 32
"""Suites with fewer trials are for a first look; no claim rests on them."""

_N_BEST = 5
_ALWAYS: dict[Ruleset, str] = {"tuned": REFERENCE, "zero-shot": f"{REFERENCE}@default"}
"""Shown wherever it ranks: the reference, and the same schedule without tuning."""

_COLOURS: dict[Ruleset, str] = {"tuned": "#0072B2", "zero-shot": "#D55E00"}
_SCALE = 12
"""Scores beyond it are written at the edge."""

_LONGEST = 26
"""Characters of a name that fit to the left of the panels."""

_ROW, _WIDTH, _LABELS, _TOP, _BOTTOM, _GAP = 15, 660, 140, 42, 38, 12  # points


def overview_boards(boards: Sequence[Board]) -> list[Board]:
    """Return the suites of the picture, large ones first: their entries were tuned with the protocol's 32 trials."""
    kept = [board for board in boards if min(board.standings.n_trials, default=0) >= _TRIALS]
    return sorted(kept, key=lambda board: -len(board.standings.workloads))


def overview_entries(boards: Sequence[Board]) -> dict[Ruleset, list[str]]:
    """Return the entries of the picture by ruleset, best first.

    They are the five with the highest mean score over all suites, and cosine: tuned, and at its defaults. An entry
    that lacks a rank on a suite is left out.

    Args:
        boards: The suites of the picture.
    """
    found: dict[Ruleset, list[str]] = {}
    for ruleset, always in _ALWAYS.items():
        ranked = [{row.entry: row.iqm for row in board.ranked(ruleset)} for board in boards]
        common = set.intersection(*map(set, ranked)) if ranked else set()
        best = sorted(common, key=lambda name: (-fmean(scores[name] for scores in ranked), name))
        found[ruleset] = [name for place, name in enumerate(best) if place < _N_BEST or name == always]
    return found


def overview_svg(boards: Sequence[Board], theme: str, *, drawn: bool = True) -> str:
    """Return the picture as a file: a panel for each suite, a row for each entry, a dot and a bar for each score.

    Args:
        boards: All suites.
        theme: One of `THEMES`.
        drawn: Whether to draw it; without a drawing it has the hash of its data all the same.
    """
    boards = overview_boards(boards)
    entries = overview_entries(boards)
    rows = {board.name: board.rows for board in boards}
    shown = [
        [name, ruleset, entry, row.iqm, row.iqm_low, row.iqm_high]
        for name, found in rows.items()
        for ruleset, names in entries.items()
        for entry in names
        for row in [found[ruleset, entry]]
    ]
    height = _TOP + _BOTTOM + _ROW * (sum(map(len, entries.values())) + len(entries))
    inner = _draw(boards, entries, height) if drawn else ""
    spoken = "; ".join(
        f"{name}, {entry} ({ruleset}) {minus(f'{iqm:+.1f}')}" for name, ruleset, entry, iqm, _, _ in shown
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="880" '
        f'role="img" aria-labelledby="t d" data-made-from="{digest(shown)}">'
        f'<title id="t">Scores of the best entries on {len(boards)} suites</title>'
        f'<desc id="d">Score 0 is tuned cosine. {escape(visible(spoken))}.</desc>'
        f'<style>{_style(theme)}</style><rect class="f-paper" width="100%" height="100%" rx="6"/>'
        f"{BEGIN}{inner}{END}</svg>\n"
    )


def _draw(boards: Sequence[Board], entries: dict[Ruleset, list[str]], height: int) -> str:
    with mpl.rc_context(SVG_RC | {"text.parse_math": False}):  # a name may have dollar signs
        figure = Figure(figsize=(_WIDTH / 72, height / 72))
        width = (_WIDTH - _LABELS - _GAP * len(boards)) / len(boards)
        for index, board in enumerate(boards):
            left = _LABELS + index * (width + _GAP)
            extent = (left / _WIDTH, _BOTTOM / height, width / _WIDTH, (height - _TOP - _BOTTOM) / height)
            _panel(figure.add_axes(extent), board, entries, first=index == 0)
        figure.text(
            (_LABELS + (_WIDTH - _LABELS) / 2) / _WIDTH,
            10 / height,
            "score = 100 ln(loss of tuned cosine / loss), with 95 % confidence interval; better to the right",
            ha="center",
            color="#606060",
        )
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    return themed_svg(out.getvalue(), "overview", {})


def _panel(axes: Axes, board: Board, entries: dict[Ruleset, list[str]], *, first: bool) -> None:
    axes.axvline(0, color="black", linewidth=1)
    y = 0
    for ruleset, names in entries.items():
        if first:
            title = "Tuned by Optuna" if ruleset == "tuned" else "Zero-shot: not tuned"
            offset = (10 - _LABELS, -3)
            axes.annotate(title, (-_SCALE, y), offset, textcoords="offset points", color=_COLOURS[ruleset])
        for name in names:
            y += 1
            if first:
                axes.annotate(short(name, _LONGEST), (-_SCALE, y), (10 - _LABELS, -3), textcoords="offset points")
            _score(axes, board.rows[ruleset, name], _COLOURS[ruleset], y)
        y += 1
    axes.set_xlim(-_SCALE, _SCALE)
    axes.set_ylim(y - 0.5, -0.5)
    axes.set_xticks([-10, -5, 0, 5, 10], [minus("-10"), "", "0", "", "+10"])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.annotate(board.name, (0, -0.5), (0, 20), textcoords="offset points", ha="center")
    n_workloads = len(board.standings.workloads)
    axes.annotate(
        count(n_workloads, "workload"), (0, -0.5), (0, 7), textcoords="offset points", ha="center", color="#606060"
    )


def _score(axes: Axes, row: Row, colour: str, y: int) -> None:
    if abs(row.iqm) > _SCALE:
        number = minus(f"{row.iqm:+.0f}")
        text, offset, align = (f"\u2190 {number}", 2, "left") if row.iqm < 0 else (f"{number} \u2192", -2, "right")
        at = (math.copysign(_SCALE, row.iqm), y)
        axes.annotate(text, at, (offset, -3), textcoords="offset points", ha=align, color="#606060")
        return
    if row.iqm_low is not None and row.iqm_high is not None:
        axes.plot([row.iqm_low, row.iqm_high], [y, y], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([row.iqm], [y], "o", color=colour, markersize=6)


def _style(theme: str) -> str:
    """Return rules for the classes of a drawing, in the colours that the site's pages have in a theme."""
    sheet = (files("ganno_bench.leaderboard") / "templates" / "site.css").read_text(encoding="utf-8")
    opening = {"light": r":root \{", "dark": r':root\[data-theme="dark"\] \{'}[theme]
    (block,) = re.findall(rf"^{opening}(.*?)^\}}", sheet, re.DOTALL | re.MULTILINE)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", block))
    kept = {name: colours[name] for name in ("ink", "paper", "grid", "rest", "mute", "c1", "c2")}
    rules = [".n{fill:none}", "text{font:9px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}"]
    rules += [f".s-{name}{{stroke:{colour}}}.f-{name}{{fill:{colour}}}" for name, colour in kept.items()]
    return "".join(rules)
