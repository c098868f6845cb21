"""Checkpoints of a training: its state, the training that it belongs to, and a checksum."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ganno_bench.core.errors import ResumeError, VersionError, one_line
from ganno_bench.core.files import replace_file
from ganno_bench.core.versions import check_version

__all__ = ["WHAT_TO_DO", "load_checkpoint", "save_checkpoint"]

_FORMAT = 2


def save_checkpoint(file: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; replace an existing one.

    Args:
        file: The file to write.
        state: Tensors and plain data.

    Raises:
        StorageError: It cannot be written; the old one is unchanged.
    """
    content = _saved(dict(state))
    checksum = hashlib.sha256(content).hexdigest()
    whole = {"format": _FORMAT, "checksum": checksum, "state": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    replace_file(file, _saved(whole))


def load_checkpoint(file: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        file: The file to read.
        training: The keys and values that the state must have, which identify its training. A checkpoint of format 1
            has neither these keys nor a checksum.

    Raises:
        ResumeError: It cannot be read, was changed after it was written, or belongs to another training.
    """
    try:
        whole = torch.load(file, weights_only=True)
        check_version(whole.get("format", 1), _FORMAT)  # checkpoints of format 1 have no key 'format'
        if "checksum" not in whole and whole.get("format", 1) == 1:
            return dict(whole)
        content = whole["state"].numpy().tobytes()
        if hashlib.sha256(content).hexdigest() != whole["checksum"]:
            raise ResumeError(f"{file}: was changed after it was written: its checksum does not match its content")
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except VersionError as error:
        raise ResumeError(f"{file}: {error}") from None
    except ResumeError as error:
        raise ResumeError(f"{error}; {WHAT_TO_DO}") from None
    except Exception as error:  # a damaged file can raise anything
        raise ResumeError(f"{file}: cannot be read: {one_line(error)[:200]}; {WHAT_TO_DO}") from None
    for key, wanted in training.items():
        if state[key] != wanted:
            raise ResumeError(
                f"{file}: key {key!r}: belongs to another training, expected {wanted!r} (value: {state[key]!r}); "
                "start again with another --out"
            )
    return state


WHAT_TO_DO = "restore the file, or start again with another --out"


def _saved(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
