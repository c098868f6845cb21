"""Drawings for pages: themed, without structure, and with a hash of their data."""

from __future__ import annotations

import io
from dataclasses import dataclass
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from ganno_bench.core.records import LrTrace
from ganno_bench.leaderboard.bars import scale_of
from ganno_bench.leaderboard.draw import draw_layers
from ganno_bench.leaderboard.drawings import Drawing, digest, strip_drawings
from ganno_bench.leaderboard.text import page_name, short, visible
from ganno_bench.leaderboard.themed_svg import themed_svg


def drawn(draw, **options):
    drawing = Drawing("name", "A <title>", "Text & more", ("data",), draw, **options)
    text = str(drawing.markup(drawn=True))
    return text, ElementTree.fromstring(text.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1))


def test_a_line_is_where_it_was_and_has_a_class_for_a_colour():
    def draw(axes):
        axes.plot([0, 1], [0, 1], color="#0072B2", linewidth=2, linestyle="--", gid="e0")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    text, root = drawn(draw, tips={"e0": "mine & yours"})
    (group,) = [g for g in root.iter("g") if g.find("title") is not None]
    assert group.find("title").text == "mine & yours"
    line = group.find("path")
    assert line.attrib["class"] == "n s-c1"
    assert line.attrib["d"] == "M38 156L258 18"  # from corner to corner of the margins
    assert line.attrib["stroke-width"] == "2"
    assert line.attrib["stroke-dasharray"].count(" ") == 1
    assert "style=" not in text
    assert root.find("title").text == "A <title>"
    assert root.find("desc").text == "Text & more"


def test_what_reaches_out_is_cut_off_and_areas_and_dots_keep_their_places():
    def draw(axes):
        axes.plot([0, 1], [0, 5], color="black")
        axes.fill_between([0, 1], [0, 0], [1, 0.5], color="#D55E00", alpha=0.15, linewidth=0)
        axes.plot([0.5], [0.5], "o", color="#009E73", markersize=6)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)

    _, root = drawn(draw)
    (cut,) = [path for path in root.iter("path") if "clip-path" in path.attrib]
    assert "s-ink" in cut.attrib["class"]
    assert cut.attrib["clip-path"] == f"url(#{root.find('defs/clipPath').attrib['id']})"
    (area,) = [path for path in root.iter("path") if "f-c2" in path.attrib["class"]]
    assert area.attrib["fill-opacity"] == "0.15"
    assert {"38 18", "258 87", "258 156"} <= {" ".join(pair) for pair in _points(area.attrib["d"])}
    (dot,) = root.iter("circle")
    assert dot.attrib == {"cx": "148", "cy": "87", "r": "3", "class": "f-c3 s-c3"}


def _points(d):
    numbers = d.replace("M", " ").replace("L", " ").replace("z", " ").split()
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def test_a_colour_without_a_class_is_an_error():
    with pytest.raises(ValueError, match="colour #123456 has no class"):
        drawn(lambda axes: axes.plot([0, 1], color="#123456"))


def test_texts_are_texts():
    figure = Figure(figsize=(2, 1))
    figure.text(0.5, 0.5, "a <b> & c", ha="center", color="#606060", fontsize=12)
    out = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg", transparent=True)
    root = ElementTree.fromstring(f"<svg>{themed_svg(out.getvalue(), 'n', {})}</svg>")
    (text,) = root.iter("text")
    assert text.text == "a <b> & c"
    assert text.attrib["text-anchor"] == "middle"
    assert (text.attrib["class"], text.attrib["font-size"], text.attrib["x"]) == ("f-mute", "12", "72")


def test_a_grid_is_one_path_below_everything_and_labels_are_grouped():
    _, root = drawn(lambda axes: axes.plot([0, 1], color="black"))
    first, *others = [path for path in root.iter("path") if path.attrib["class"] == "n s-grid"]
    assert others == []
    assert first is next(root.iter("path"))
    assert first.attrib["d"].count("M") >= 6
    labels = [text for group in root.iter("g") if group.attrib.get("text-anchor") == "end" for text in group]
    assert [text.text for text in labels][:2] == ["0.0", "0.2"]


