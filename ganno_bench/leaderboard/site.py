"""The static site: a page for every suite, entry and workload. It loads nothing from outside its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from matplotlib.colors import to_hex

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.entries import Entry
from ganno_bench.leaderboard.pages import (
    entry_page,
    entry_path,
    index_page,
    suite_page,
    suite_path,
    workload_page,
    workload_path,
)
from ganno_bench.leaderboard.text import DASH, href, minus, page_name, short, visible
from ganno_bench.leaderboard.themed_svg import CLASSES

__all__ = ["ASSETS", "render_site"]

ASSETS = ("icon.svg", "site.css", "site.js")
_TABLES = "../tables/"


def render_site(boards: Sequence[Board], pending: Sequence[str], *, drawn: bool) -> Iterator[tuple[str, str]]:
    """Yield (path below the site's folder, text) of every page and asset.

    Args:
        boards: The suites.
        pending: Names of suites without results to compare yet.
        drawn: Whether to draw the drawings, which takes a minute; without them the pages take seconds.
    """
    templates = files("ganno_bench.leaderboard") / "templates"
    for asset in ASSETS:
        yield f"assets/{asset}", (templates / asset).read_text(encoding="utf-8")
    environment = _environment()
    suites = [board.name for board in boards]

    def page(path: str, template: str, **variables: Any) -> tuple[str, str]:
        text = environment.get_template(template).render(
            root="../" * path.count("/"),
            page=template.removesuffix(".html"),
            suites=suites,
            drawn=drawn,
            tables_dir=_TABLES,
            **{"suite_name": "", "sources": []} | variables,
        )
        return path, re.sub(r"\n\s*\n+", "\n", text).strip() + "\n"

    yield page("index.html", "index.html", **index_page(boards, pending))
    yield page("how-to-read.html", "how-to-read.html")
    for board in boards:
        name = {"suite_name": board.name}
        yield page(suite_path(board.name), "suite.html", **name, **suite_page(board))
        for workload in board.standings.workloads:
            path = workload_path(board.name, workload)
            yield page(path, "workload.html", **name, **workload_page(board, workload))
        for key in board.rows:
            yield page(entry_path(board.name, *key), "entry.html", **name, **entry_page(board, key))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ganno_bench.leaderboard", "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "breakable": _breakable,
        "code": _code,
        "colour": lambda colour: CLASSES[to_hex(colour)],
        "href": href,
        "minus": minus,
        "page_name": page_name,
        "signed": lambda value: minus(f"{value:+z.1f}"),
        "short": short,
        "value": _value,
        "visible": visible,
    }
    environment.tests |= {"challenged": _challenged, "web_address": _web_address}
    return environment


def _challenged(entry: Entry) -> bool:
    return any(challenge.status != "withdrawn" for challenge in entry.challenges)


def _web_address(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _breakable(text: str) -> Markup:
    """Return a name that a browser may break between its parts."""
    return Markup(re.sub(r"([:@(])", r"<wbr>\1" if "@" in text else r"\1<wbr>", str(escape(text))))


def _code(text: str) -> Markup:
    """Return a text with backticks turned into `<code>`."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def _value(value: float | int | str | bool | None) -> str:
    if value is None:
        return DASH
    return minus(f"{value:.4g}") if isinstance(value, float) else str(value)
