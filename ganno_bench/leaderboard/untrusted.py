"""Read untrusted files: within limits, without following links or executing anything, and print them safely.

Every fault of a file is a `SubmissionError` whose message follows the file's name.
"""

from __future__ import annotations

import json
import math
import os
import stat
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from ganno_bench.core.config import Config, describe_error
from ganno_bench.core.errors import SubmissionError, VersionError

__all__ = ["Faults", "parse_json", "parse_model", "parse_toml", "printable", "read_text"]

C = TypeVar("C", bound=Config)

_MAX_SHOWN = 300
_MAX_DEPTH = 12
_MAX_STRING = 1000
_MAX_TOML_LINE = 4096
_MAX_KEY_PARTS = 16
"""`tomllib` needs time quadratic in the parts of a dotted key: a file of 64 kB can hold one that takes 20 seconds."""
_MAX_PROBLEMS = 10
"""Largest number of faults that are reported for one object."""
_UNION_TAGS = {"float", "int", "str", "bool"}


class Faults:
    """Faults as lines that are safe to print; all are counted, but only the first are kept.

    Attributes:
        lines: The kept faults.
        n_total: Number of all faults.
    """

    def __init__(self, folder: str = "", limit: int = 20) -> None:
        """Collect the faults of a folder's files; messages have the folder before the file's name."""
        self._folder, self._limit = folder, limit
        self.lines: list[str] = []
        self.n_total = 0

    def add(self, where: str, what: str) -> None:
        """Add a fault of a file."""
        self.n_total += 1
        if len(self.lines) < self._limit:
            self.lines.append(f"{printable(self._folder + where)}: {printable(what)}")

    def report(self) -> list[str]:
        """Return the kept faults, and a line with the number of others."""
        more = self.n_total - len(self.lines)
        return [*self.lines, *([f"... and {more} more"] if more else [])]


def printable(text: str, limit: int = _MAX_SHOWN) -> str:
    r"""Return text on one line, cut off, with control characters and bidi marks shown as `\x1b`, `\u202e`."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:limit]
    )
    return shown + ("..." if len(text) > limit else "")


def read_text(path: Path, max_bytes: int) -> str:
    """Read a regular UTF-8 file.

    Raises:
        SubmissionError: It is a link, not a regular file, too large, unreadable or not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise SubmissionError("is missing") from None
    except OSError as error:
        raise SubmissionError(f"cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SubmissionError("is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise SubmissionError(f"must have at most {max_bytes} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SubmissionError(f"is not UTF-8 at byte {error.start} (value: {content[error.start]:#04x})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML into plain data: tables, arrays, strings, finite numbers, booleans.

    Raises:
        SubmissionError: It is not valid TOML, or would take long to parse.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_TOML_LINE:
            raise SubmissionError(f"line {number} must have at most {_MAX_TOML_LINE} characters (value: {len(line)})")
        if line.partition("=")[0].count(".") >= _MAX_KEY_PARTS:
            raise SubmissionError(f"line {number} must have keys of at most {_MAX_KEY_PARTS} parts")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise SubmissionError("is nested too deeply") from None
    except ValueError as error:  # also raised for invalid integers and dates
        raise SubmissionError(f"is not valid TOML: {error}") from None
    _check_plain(data)
    return data


def parse_json(text: str) -> Any:
    """Parse JSON more strictly than the standard library: no duplicate keys, no NaN, no infinite or huge numbers.

    Raises:
        SubmissionError: It is not such JSON.
    """
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_int)
    except RecursionError:
        raise SubmissionError("is nested too deeply") from None
    except ValueError as error:
        raise SubmissionError(f"is not valid JSON: {error}") from None
    _check_plain(data)
    return data


def parse_model(model: type[C], data: Any) -> tuple[C | None, list[str]]:
    """Turn plain data from `parse_toml` or `parse_json` into a model; return it, or None, and the list of faults."""
    if not isinstance(data, dict):
        return None, [f"must be an object with keys and values (value: {data!r})"]
    try:
        # In JSON mode a strict model accepts an array for a tuple.
        return model.model_validate_json(json.dumps(model.upgraded(data), ensure_ascii=True)), []
    except VersionError as error:
        return None, [str(error)]
    except ValidationError as error:
        found: dict[Any, str] = {}
        errors = error.errors()
        # A misspelt key is unknown, and the right key is missing; the former fault says more.
        for one in sorted(errors, key=lambda one: one["type"] != "extra_forbidden"):
            if len(found) == _MAX_PROBLEMS:  # searching for the nearest valid name takes time
                found[None] = f"... and more, {len(errors)} problems in all"
                break
            place = one["loc"][:-1] if one["loc"] and one["loc"][-1] in _UNION_TAGS else one["loc"]
            found.setdefault(place, describe_error(model, {**one, "loc": place}))
        return None, list(found.values())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise SubmissionError(f"key {twice!r} is given twice")
    return data


def _no_constant(name: str) -> Any:
    raise SubmissionError(f"must have finite numbers only (value: {name})")


def _int(digits: str) -> int:
    if len(digits) > 16:
        raise SubmissionError(f"must have integers of at most 16 characters (value: {digits[:20]}...)")
    return int(digits)


def _check_plain(data: Any) -> None:
    """Refuse data that no submission needs.

    Raises:
        SubmissionError: A value is nested too deeply, too long, unprintable, or of an unsupported type.
    """
    stack: list[tuple[str, int, Any]] = [("", 0, data)]
    while stack:
        key, depth, item = stack.pop()
        if depth > _MAX_DEPTH:
            raise SubmissionError("is nested too deeply")
        if isinstance(item, dict):
            for name, value in item.items():
                _check_string(f"{key}.{name}".lstrip("."), name)
                stack.append((f"{key}.{name}".lstrip("."), depth + 1, value))
        elif isinstance(item, list):
            stack += [(f"{key}[{index}]", depth + 1, value) for index, value in enumerate(item)]
        elif isinstance(item, str):
            _check_string(key, item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise SubmissionError(f"key {key!r}: must be finite (value: {item})")
        elif isinstance(item, int) and abs(item) >= 10**16:
            raise SubmissionError(f"key {key!r}: must be an integer of at most 16 digits")
        elif not isinstance(item, int | float | bool | None):
            raise SubmissionError(f"key {key!r}: has the unsupported type {type(item).__name__}")


def _check_string(key: str, text: str) -> None:
    if len(text) > _MAX_STRING:
        raise SubmissionError(f"key {key[:100]!r}: must have at most {_MAX_STRING} characters (value: {len(text)})")
    if not text.isprintable():
        char = next(char for char in text if not char.isprintable())
        raise SubmissionError(f"key {key!r}: has the character U+{ord(char):04X}, which cannot be printed")
