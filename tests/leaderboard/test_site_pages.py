"""The pages of the site, without a browser."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

import pytest

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.build import generate
from ganno_bench.leaderboard.drawings import strip_drawings
from ganno_bench.leaderboard.text import page_name
from tests.helpers.site_cases import HOSTILE, make_boards

ROOT = Path(__file__).resolve().parents[2]
VOID = {"meta", "link", "input", "br", "wbr", "img", "hr"}


class Page(HTMLParser):
    """The elements of a page, and the faults of their nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        assert len(attrs) == len(dict(attrs)), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, key: str) -> list[str]:
        return [attributes[key] for _, attributes in self.elements if key in attributes]


@pytest.fixture(scope="module")
def boards() -> list[Board]:
    return make_boards()


@pytest.fixture(scope="module")
def made(boards: list[Board]) -> dict[str, str]:
    return dict(generate(boards, ["text"]))


@pytest.fixture(scope="module")
def pages(made: dict[str, str]) -> dict[str, Page]:
    return {path: Page(text) for path, text in made.items() if path.endswith(".html")}


@pytest.mark.slow(group="pages")
def test_two_builds_are_the_same_bytes(boards: list[Board], made: dict[str, str]) -> None:
    again = {path: text for path, text in generate(make_boards(), ["text"]) if "/ladder/" not in path}
    assert again == {path: text for path, text in made.items() if "/ladder/" not in path}
    plain = dict(generate(boards, ["text"], drawn=False))
    assert plain == {path: strip_drawings(text) for path, text in made.items()}


def test_every_suite_entry_and_workload_has_a_page(pages: dict[str, Page]) -> None:
    tuned = {f"site/ladder/tuned/{name}.html" for name in ("cosine", "constant", "hypergradient")}
    others = {"site/ladder/zero-shot/ganno.html", f"site/ladder/zero-shot/{page_name(HOSTILE)}.html"}
    workloads = {f"site/ladder/workloads/{name}.html" for name in ("mlp-depth-2", "mlp-depth-16")}
    assert tuned | others | workloads | {"site/index.html", "site/ladder/index.html"} <= set(pages)


def test_every_link_leads_to_a_file_and_every_anchor_to_an_element(
    made: dict[str, str], pages: dict[str, Page]
) -> None:
    for path, page in pages.items():
        for link in page.values("href") + page.values("src"):
            parts = urlsplit(link)
            if link.startswith("data:image/png;base64,"):
                continue
            if link == "https://example.org/why":  # of a challenge
                continue
            assert not parts.scheme, f"{path} links to {link}"
            folder = PurePosixPath(path).parent
            target = path if not parts.path else _normal(folder / unquote(parts.path))
            assert target in made, f"{path} links to {link}"
            if parts.fragment:
                assert parts.fragment in pages[target].values("id"), f"{path} links to {link}"
        for names in page.values("aria-labelledby"):
            assert set(names.split()) <= set(page.values("id")), f"{path}: {names}"


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def test_what_others_wrote_is_text(made: dict[str, str], pages: dict[str, Page]) -> None:
    shown = 0
    for path, page in pages.items():
        tags = Counter(tag for tag, _ in page.elements)
        assert tags["script"] == 1, path
        assert tags["img"] == tags["iframe"] == tags["style"] == 0, path
        assert not any(key.startswith("on") or key == "style" for _, found in page.elements for key in found), path
        assert not any(link.lower().startswith("javascript") for link in page.values("href")), path
        assert "\u202e" not in made[path]
        shown += "<script>alert(1)</script>" in page.text
    assert shown >= 5  # its own page, its suite's, those of the workloads, the first one
    own = made[f"site/ladder/zero-shot/{page_name(HOSTILE)}.html"]
    assert "[U+202E]gnol[U+202C]" in own
    assert "javascript:alert(3)" in Page(own).text
    assert 'href="https://example.org/why" rel="noopener noreferrer nofollow"' in own
    for path in ("README.md", "tables/ladder.tex"):
        assert not re.search(r"(?<!\\)<script", made[path])


def test_pages_are_small_valid_and_closed_to_the_network(made: dict[str, str], pages: dict[str, Page]) -> None:
    for path, page in pages.items():
        assert len(made[path].encode()) < 200_000, path
        assert [name for name, count in Counter(page.values("id")).items() if count > 1] == [], path
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in made[path]
        assert "unsafe" not in made[path]
        assert [tag for tag, _ in page.elements].count("h1") == 1
        assert ("html", {"lang": "en"}) in page.elements
    assert "http" not in made["site/assets/site.css"] + made["site/assets/site.js"]


