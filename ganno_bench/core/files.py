"""Files that are either the old ones or the new ones, whatever happens; `.gz` at the end of a name means compressed."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

__all__ = ["read_file", "replace_file"]


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


def replace_file(file: Path, text: str) -> None:
    """Write a file beside the old one, wait until it is on the disk, and let it take the old one's place."""
    content = text.encode()
    if file.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # no date: the same text is the same file
    temporary = file.with_name(f".{file.name}.new")
    with temporary.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
