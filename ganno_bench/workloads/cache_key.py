"""Hash of the inputs of an encoded dataset: content of the columns, declaration, code and libraries."""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ganno_bench.workloads.suite import DatasetSpec

__all__ = ["cache_key"]

_LIBRARIES = ("datasets", "numpy", "pillow", "tokenizers", "torch")


def cache_key(spec: DatasetSpec, splits: Mapping[str, Any]) -> str | None:
    """Return a hash of everything that determines how `splits` are encoded: 64 hexadecimal digits.

    The hash covers the stored content, which is not decoded. So another file format or order of the rows gives another
    key, although it gives the same dataset. Paths, times and revisions have no effect.

    Args:
        spec: Declaration of the dataset.
        splits: Role -> `datasets.Dataset`.

    Returns:
        The hash; None if the stored content does not determine the dataset: a split is transformed when it is read, or
        an image file is not on this machine.
    """
    digest = hashlib.sha256(spec.model_dump_json(exclude={"source", "config", "revision", "folder", "local"}).encode())
    digest.update(_code_version())
    for role, split in splits.items():
        if split.format["type"] is not None:
            return None
        digest.update(f"{role} {len(split)} ".encode())
        used = [column for column in (spec.input, spec.target) if column in split.column_names]
        try:
            _hash_rows(split.select_columns(used), digest.update)
        except OSError:
            return None
    return digest.hexdigest()


@cache
def _code_version() -> bytes:
    """Return a hash of the code that encodes and of the versions of its libraries and tables."""
    digest = hashlib.sha256(repr([unicodedata.unidata_version, *map(version, _LIBRARIES)]).encode())
    # All modules of this package: edits of models invalidate entries needlessly, but no encoder can be missed.
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _hash_rows(split: Any, update: Callable[[Any], None]) -> None:
    """Hash the rows of a `datasets.Dataset`, and the files that its image columns refer to."""
    import datasets
    import pyarrow

    images = [column for column, feature in split.features.items() if isinstance(feature, datasets.Image)]
    for table in split.with_format("arrow").iter(batch_size=1024):
        with pyarrow.ipc.new_stream(_Sink(update), table.schema) as writer:
            writer.write_table(table)
        for column in images:
            for image in table.column(column).to_pylist():
                if image is not None and image["bytes"] is None and image["path"] is not None:
                    update(hashlib.sha256(Path(image["path"]).read_bytes()).digest())


class _Sink(io.RawIOBase):
    """A file that passes everything written to it to a function."""

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._receive(content)
        return len(content)
