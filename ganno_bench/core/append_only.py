"""An append-only file of lines, and a second file that records how many lines were written.

NAME.jsonl   lines of JSON, each with a checksum and a hash of the lines before it
NAME.end     the number of lines after the last write, and a hash of them

NAME.end reveals lines that were lost at the end of NAME.jsonl. A process that is killed between the two writes leaves
more lines than NAME.end counts. That is valid.
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
    """A `NAME.end` file is damaged; its `NAME.jsonl` may be intact."""


class _End(Config):
    """Content of a `NAME.end` file: the number of lines, and their hash."""

    format: Literal[1] = 1
    lines: int
    hash: str

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse a file that a later version wrote."""
        check_version(data.get("format"), 1)
        return data


class AppendOnlyFile:
    """A file that grows by whole lines and is cut only at its end.

    Attributes:
        path: The file, `NAME.jsonl`.
        end: The file `NAME.end` in the same folder.
    """

    def __init__(self, path: Path) -> None:
        """Set the path; the file need not exist."""
        self.path = path
        self.end = path.with_suffix(".end")
        self._place = Place()

    def lines(self) -> Iterator[bytes]:
        """Yield the complete lines, checked by `lines_in_place`. An incomplete last line is left out."""
        self._place = Place()
        yield from lines_in_place(self.path, self._whole_lines, self._place, chained=True)

    @property
    def is_known(self) -> bool:
        """Whether all yielded lines have checksums; earlier versions wrote none."""
        return self._place.is_known

    def append(self, texts: Sequence[str]) -> None:
        """Append lines and wait until they are on the disk.

        Call it only after `lines` is exhausted.

        Args:
            texts: The lines, without line ends and checksums.

        Raises:
            StorageError: The lines cannot be written.
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
        """Keep only the first `n_lines` lines; by default all complete lines.

        Raises:
            StorageError: The file cannot be written.
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
    """Yield the lines of a file, with line ends, and check that each stands where it was written.

    A file without a `NAME.end` may be a part of a file, or several files joined on purpose.

    Check the checksum of each line before you take the next one. This distinguishes a changed line from a lost one.

    Args:
        file: The file, for messages and to find its `NAME.end`.
        read: Returns the lines. It is called after `NAME.end` was read, because another process may append to both.
        place: The beginning of the file; it advances with the lines.
        chained: Whether the lines must follow one another even without a `NAME.end`.

    Raises:
        RecordError: A line does not belong there, or lines are lost; the message names file and line.
        EndError: `NAME.end` was changed after it was written.
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
                f"{file}:{end.lines}: this line or an earlier one was changed after it was written "
                f"(hash of the lines: {place.hash!r}, in {file.stem}.end: {end.hash!r})"
            )
    if end is not None and place.n_lines < end.lines:
        lost = f"{file}:{place.n_lines + 1}"
        raise RecordError(f"{lost}: this line and all later ones are lost: {file.stem}.end counts {end.lines} lines")


def _read_end(file: Path) -> _End | None:
    if not file.exists():
        return None
    try:
        data = json.loads(file.read_bytes())
        if not isinstance(data, dict) or "format" not in data:
            raise ValueError("key 'format' is missing")
        return _End.model_validate_json(json.dumps(_End.upgraded(data)))
    except VersionError as error:
        raise EndError(f"{file}: {error}") from None
    except (ValidationError, ValueError) as error:
        raise _damaged(file, " ".join(str(error).split())) from None


def _damaged(end: Path, fault: str) -> EndError:
    return EndError(
        f"{end}: was changed after it was written: {fault}; delete it, each line of {end.stem}.jsonl has its own "
        "checksum"
    )
