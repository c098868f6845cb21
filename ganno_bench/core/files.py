"""Files that are either the old ones or the new ones, whatever happens."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["replace_file"]


def replace_file(file: Path, text: str) -> None:
    """Write a file beside the old one, wait until it is on the disk, and let it take the old one's place."""
    temporary = file.with_name(f".{file.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)
