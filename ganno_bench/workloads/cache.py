"""Cache of encoded datasets on disk, so that each dataset is decoded, hashed and tokenized once.

An entry is one safetensors file, named by a hash of everything that determines its content. The file holds the tensors
and, as JSON in its header, the rest of the `Dataset`. Any change of the inputs changes the name. So an entry is never
out of date, and you can always delete entries or the whole folder.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ganno_bench.core.user_cache import user_cache
from ganno_bench.workloads.cache_key import cache_key
from ganno_bench.workloads.data import Dataset, Examples, TokenStream
from ganno_bench.workloads.suite import DatasetSpec

__all__ = ["MAX_BYTES", "cache_folder", "cached"]

MAX_BYTES = 4 * 2**30
"""Largest size of the cache; above it, the least recently used entries are deleted. A larger entry is not written."""

_ROLES = ("train", "validation", "test")


def cache_folder() -> Path | None:
    """Return the folder of the entries; None if there is no cache. See `user_cache`."""
    return user_cache("datasets")


def cached(
    folder: Path | None, name: str, spec: DatasetSpec, splits: Mapping[str, Any], encode: Callable[[], Dataset]
) -> Dataset:
    """Return a dataset from the cache; encode and store it if it is not there.

    Args:
        folder: Folder of the entries; None if there is no cache.
        name: Name of the dataset in the suite.
        spec: Declaration of the dataset.
        splits: Role -> `datasets.Dataset`.
        encode: Returns the encoded dataset. Its exceptions are passed on, and no entry is written.
    """
    key = cache_key(spec, splits) if folder is not None else None
    if folder is None or key is None:
        return encode()
    path = folder / f"{key}.safetensors"
    dataset = _read(path, name, spec.task)
    if dataset is None:
        dataset = encode()
        # A full disk or a read-only folder costs time but must not fail the run.
        with suppress(OSError, SafetensorError):
            _write(path, dataset)
            _trim(folder)
    return dataset


def _read(path: Path, name: str, task: str) -> Dataset | None:
    """Return the dataset of an entry, or None if the entry is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header["checksum"] != _checksum(header["dataset"], tensors):
            return None
        os.utime(path)  # mark it as most recently used
        about = json.loads(header["dataset"])
        rest = {key: adapter.validate_python(about[key]) for key, adapter in _adapters().items()}
        splits: dict[str, Any] = {}
        for role in _ROLES:
            own = {key.partition(".")[2]: _widen(value) for key, value in tensors.items() if key.startswith(role)}
            length = rest["shape"].input_shape[0]
            splits[role] = TokenStream(own["tokens"], length) if rest["shape"].next_token else Examples(**own)
        return Dataset(name, task, **splits, **rest)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def _write(path: Path, dataset: Dataset) -> None:
    """Write an entry atomically: a concurrent reader finds the complete entry or none."""
    splits = {role: getattr(dataset, role) for role in _ROLES}
    if {type(split) for split in splits.values()} != {TokenStream if dataset.shape.next_token else Examples}:
        return  # `_read` cannot restore other kinds of splits
    tensors = {
        f"{role}.{key}": _narrow(value)
        for role, split in splits.items()
        for key, value in vars(split).items()
        if isinstance(value, Tensor)
    }
    if sum(tensor.nbytes for tensor in tensors.values()) > MAX_BYTES:
        return
    rest = {key: adapter.dump_python(getattr(dataset, key), mode="json") for key, adapter in _adapters().items()}
    about = json.dumps(rest)
    unfinished = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        save_file(tensors, unfinished, {"dataset": about, "checksum": _checksum(about, tensors)})
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@cache
def _adapters() -> dict[str, TypeAdapter[Any]]:
    """Return field -> its conversion to JSON and back, for all fields of `Dataset` except name, task and splits."""
    types = get_type_hints(Dataset)
    return {key: TypeAdapter(type_) for key, type_ in types.items() if key not in ("name", "task", *_ROLES)}


def _trim(folder: Path) -> None:
    """Delete the least recently used files, including those of killed processes, until the rest is small enough."""
    files = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another process may delete files, too
            found = path.stat()
            files.append((found.st_mtime_ns, found.st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > MAX_BYTES:
            path.unlink(missing_ok=True)


def _narrow(values: Tensor) -> Tensor:
    """Return ids or labels, which are never negative, in the smallest integer type that holds them."""
    if values.is_floating_point():
        return values.contiguous()
    largest = int(values.max())
    dtypes = (torch.uint8, torch.int16, torch.int32, torch.int64)
    return values.to(next(dtype for dtype in dtypes if largest <= torch.iinfo(dtype).max)).contiguous()


def _widen(values: Tensor) -> Tensor:
    # Copy, because the tensor read shares memory with the file, which may be deleted.
    return values.clone() if values.is_floating_point() else values.to(torch.int64, copy=True)


def _checksum(about: str, tensors: Mapping[str, Tensor]) -> str:
    checksum = zlib.crc32(about.encode())
    for _, tensor in sorted(tensors.items()):
        checksum = zlib.crc32(tensor.numpy().data, checksum)
    return f"{checksum:08x}"