def test_tables_and_drawings_have_texts_for_screen_readers(pages: dict[str, Page]) -> None:
    for path, page in pages.items():
        heads = [found for tag, found in page.elements if tag == "th"]
        assert all(found.get("scope") in ("col", "row") for found in heads), path
        plots = [found for tag, found in page.elements if tag == "svg" and found.get("class") == "plot"]
        assert all(found["role"] == "img" and "aria-labelledby" in found for found in plots), path
        others = [found for tag, found in page.elements if tag == "svg" and found.get("class") != "plot"]
        assert all(found.get("aria-hidden") == "true" for found in others), path
    assert re.search(
        r"Best: [\w<].* \([+-]\d+\.\d\) at depth 2, .* at depth 16\.", pages["site/ladder/index.html"].text
    )


def test_an_entry_says_what_it_did_and_where_that_comes_from(pages: dict[str, Page]) -> None:
    ganno = pages["site/ladder/zero-shot/ganno.html"].text
    assert "baselines/records/ladder/ganno.jsonl.gz" in ganno
    assert "ganno-bench run ladder --scheduler ganno" in ganno
    assert "ganno-bench leaderboard build --check" in ganno
    assert "Its 4 layers differ by a factor of up to" in ganno
    assert "No challenges." in ganno
    hostile = pages[f"site/ladder/zero-shot/{page_name(HOSTILE)}.html"].text
    assert hostile.count("These records have no learning rates.") == 2
    assert "leaderboard/challenges/1.toml" in hostile
    assert "Submission" in hostile
    assert "upheld" in hostile
    assert "ganno-bench verify baselines" not in hostile


def test_the_first_page_says_what_to_use_and_how_sure_that_is(made: dict[str, str], pages: dict[str, Page]) -> None:
    text = " ".join(pages["site/index.html"].text.split())
    assert re.search(r"Without tuning ganno .* Alone on rank 1, ahead of 1 other\.", text)
    assert re.search(r"With 32 Optuna trials per workload cosine \+1\.0 .* It is the reference itself\.", text)
    assert "Not shown yet: text" in text
    assert "| **ganno** " in made["README.md"]


def test_numbers_are_those_of_the_standings(boards: list[Board], pages: dict[str, Page]) -> None:
    board = boards[0]
    text = " ".join(pages["site/ladder/index.html"].text.split())
    for row in board.rows.values():
        if row.entry != HOSTILE:
            assert f"{row.iqm:+z.1f} [{row.iqm_low:+z.1f}, {row.iqm_high:+z.1f}]".replace("-", "\u2212") in text
    cell = board.standings.cells["tuned", "constant", "mlp-depth-16"]
    assert f"{cell.test_loss:.4f}" in pages["site/ladder/tuned/constant.html"].text
    assert f"{cell.test_loss:.4f}" in pages["site/ladder/workloads/mlp-depth-16.html"].text


def test_what_a_suite_lacks_has_no_heading(made: dict[str, str]) -> None:
    ladder, varied = made["site/ladder/index.html"], made["site/varied/index.html"]
    assert 'id="depth"' in ladder
    assert 'id="robustness"' not in ladder
    assert 'id="budget"' in ladder
    assert 'id="depth"' not in varied
    assert 'id="robustness"' in varied
    assert 'id="budget"' not in varied
    assert "tables/varied-robustness.csv" in made
    assert "tables/ladder-robustness.csv" not in made


def test_colours_of_drawings_are_the_themes(made: dict[str, str]) -> None:
    css = made["site/assets/site.css"]
    for path in ("site/ladder/index.html", "site/ladder/zero-shot/ganno.html"):
        drawings = "".join(re.findall(r"<!--drawing-->(.*?)<!--/drawing-->", made[path], re.DOTALL))
        assert "<path" in drawings
        assert not re.findall(r'(?:fill|stroke)="', drawings)
        assert not re.findall(r"#[0-9a-fA-F]{6}", drawings)
        for name in set(re.findall(r'class="([^"]+)"', drawings)):
            assert all(f".{one} {{" in css for one in name.split()), name


def test_contrast_is_enough_in_both_themes(made: dict[str, str]) -> None:
    css = made["site/assets/site.css"]
    themes = re.findall(r"\{[^{}]*--paper:[^{}]*\}", css)
    assert len(themes) == 3
    assert re.findall(r"--[\w-]+: #\w+", themes[1]) == re.findall(
        r"--[\w-]+: #\w+", themes[2]
    )  # chosen, or the system's
    for theme in themes[:2]:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", theme))
        for paper in ("paper", "raised", "best"):
            for name in ("ink", "mute", "link", "down", "warn"):
                assert _contrast(colours[name], colours[paper]) >= 4.5, (name, paper)
        for name in ("win", "loss"):
            assert _contrast(colours["ink"], colours[name]) >= 4.5, name
        for name in ("c1", "c2", "c3", "c4", "c5", "c6", "up", "down", "even"):
            assert _contrast(colours[name], colours["paper"]) >= 3, name


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def test_the_committed_site_is_small() -> None:
    site = ROOT / "leaderboard" / "site"
    sizes = {path: path.stat().st_size for path in site.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < 20_000_000
    assert max(sizes.values()) < 1_000_000
    assert set(json.loads((site / "drawn-with.json").read_text())) == {"matplotlib", "numpy", "pillow"}
