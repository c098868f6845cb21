"""Lines of JSON that end with a checksum and, in an append-only file, with a hash of all lines before them.

    {..., "checksum": "fa1be7703ef39ad1"}
    {..., "after": "e3b0c44298fc1c14", "checksum": "26d3ae67d9eb7c3a"}

Both are the first 16 hexadecimal digits of an SHA-256. `checksum` covers the line up to this key, so it reveals a
changed line. `after` covers the file up to the line, so it reveals a lost, added or moved line before it.
"""

from __future__ import annotations

import hashlib
import re

from ganno_bench.core.errors import RecordError

__all__ = ["Place", "sealed", "unsealed"]

_SEAL = re.compile(rb'(?:,"after":"([0-9a-f]{16})")?,"checksum":"([0-9a-f]{16})"\}\s*\Z')
_LONGEST = 60
"""Largest number of bytes of a seal (the keys `after` and `checksum`) with the line end."""


def sealed(text: str, after: str = "") -> str:
    """Return a line of JSON with its checksum.

    Args:
        text: A JSON object that is not empty, without line end.
        after: In an append-only file, `Place.hash` of the lines before it.
    """
    body = text[:-1] + (f',"after":"{after}"' if after else "")
    return f'{body},"checksum":"{_digits(hashlib.sha256(body.encode()))}"}}'


def unsealed(line: bytes) -> tuple[bytes, bool]:
    """Return a line without its seal, and whether it had one.

    Raises:
        RecordError: The line was changed after it was sealed. The caller puts file and line before the message.
    """
    seal = _seal(line)
    if seal is None:
        return line, False
    found, there = _digits(hashlib.sha256(line[: seal.start(2) - len(',"checksum":"')])), seal[2].decode()
    if found != there:
        raise RecordError(f"was changed after it was written: its checksum is {there!r}, its content has {found!r}")
    return line[: seal.start()] + b"}", True


class Place:
    """A place between two lines of a file: the number of lines before it, and their hash.

    Attributes:
        n_lines: Number of lines before the place.
        is_known: Whether each of them has a checksum and a hash of its predecessors, so that no change goes unnoticed.
    """

    def __init__(self) -> None:
        self.n_lines = 0
        self.is_known = True
        self._hash = hashlib.sha256()
        self._chained = False

    @property
    def hash(self) -> str:
        """Hash of the lines before the place, 16 hexadecimal digits."""
        return _digits(self._hash)

    def add(self, line: bytes, *, chained: bool = True) -> None:
        """Move to the end of the next line.

        Args:
            line: The next line, with its line end.
            chained: Whether to check the line's hash of its predecessors.

        Raises:
            RecordError: The line was not written at this place. The caller puts file and line before the message.
        """
        seal = _seal(line)
        after = None if seal is None or seal[1] is None else seal[1].decode()
        if chained and (self._chained or after is not None) and after != self.hash:
            raise RecordError(
                f"was not written after the lines before it: a line was lost, added, moved or changed "
                f"(key 'after' is {after!r}, the hash of those lines is {self.hash!r})"
            )
        self._chained = after is not None
        self.is_known &= self._chained
        self._hash.update(line)
        self.n_lines += 1


def _seal(line: bytes) -> re.Match[bytes] | None:
    return _SEAL.search(line, max(0, len(line) - _LONGEST))


def _digits(hashed: hashlib._Hash) -> str:
    return hashed.hexdigest()[:16]
