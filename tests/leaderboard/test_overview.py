"""The picture of the README: which entries it shows, and in which colours."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.drawings import strip_drawings
from ganno_bench.leaderboard.overview import _LONGEST, THEMES, overview_boards, overview_entries, overview_svg
from ganno_bench.leaderboard.text import short
from tests.helpers.fake_records import fake_benchmark
from tests.helpers.site_cases import board_of, make_boards, make_entries, make_suite

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def boards() -> list[Board]:
    """Three suites; in the first two every entry has the trials of the protocol."""
    scores = {"cosine": 0.0, "a": 50.0, "b": 40.0, "c": 30.0, "d": 20.0, "e": 10.0, "f": -8.0, "constant": -16.0}
    entries = {name: ("tuned", score) for name, score in scores.items()}
    entries |= {"policy:p": ("zero-shot", 4.0), "cosine@default": ("zero-shot", -40.0)}
    found = []
    for name, workloads in (("one", ["mlp-depth-2"]), ("two", ["mlp-depth-8", "char-transformer"])):
        suite = make_suite(name, workloads)
        found.append(board_of(suite, make_entries(suite, fake_benchmark(workloads, entries, n_seeds=5))))
    return [*found, *make_boards()[:1]]


def test_it_shows_the_best_entries_of_suites_with_enough_trials(boards: list[Board]) -> None:
    kept = overview_boards(boards)
    assert [board.name for board in kept] == ["two", "one"]
    shown = overview_entries(kept)
    assert shown["tuned"] == ["a", "b", "c", "d", "e", "cosine"]
    assert shown["zero-shot"] == ["policy:p", "cosine@default"]


@pytest.mark.parametrize("theme", THEMES)
def test_each_theme_is_a_file_that_says_what_it_shows(boards: list[Board], theme: str) -> None:
    text = overview_svg(boards, theme)
    root = ElementTree.fromstring(text)
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert {"one", "two", "1 workload", "2 workloads", "policy:p", "a", "cosine"} <= set(texts)
    assert "f" not in texts
    assert len([t for t in texts if t.startswith("\u2190 \u2212")]) == 2  # the default cosine, beyond the scale
    described = root.find(f"{SVG}desc")
    assert described is not None
    assert "two, policy:p (zero-shot) +" in (described.text or "")
    assert strip_drawings(text) == overview_svg(boards, theme, drawn=False)


def test_themes_differ_in_colours_alone(boards: list[Board]) -> None:
    light, dark = (overview_svg(boards, theme) for theme in THEMES)
    assert light != dark
    assert light.partition("</style>")[2] == dark.partition("</style>")[2]


def test_a_name_with_dollar_signs_is_no_formula_and_a_score_beyond_the_scale_is_written() -> None:
    suite = make_suite("one", ["mlp-depth-2"])
    entries = {"cosine": ("tuned", 0.0), "$$": ("tuned", 50.0), "$x$": ("tuned", 2.0)}
    board = board_of(suite, make_entries(suite, fake_benchmark(["mlp-depth-2"], entries, n_seeds=5)))
    root = ElementTree.fromstring(overview_svg([board], "light"))
    texts = {element.text or "" for element in root.iter(f"{SVG}text")}
    assert {"$$", "$x$", f"{board.rows['tuned', '$$'].iqm:+.0f} \u2192"} <= texts


def test_a_long_name_is_cut_where_the_panels_begin() -> None:
    assert short("x" * 40, _LONGEST) == "x" * 25 + "\N{HORIZONTAL ELLIPSIS}"
    assert short("mean-curve:ganno-anchored", _LONGEST) == "mean-curve:ganno-anchored"
