"""Convert Matplotlib's SVG for the pages: small, and in the colours of the page's theme.

Matplotlib writes style attributes, which a strict content security policy forbids, fixed colours, and much structure.
The converted SVG has paths, texts and images only. It rounds coordinates to a tenth of a point, and has classes in
place of colours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from markupsafe import escape
from matplotlib.colors import to_hex

__all__ = ["CLASSES", "themed_svg"]

CLASSES = {
    "#000000": "ink",
    "#ffffff": "paper",
    "#e4e4e4": "grid",
    "#b8b8b8": "rest",
    "#b0b0b0": "rest",
    "#606060": "mute",
    "#0072b2": "c1",
    "#d55e00": "c2",
    "#009e73": "c3",
    "#cc79a7": "c4",
    "#56b4e9": "c5",
    "#e69f00": "c6",
}
"""Colour in a plot -> class in a page, with the prefix `s-` for lines and `f-` for areas."""

_GRID = re.compile(r'<path d="([^"]+)" class="n s-grid" stroke-width="0.6"/>')
_TEXT = re.compile(r'<text( class="[^"]+")( x="[^"]+" y="[^"]+")( text-anchor="\w+")?>([^<]*)</text>')
_NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")
_LARGEST_MARKER = 10  # points
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"


def themed_svg(text: str, name: str, tips: Mapping[str, str]) -> str:
    """Return the elements of a Matplotlib SVG, without its structure, coloured by classes.

    Args:
        text: The SVG, written with `svg.fonttype` none.
        name: Prefix of ids.
        tips: See `Drawing.tips`.
    """
    root = ElementTree.fromstring(text)
    clips: dict[str, tuple[float, ...]] = {}
    shapes: dict[str, str] = {}
    for element in root.iter():
        if element.tag == f"{_SVG}clipPath":
            rectangle = element.find(f"{_SVG}rect")
            if rectangle is not None:
                x, y, width, height = (float(rectangle.attrib[key]) for key in ("x", "y", "width", "height"))
                clips[element.attrib["id"]] = (x, y, x + width, y + height)
        elif element.tag == f"{_SVG}path" and "id" in element.attrib:
            shapes[element.attrib["id"]] = element.attrib.get("d", "")
    boxes = {id_: _Box(f"{name}-c{index}", *box) for index, (id_, box) in enumerate(clips.items())}
    body = _gathered("".join(_elements(root, boxes, shapes, tips)))
    defs = "".join(box.definition for box in boxes.values() if f"#{box.name})" in body)
    return (f"<defs>{defs}</defs>" if defs else "") + body


def _gathered(body: str) -> str:
    """Return elements with the grid as one path, first, and the texts of each style in one group, last."""
    if "<g transform" in body:
        return body
    grid = "".join(_GRID.findall(body))
    texts: dict[str, str] = {}
    for look, place, anchor, text in _TEXT.findall(body):
        texts[f"{look}{anchor}"] = texts.get(f"{look}{anchor}", "") + f"<text{place}>{text}</text>"
    rest = _TEXT.sub("", _GRID.sub("", body))
    first = f'<path d="{grid}" class="n s-grid" stroke-width="0.6"/>' if grid else ""
    return first + rest + "".join(f"<g{look}>{inner}</g>" for look, inner in texts.items())


@dataclass(frozen=True)
class _Box:
    """A rectangle that clips paths."""

    name: str
    left: float
    top: float
    right: float
    bottom: float

    @property
    def definition(self) -> str:
        sides = f'x="{self.left}" y="{self.top}" width="{self.right - self.left}" height="{self.bottom - self.top}"'
        return f'<clipPath id="{self.name}"><rect {_round(sides)}/></clipPath>'

    def cuts(self, path: str) -> bool:
        """Return whether a part of a path in absolute coordinates lies outside."""
        numbers = [float(number) for number in _NUMBER.findall(path)]
        inside_x = all(self.left - 0.5 <= x <= self.right + 0.5 for x in numbers[::2])
        return not (inside_x and all(self.top - 0.5 <= y <= self.bottom + 0.5 for y in numbers[1::2]))


def _elements(
    parent: ElementTree.Element, clips: Mapping[str, _Box], shapes: Mapping[str, str], tips: Mapping[str, str]
) -> Iterator[str]:
    for element in parent:
        tag = element.tag.removeprefix(_SVG)
        if tag == "g":
            inner = "".join(_elements(element, clips, shapes, tips))
            tip = tips.get(element.attrib.get("id", ""))
            if inner and element.attrib.get("transform"):  # a text of several lines
                inner = f'<g transform="{_round(element.attrib["transform"])}">{inner}</g>'
            yield inner if tip is None or not inner else f"<g><title>{escape(tip)}</title>{inner}</g>"
        elif tag == "path":
            if "d" in element.attrib and (look := _look(element, clips)):
                yield f'<path d="{_path(element.attrib["d"])}"{look}/>'
        elif tag == "use":
            yield _used(element, shapes[element.attrib[f"{_XLINK}href"].removeprefix("#")], clips)
        elif tag == "image":
            yield _image(element)
        elif tag == "text":
            yield _text(element)


def _used(element: ElementTree.Element, shape: str, clips: Mapping[str, _Box]) -> str:
    """Return a shape that is defined elsewhere and moved: an area or a marker; all markers in plots are round."""
    x, y = float(element.attrib["x"]), float(element.attrib["y"])
    numbers = [float(number) for number in _NUMBER.findall(shape)]
    radius = max(map(abs, numbers), default=0.0)
    if not radius:  # a tick of length 0
        return ""
    if radius < _LARGEST_MARKER:
        look = _look(element, clips)
        return f'<circle cx="{_round(str(x))}" cy="{_round(str(y))}" r="{_round(str(radius))}"{look}/>' if look else ""
    moved = iter([number + (y if index % 2 else x) for index, number in enumerate(numbers)])
    element.attrib["d"] = _NUMBER.sub(lambda _: str(next(moved)), shape)
    look = _look(element, clips)
    return f'<path d="{_path(element.attrib["d"])}"{look}/>' if look else ""


def _style(element: ElementTree.Element) -> dict[str, str]:
    pairs = (part.partition(":") for part in element.attrib.get("style", "").split(";") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _look(element: ElementTree.Element, clips: Mapping[str, _Box]) -> str:
    """Return the attributes of a path; empty for an invisible path."""
    style = _style(element)
    fill, stroke = style.get("fill", "#000000"), style.get("stroke", "none")
    if fill == stroke == "none" or float(style.get("opacity", "1")) == 0:
        return ""
    classes = ["n"] if fill == "none" else [f"f-{_class(fill)}"]
    attributes = {}
    if stroke != "none":
        classes.append(f"s-{_class(stroke)}")
        width = float(style.get("stroke-width", "1"))
        if width != 1:
            attributes["stroke-width"] = f"{width:g}"
        if "stroke-dasharray" in style:
            attributes["stroke-dasharray"] = style["stroke-dasharray"].replace(",", " ")
    for key in ("opacity", "fill-opacity", "stroke-opacity"):
        if float(style.get(key, "1")) != 1:
            attributes[key] = style[key]
    clip = re.fullmatch(r"url\(#(.+)\)", element.attrib.get("clip-path", ""))
    if clip and clips[clip[1]].cuts(element.attrib.get("d", "")):
        attributes["clip-path"] = f"url(#{clips[clip[1]].name})"
    return f' class="{" ".join(classes)}"' + "".join(f' {key}="{value}"' for key, value in attributes.items())


def _class(colour: str) -> str:
    colour = to_hex(colour)
    if colour not in CLASSES:
        raise ValueError(f"colour {colour} has no class in the pages' themes; valid: {', '.join(CLASSES)}")
    return CLASSES[colour]


def _text(element: ElementTree.Element) -> str:
    style = _style(element)
    attributes: dict[str, str] = {key: _round(element.attrib[key]) for key in ("x", "y") if key in element.attrib}
    turn = re.search(r"rotate\((\S+)", element.attrib.get("transform", ""))
    if turn and float(turn[1]):
        attributes["transform"] = _round(element.attrib["transform"])
    anchor = style.get("text-anchor", "start")
    if anchor != "start":
        attributes["text-anchor"] = anchor
    size = re.search(r"(\d+(?:\.\d+)?)px", style.get("font", "") + style.get("font-size", ""))
    if size and float(size[1]) != 9:
        attributes["font-size"] = size[1]
    colour = _class(style["fill"]) if "fill" in style else "ink"
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    return f'<text class="f-{colour}"{written}>{escape("".join(element.itertext()))}</text>'


def _image(element: ElementTree.Element) -> str:
    kept = {key: element.attrib[key] for key in ("x", "y", "width", "height", "transform") if key in element.attrib}
    written = "".join(f' {key}="{_round(value)}"' for key, value in kept.items())
    href = element.attrib[f"{_XLINK}href"].replace("\n", "")
    return f'<image{written} preserveAspectRatio="none" href="{href}"/>'


def _path(d: str) -> str:
    """Return a path's description in absolute coordinates, rounded and without superfluous spaces."""
    parts = re.findall(r"([A-Za-z])([^A-Za-z]*)", re.sub(r"(\d)e(-?\d)", r"\1e\2", d))
    short = "".join(command + _round(" ".join(numbers.split())) for command, numbers in parts)
    return re.sub(r" (?=-)|(?<=[A-Za-z]) ", "", short).removesuffix(" ")


def _round(text: str) -> str:
    """Return a text with its numbers rounded to a tenth."""

    def rounded(match: re.Match[str]) -> str:
        value = float(match[0])
        return match[0] if not math.isfinite(value) else f"{round(value, 1) + 0.0:g}"

    return _NUMBER.sub(rounded, text)
