"""Checkpoints of a training: what was learned so far, of which training it is, and a checksum of all that."""

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

__all__ = ["load_checkpoint", "save_checkpoint"]

_FORMAT = 2


def save_checkpoint(file: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint; an existing one is replaced.

    Args:
        file: Where to.
        state: Tensors, and plain data.

    Raises:
        StorageError: It cannot be written; the old one is as it was.
    """
    content = _saved(dict(state))
    checksum = hashlib.sha256(content).hexdigest()
    whole = {"format": _FORMAT, "checksum": checksum, "state": torch.frombuffer(bytearray(content), dtype=torch.uint8)}
    replace_file(file, _saved(whole))


def load_checkpoint(file: Path, training: Mapping[str, Any]) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        file: Where from.
        training: What the state must say of the training that it is of; one of format 1 says nothing, and has no
            checksum.

    Raises:
        ResumeError: It cannot be read, was changed after it was written, or is of another training.
    """
    try:
        whole = torch.load(file, weights_only=True)
        check_version(whole.get("format", 1), _FORMAT)  # the first checkpoints did not say
        if "checksum" not in whole and whole.get("format", 1) == 1:
            return dict(whole)
        content = whole["state"].numpy().tobytes()
        if hashlib.sha256(content).hexdigest() != whole["checksum"]:
            raise ResumeError(f"{file}: was changed after it was written: its checksum is not that of what it holds")
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except VersionError as error:
        raise ResumeError(f"{file}: {error}") from None
    except ResumeError as error:
        raise ResumeError(f"{error}; {_WHAT_TO_DO}") from None
    except Exception as error:  # there is no end to what a damaged file makes of a reader
        raise ResumeError(f"{file}: cannot be read: {one_line(error)[:200]}; {_WHAT_TO_DO}") from None
    for key, wanted in training.items():
        if state[key] != wanted:
            raise ResumeError(f"{file}: key {key!r} is {state[key]!r}, not {wanted!r}: it is of another training")
    return state


_WHAT_TO_DO = "get the file back, or begin anew with another --out"


def _saved(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()