def test_a_heat_map_has_a_row_for_each_layer_and_names_them():
    trace = LrTrace(updates=(0, 50, 99), layers=("first", "last"), lr=((0.1, 0.01), (0.1, 0.01), (0.0, 0.001)))
    _, root = drawn(lambda axes: draw_layers(axes, trace))
    (image,) = [element for element in root.iter() if element.tag.endswith("image")]
    href = image.attrib["{http://www.w3.org/1999/xlink}href"] if "href" not in image.attrib else image.attrib["href"]
    assert href.startswith("data:image/png;base64,")
    texts = [text.text for text in root.iter("text")]
    assert texts.index("first") < texts.index("last")
    assert "learning rate, 0.001 to 0.1" in texts


def test_a_page_without_its_drawings_is_the_page_that_was_never_drawn():
    drawing = Drawing("name", "title", "text", (1.0,), lambda axes: axes.plot([0, 1], color="black"))
    assert strip_drawings(str(drawing.markup(drawn=True))) == str(drawing.markup(drawn=False))


@dataclass(frozen=True)
class _Data:
    name: str
    values: np.ndarray


def test_a_digest_has_six_digits_and_knows_order_keys_and_types():
    same = digest(_Data("a", np.array([1.0, 2.0])), {("k", 1): 0.1})
    assert same == digest(_Data("a", np.array([1.0 + 1e-9, 2.0])), {("k", 1): 0.1 + 1e-12})
    assert len({same, *(digest(*other) for other in (
        (_Data("b", np.array([1.0, 2.0])), {("k", 1): 0.1}),
        (_Data("a", np.array([2.0, 1.0])), {("k", 1): 0.1}),
        (_Data("a", np.array([1.0, 2.0])), {("k", 2): 0.1}),
        (_Data("a", np.array([1.0, 2.00001])), {("k", 1): 0.1}),
        (_Data("a", np.array([1.0, 2.0])), {("k", 1): None}),
    ))}) == 6  # fmt: skip
    with pytest.raises(TypeError, match="cannot be made from a set"):
        digest({1})


def test_names_become_different_file_names():
    assert page_name("policy:ganno") == "policy+ganno"
    assert page_name("cosine@default") == "cosine@default"
    names = [
        "Cosine",
        "cosine",
        "../cosine",
        "cosine/",
        "a" * 300,
        "a" * 301,
        "\u202ecosine",
        "",
        "CON:",
        "policy+ganno:",
    ]
    files = [page_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names)
    assert all("/" not in file and len(file) <= 80 and not file.startswith(".") and file for file in files)


def test_what_cannot_be_seen_is_made_visible():
    assert visible("a\u202eb\u0007c\nd\u05d0") == "a[U+202E]b[U+0007]c d\u05d0"
    assert len(short("x" * 500)) == 64


def test_a_bar_begins_and_ends_where_the_interval_does():
    scale = scale_of([-10.0, 5.0, None, 10.0])
    assert (scale.low, scale.high) == (-10.0, 10.0)
    assert 'class="span up"' in scale.bar(5.0, 2.0, 8.0)
    assert 'class="span down"' in scale.bar(-5.0, -8.0, -2.0)
    assert 'class="span even"' in scale.bar(0.5, -1.0, 2.0)
    assert f"M{scale.x(2.0):g} 7H{scale.x(8.0):g}" in scale.bar(5.0, 2.0, 8.0)
    assert 'class="off down"' in scale_of([-400.0, 5.0]).bar(-400.0, -410.0, -390.0)  # an arrow, no dot
    assert "<circle" not in scale_of([-400.0, 5.0]).bar(-400.0, -410.0, -390.0)
