"""Lines of JSON that end with a checksum and, in a file that is only ever added to, say what stands before them.

    {..., "checksum": "fa1be7703ef39ad1"}
    {..., "after": "e3b0c44298fc1c14", "checksum": "26d3ae67d9eb7c3a"}

Both are the first 16 hexadecimal digits of an SHA-256: `checksum` of the line up to it, `after` of the file up to the
line. So a line that was changed is known by itself, and one that was lost, added or moved by the next.
"""

from __future__ import annotations

import hashlib
import re

from ganno_bench.core.errors import RecordError

__all__ = ["Place", "sealed", "unsealed"]

_SEAL = re.compile(rb'(?:,"after":"([0-9a-f]{16})")?,"checksum":"([0-9a-f]{16})"\}\s*\Z')
_LONGEST = 60
"""Bytes of a seal and the line's end."""


def sealed(text: str, after: str = "") -> str:
    """Return a line of JSON, an object that is not empty, with its checksum.

    Args:
        text: The line, without its end.
        after: `Place.hash` of what stands before it, in a file that is only added to.
    """
    body = text[:-1] + (f',"after":"{after}"' if after else "")
    return f'{body},"checksum":"{_digits(hashlib.sha256(body.encode()))}"}}'


def unsealed(line: bytes) -> tuple[bytes, bool]:
    """Return what a line held before it was sealed, and whether it was.

    Raises:
        RecordError: It was changed since; the message is what to say after file and line number.
    """
    seal = _seal(line)
    if seal is None:
        return line, False
    found, there = _digits(hashlib.sha256(line[: seal.start(2) - len(',"checksum":"')])), seal[2].decode()
    if found != there:
        raise RecordError(f"was changed after it was written: its checksum is {there!r}, by what it holds {found!r}")
    return line[: seal.start()] + b"}", True


class Place:
    """A place in a file of lines: how many there are before it, and what they hold.

    Attributes:
        n_lines: Number of lines before it.
        is_known: Whether each of them has checksums, so that none was changed.
    """

    def __init__(self) -> None:
        self.n_lines = 0
        self.is_known = True
        self._hash = hashlib.sha256()
        self._chained = False

    @property
    def hash(self) -> str:
        """Hash of the lines before it, 16 hexadecimal digits."""
        return _digits(self._hash)

    def add(self, line: bytes, *, chained: bool = True) -> None:
        """Go on to the end of the next line; `line` has it.

        Args:
            line: The line.
            chained: Whether what it says of the lines before it is checked.

        Raises:
            RecordError: It was not written here; the message is what to say after file and line number.
        """
        seal = _seal(line)
        after = None if seal is None or seal[1] is None else seal[1].decode()
        if chained and (self._chained or after is not None) and after != self.hash:
            raise RecordError(
                f"was not written after what stands before it: a line was lost, added, moved or changed "
                f"(key 'after' is {after!r}, those lines have {self.hash!r})"
            )
        self._chained = after is not None
        self.is_known &= self._chained
        self._hash.update(line)
        self.n_lines += 1


def _seal(line: bytes) -> re.Match[bytes] | None:
    return _SEAL.search(line, max(0, len(line) - _LONGEST))


def _digits(hashed: hashlib._Hash) -> str:
    return hashed.hexdigest()[:16]
