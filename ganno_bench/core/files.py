"""Files that are either the old ones or the new ones, whatever happens; `.gz` at the end of a name means compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganno_bench.core.errors import StorageError

__all__ = ["read_file", "replace_file", "writing"]


def read_file(file: Path) -> bytes:
    """Return what is in a file.

    Raises:
        OSError: It cannot be read, or is not what its name says.
    """
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error) as error:
        raise gzip.BadGzipFile(0, f"no gzip file: {error}") from None


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Say in one line why a file cannot be written: the disk is full, or is no longer there.

    Raises:
        StorageError: It cannot.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{file}: cannot be written: {error.strerror or error}; once it can, the same command again goes on from "
            "what was written before"
        ) from error


def replace_file(file: Path, content: str | bytes) -> None:
    """Write a file beside the old one, wait until it is on the disk, and let it take the old one's place.

    Raises:
        StorageError: It cannot be written; the old one is as it was.
    """
    data = content.encode() if isinstance(content, str) else content
    if file.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # no date: the same text is the same file
    temporary = file.with_name(f".{file.name}.new")
    with writing(file):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
