"""Files that strangers wrote: read within limits, never followed, never executed, and shown without doing anything.

Whatever is wrong with a file is a `SubmissionError` whose message is what to say after the file's name.
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
"""Most that are said of one object."""
_UNION_TAGS = {"float", "int", "str", "bool"}


class Faults:
    """What is wrong, in lines that are safe to print; only so many are kept, all are counted.

    Attributes:
        lines: Those that are kept.
        n_total: How many there were.
    """

    def __init__(self, folder: str = "", limit: int = 20) -> None:
        """Collect the faults of the files of a folder, which is put before their names."""
        self._folder, self._limit = folder, limit
        self.lines: list[str] = []
        self.n_total = 0

    def add(self, where: str, what: str) -> None:
        """Add a fault of a file."""
        self.n_total += 1
        if len(self.lines) < self._limit:
            self.lines.append(f"{printable(self._folder + where)}: {printable(what)}")

    def report(self) -> list[str]:
        """Return the lines, and one that says how many more there are."""
        more = self.n_total - len(self.lines)
        return [*self.lines, *([f"... and {more} more"] if more else [])]


def printable(text: str, limit: int = _MAX_SHOWN) -> str:
    r"""Return text on one line, cut, with all that a terminal might obey (escapes, bidi marks) as `\x1b`, `\u202e`."""
    shown = "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text[:limit]
    )
    return shown + ("..." if len(text) > limit else "")


def read_text(path: Path, max_bytes: int) -> str:
    """Read a regular file of UTF-8.

    Raises:
        SubmissionError: It is a link, no regular file, too large, not readable or not UTF-8.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise SubmissionError("is missing") from None
    except OSError as error:
        raise SubmissionError(f"cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SubmissionError("is no regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(max_bytes + 1)
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise SubmissionError(f"is larger than {max_bytes} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SubmissionError(f"is not UTF-8 at byte {error.start} (value: {content[error.start]:#04x})") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML into plain data: tables, arrays, strings, finite numbers, truth values.

    Raises:
        SubmissionError: It is no TOML, or is made to take long.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _MAX_TOML_LINE:
            raise SubmissionError(f"line {number} is longer than {_MAX_TOML_LINE} characters")
        if line.partition("=")[0].count(".") >= _MAX_KEY_PARTS:
            raise SubmissionError(f"line {number} has a key of more than {_MAX_KEY_PARTS} parts")
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise SubmissionError("is nested too deeply") from None
    except ValueError as error:  # of whole numbers and dates, too
        raise SubmissionError(f"is not valid TOML: {error}") from None
    _check_plain(data)
    return data


def parse_json(text: str) -> Any:
    """Parse JSON, stricter than the standard library: no key twice, no NaN, no number that is infinite or huge.

    Raises:
        SubmissionError: It is no such JSON.
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
    """Make a model of plain data, as `parse_toml` and `parse_json` return it; or say all that is wrong with it."""
    if not isinstance(data, dict):
        return None, [f"is no object of keys and values (value: {data!r})"]
    try:
        # JSON mode, because it is the one in which a strict model takes an array for a tuple.
        return model.model_validate_json(json.dumps(model.upgraded(data), ensure_ascii=True)), []
    except VersionError as error:
        return None, [str(error)]
    except ValidationError as error:
        found: dict[Any, str] = {}
        errors = error.errors()
        # A misspelt key is unknown and leaves another one missing; the former says more.
        for one in sorted(errors, key=lambda one: one["type"] != "extra_forbidden"):
            if len(found) == _MAX_PROBLEMS:  # to look for the nearest valid name takes its time
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
    raise SubmissionError(f"has a number that is not finite (value: {name})")


def _int(digits: str) -> int:
    if len(digits) > 16:
        raise SubmissionError(f"has a whole number of {len(digits)} characters (value: {digits[:20]}...)")
    return int(digits)


def _check_plain(data: Any) -> None:
    """Refuse what no submission needs.

    Raises:
        SubmissionError: Something is nested too deeply, is too long, is not printable, or is of another type.
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
            raise SubmissionError(f"key {key!r}: is not finite (value: {item})")
        elif isinstance(item, int) and abs(item) >= 10**16:
            raise SubmissionError(f"key {key!r}: is too large a whole number")
        elif not isinstance(item, int | float | bool | None):
            raise SubmissionError(f"key {key!r}: is a {type(item).__name__}, which nothing here is")


def _check_string(key: str, text: str) -> None:
    if len(text) > _MAX_STRING:
        raise SubmissionError(f"key {key[:100]!r}: is longer than {_MAX_STRING} characters")
    if not text.isprintable():
        char = next(char for char in text if not char.isprintable())
        raise SubmissionError(f"key {key!r}: has the character U+{ord(char):04X}, which cannot be printed")
