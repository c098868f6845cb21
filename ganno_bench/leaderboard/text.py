"""Names and numbers as pages show them, and file names for them. Names may come from anyone."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from urllib.parse import quote

__all__ = ["DASH", "href", "minus", "page_name", "short", "visible"]

DASH = "\N{EN DASH}"
"""Stands where there is no value."""


_LONGEST = 64
_PLAIN = re.compile(r"[a-z0-9][a-z0-9.+@_=-]{0,79}")
# Marks, embeddings, overrides and isolates: they change in which order a reader sees the characters around them.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def minus(number: str) -> str:
    """Return a number with a minus sign in the place of a hyphen."""
    return number.replace("-", "\N{MINUS SIGN}")


def visible(text: str) -> str:
    """Return a text whose control characters, and those that change the direction of writing, can be seen."""

    def shown(character: str) -> str:
        if character in "\n\t":
            return " "
        hidden = character in _BIDI or unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"}
        return f"[U+{ord(character):04X}]" if hidden else character

    return "".join(map(shown, text))


def short(name: str, longest: int = _LONGEST) -> str:
    """Return a name as it stands in lists: at most `longest` characters."""
    shown = visible(name)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}\N{HORIZONTAL ELLIPSIS}"


def page_name(name: str) -> str:
    """Return the name of an entry or a workload as a file name on any file system, different for different names."""
    plain = name.replace(":", "+")
    if _PLAIN.fullmatch(plain):
        return plain
    short = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "entry"
    return f"{short}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def href(path: str) -> str:
    """Return a relative path as a link."""
    return quote(path, safe="/.+@_=-")
