"""Read and replace files atomically. A name that ends in `.gz` means a compressed file."""

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
    """Return the content of a file, decompressed if its name ends in `.gz`.

    Raises:
        OSError: The file cannot be read, or is not a valid gzip file.
    """
    content = file.read_bytes()
    if file.suffix != ".gz":
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error) as error:
        raise gzip.BadGzipFile(0, f"is not a valid gzip file: {error}") from None


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn an `OSError` while a file is written into one line that names the file and the reason.

    Raises:
        StorageError: The file cannot be written, for example because the disk is full or gone.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{file}: cannot be written: {error.strerror or error}; fix this and run the same command again "
            "to resume from the last written result"
        ) from error


def replace_file(file: Path, content: str | bytes) -> None:
    """Replace a file atomically: write a temporary file, wait until it is on the disk, and rename it.

    Raises:
        StorageError: The file cannot be written; the old file is unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    if file.suffix == ".gz":
        data = gzip.compress(data, mtime=0)  # without a date, so that equal content gives equal files
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
