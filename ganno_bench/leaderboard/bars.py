"""Confidence intervals as bars in the cells of a table, all on one scale."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

from ganno_bench.leaderboard.text import minus

__all__ = ["Scale", "scale_of"]

_WIDTH, _HEIGHT, _MARGIN = 168, 14, 6
_LOWEST = -30.0
"""Scores below it are drawn as an arrow: a single score at chance would leave no room for the others."""


@dataclass(frozen=True)
class Scale:
    """A scale of scores, `low` < 0 < `high`."""

    low: float
    high: float

    def x(self, score: float) -> float:
        """Return the place of a score on the scale, points; scores off the scale are put at its end."""
        share = (min(max(score, self.low), self.high) - self.low) / (self.high - self.low)
        return round(_MARGIN + share * (_WIDTH - 2 * _MARGIN), 1)

    def bar(self, value: float, low: float | None, high: float | None) -> Markup:
        """Return a score and its confidence interval as a drawing, without the numbers."""
        parts = [f'<path class="zero" d="M{self.x(0):g} 0V{_HEIGHT}"/>']
        side = "up" if (low or value) > 0 else "down" if (value if high is None else high) < 0 else "even"
        if low is not None and high is not None:
            start, end = self.x(low), self.x(high)
            parts.append(f'<path class="span {side}" d="M{start:g} 7H{max(end, start + 1):g}"/>')
        at = self.x(value)
        if value < self.low:
            parts.append(f'<path class="off {side}" d="M{at - 4:g} 7l5-4v8z"/>')
        else:
            parts.append(f'<circle class="{side}" cx="{at:g}" cy="7" r="3"/>')
        return Markup(
            f'<svg class="bar" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'aria-hidden="true">{"".join(parts)}</svg>'
        )

    def axis(self) -> Markup:
        """Return the labels of the scale's ends and zero, for the head of the column."""
        labels = {self.low: "start", 0.0: "middle", self.high: "end"}
        if self.x(0) - self.x(self.low) < 24:
            del labels[self.low]
        if self.x(self.high) - self.x(0) < 24:
            del labels[self.high]
        texts = "".join(
            f'<text x="{ {"start": 0, "middle": self.x(score), "end": _WIDTH}[anchor]:g}" y="11" '
            f'text-anchor="{anchor}">{minus(f"{score:+.0f}") if score else 0}</text>'
            for score, anchor in labels.items()
        )
        return Markup(
            f'<svg class="bar axis" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
            f'aria-hidden="true">{texts}</svg>'
        )


def scale_of(scores: Iterable[float | None]) -> Scale:
    """Return a scale that holds all scores, except extremely low ones."""
    known = [score for score in scores if score is not None]
    low, high = min([-5.0, *known]), max([5.0, *known])
    return Scale(max(low, _LOWEST), high)
