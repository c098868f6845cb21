"""A file of lines that is only ever added to, and the file beside it that says how far it was written.

NAME.jsonl   lines of JSON, each with a checksum and a hash of what stands before it
NAME.end     how many lines there were after the last ones were added, and a hash of them

What was lost at the end of the one is known by the other. Whoever is killed between the two leaves more lines than the
second says, which is no fault.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ganno_bench.core.checksums import Place, sealed
from ganno_bench.core.config import Config
from ganno_bench.core.errors import RecordError, VersionError
from ganno_bench.core.files import replace_file, writing
from ganno_bench.core.versions import check_version

__all__ = ["AppendOnlyFile", "EndError", "lines_in_place"]


class EndError(RecordError):
    """The file that says how far another one was written is damaged; the other one may be whole."""


class _End(Config):
    """How far a file was written."""

    format: Literal[1] = 1
    lines: int
    hash: str

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse one that a later version wrote."""
        check_version(data.get("format"), 1)
        return data


class AppendOnlyFile:
    """A file that is only added to, and cut only at its end.

    Attributes:
        path: The file.
        end: The file beside it.
    """

    def __init__(self, path: Path) -> None:
        """Name a file, which need not exist."""
        self.path = path
        self.end = path.with_suffix(".end")
        self._place = Place()

    def lines(self) -> Iterator[bytes]:
        """Yield the lines that are whole, as `lines_in_place` does; one that was cut short can only be the last."""
        self._place = Place()
        yield from lines_in_place(self.path, self._whole_lines, self._place, chained=True)

    @property
    def is_known(self) -> bool:
        """Whether all lines that were yielded have checksums; those of earlier versions have none."""
        return self._place.is_known

    def append(self, texts: Sequence[str]) -> None:
        """Add lines, given without their ends and checksums, and wait until they are on the disk.

        Call it only after `lines` has come to its end.

        Raises:
            StorageError: They cannot be written.
        """
        with writing(self.path), self.path.open("ab") as file:
            for text in texts:
                line = sealed(text, self._place.hash).encode() + b"\n"
                self._place.add(line)
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
        end = _End(lines=self._place.n_lines, hash=self._place.hash)
        replace_file(self.end, end.model_dump_json() + "\n")

    def cut(self, n_lines: int | None = None) -> None:
        """Leave only the first lines; by default all that are whole.

        Raises:
            StorageError: The file cannot be written to.
        """
        kept = self._whole_lines()[:n_lines]
        if self.path.exists():
            with writing(self.path):
                os.truncate(self.path, sum(map(len, kept)))
        self._place = Place()
        for line in kept:
            self._place.add(line)

    def _whole_lines(self) -> list[bytes]:
        content = self.path.read_bytes() if self.path.exists() else b""
        return content[: content.rfind(b"\n") + 1].splitlines(keepends=True)


def lines_in_place(
    file: Path, read: Callable[[], Sequence[bytes]], place: Place, *, chained: bool = False
) -> Iterator[bytes]:
    """Yield the lines of a file, each with its end, and see to it that they are where they were written.

    A file that has no other one beside it may be a part of one, or several: whoever made it meant to.

    Whoever takes a line is to look at its checksum before the next one: that tells a line that was changed from one
    that was lost.

    Args:
        file: The file, for messages, and to find the one beside it.
        read: Returns the lines. It is called after the file beside it was read, so that a process which adds to both
            may be at work.
        place: The beginning of the file; moves on with the lines.
        chained: Whether the lines must follow one another even so.

    Raises:
        RecordError: A line is not what was written there, or lines are lost; the message names file and line.
        EndError: The file beside it is not as it was written.
    """
    end = _read_end(file.with_suffix(".end"))
    for line in read():
        try:
            place.add(line, chained=chained or end is not None)
        except RecordError as error:
            raise RecordError(f"{file}:{place.n_lines + 1}: {error}") from None
        yield line
        if end is not None and place.n_lines == end.lines and place.hash != end.hash:
            raise RecordError(
                f"{file}:{end.lines}: this line, or one before it, was changed after it was written "
                f"(their hash is {place.hash!r}, by {file.stem}.end {end.hash!r})"
            )
    if end is not None and place.n_lines < end.lines:
        lost = f"{file}:{place.n_lines + 1}"
        raise RecordError(f"{lost}: this line and all after it are lost: by {file.stem}.end there were {end.lines}")


def _read_end(file: Path) -> _End | None:
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_bytes())
        if not isinstance(data, dict) or "format" not in data:
            raise ValueError("it has no key 'format'")
        return _End.model_validate_json(json.dumps(_End.upgraded(data)))
    except VersionError as error:
        raise EndError(f"{file}: {error}") from None
    except (ValidationError, ValueError) as error:
        raise _damaged(file, " ".join(str(error).split())) from None


def _damaged(end: Path, fault: str) -> EndError:
    return EndError(
        f"{end}: was changed after it was written: {fault}; remove it, the lines of {end.stem}.jsonl have checksums of "
        "their own"
    )
