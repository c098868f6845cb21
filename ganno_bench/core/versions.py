"""Check file versions and convert earlier versions to the current one; `docs/files.md` lists all versions.

In schema version 1, the key `code_hash` identified a scheduler's code by a hash of its modules' bytes. Later versions
have the key `code` instead. The committed table `codes.json` gives the `code` of each such hash. A hash that is not in
the table belongs to a user's file or a package; its `code` is `source HASH`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from ganno_bench.core.errors import VersionError

__all__ = ["check_version", "code_of_hash", "with_code"]


def check_version(found: object, newest: int, key: str = "format") -> None:
    """Check that a file's version is from 1 to the newest.

    Args:
        found: The version.
        newest: The version that this package writes.
        key: Key of the version in the file, for the message.

    Raises:
        VersionError: The version cannot be read.
    """
    if type(found) is not int or not 1 <= found <= newest:
        readable = "1" if newest == 1 else f"1 to {newest}"
        later = "; a later version wrote it, upgrade ganno-bench" if type(found) is int and found > newest else ""
        raise VersionError(f"key {key!r} is {found!r}; this version of ganno-bench reads {readable}{later}")


def with_code(
    data: dict[str, Any], *, key: str = "schema_version", versioned: bool = True, newest: int = 2
) -> dict[str, Any]:
    """Convert data of version 1 or later to the newest version, with `code` in place of `code_hash`.

    Version 3 only adds the checksum at the end of a line, which is not part of the data.

    Args:
        data: Content of a file, of a line or of a part of a file.
        key: Key of the version.
        versioned: Whether version 1 has this key.
        newest: The version that this package writes.

    Raises:
        VersionError: The version cannot be read.
    """
    version = data.get(key, None if versioned else 1)
    check_version(version, newest, key)
    if version == newest:
        return data
    renamed = {"code" if name == "code_hash" else name: value for name, value in data.items()}
    if "code_hash" in data:
        renamed["code"] = code_of_hash(data["code_hash"])
    return {key: newest} | renamed | {key: newest}  # the version comes first


def code_of_hash(code_hash: Any) -> Any:
    """Return the `code` for a `code_hash` of version 1. A value that is not a string is returned unchanged."""
    return _codes().get(code_hash, f"source {code_hash}") if isinstance(code_hash, str) else code_hash


@cache
def _codes() -> dict[str, str]:
    """Return the table: `code_hash` of version 1 -> `code`."""
    codes: dict[str, str] = json.loads(files("ganno_bench.core").joinpath("codes.json").read_text(encoding="utf-8"))
    return codes
