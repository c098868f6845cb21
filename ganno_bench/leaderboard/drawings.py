"""Drawings for pages: one matplotlib panel each, with a text for screen readers and a hash of its data."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel

from ganno_bench.leaderboard.style import RC
from ganno_bench.leaderboard.text import visible
from ganno_bench.leaderboard.themed_svg import themed_svg

__all__ = ["BEGIN", "END", "SVG_RC", "Drawing", "digest", "strip_drawings"]

BEGIN, END = "<!--drawing-->", "<!--/drawing-->"
_INNER = re.compile(f"{BEGIN}.*?{END}", re.DOTALL)
SVG_RC = RC | {
    "axes.edgecolor": "#b8b8b8",
    "axes.linewidth": 0.8,
    "axes.titlecolor": "#606060",
    "axes.titlesize": 9,
    "axes.labelcolor": "#606060",
    "axes.labelsize": 9,
    "figure.facecolor": "none",
    "image.composite_image": False,
    "axes.facecolor": "none",
    "path.simplify": True,
    "path.simplify_threshold": 0.3,
    "svg.fonttype": "none",
    "xtick.color": "#606060",
    "ytick.color": "#606060",
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """One panel of a page.

    Attributes:
        name: Name that is unique on its page, of letters, digits and hyphens.
        title: Its subject.
        description: Its main result, for screen readers.
        made_from: All of its data: plain values, dataclasses, arrays.
        draw: Function that draws it.
        size: Width and height, points.
        margins: Left, bottom, right, top, points.
        tips: Name of a line (`Line2D.get_gid`) -> text that pointing at the line shows.
    """

    name: str
    title: str
    description: str
    made_from: Any
    draw: Callable[[Axes], None]
    size: tuple[int, int] = (264, 190)
    margins: tuple[int, int, int, int] = (38, 34, 6, 18)
    tips: Mapping[str, str] | None = None

    def markup(self, *, drawn: bool) -> Markup:
        """Return an `svg` element with a hash of its data; `drawn=False` leaves the drawing out."""
        width, height = self.size
        name, made_from = escape(self.name), digest(self.made_from, self.size, self.margins)
        inner = self._inner() if drawn else ""
        return Markup(
            f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-t {name}-d" '
            f'data-made-from="{made_from}"><title id="{name}-t">{escape(visible(self.title))}</title>'
            f'<desc id="{name}-d">{escape(visible(self.description))}</desc>{BEGIN}{inner}{END}</svg>'
        )

    def _inner(self) -> str:
        with mpl.rc_context(SVG_RC):
            width, height = self.size
            left, bottom, right, top = self.margins
            figure = Figure(figsize=(width / 72, height / 72))
            extent = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
            self.draw(figure.add_axes(extent))
            out = io.StringIO()
            figure.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
        return themed_svg(out.getvalue(), self.name, self.tips or {})


def strip_drawings(page: str) -> str:
    """Return a page without its drawings, as with `drawn=False`."""
    return _INNER.sub(BEGIN + END, page)


def digest(*values: Any) -> str:
    """Return a hash of values, 12 hexadecimal digits; numbers are rounded to six digits, equal on all machines."""
    text = json.dumps(_plain(values), separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _plain(value: Any) -> Any:
    if type(value) is float or isinstance(value, float | np.floating):  # most values are; the first test is faster
        return f"{value:.6g}"
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json"))
    if is_dataclass(value):
        return [_plain(getattr(value, field.name)) for field in fields(value)]
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise TypeError(f"a drawing cannot be made from a {type(value).__name__}")
