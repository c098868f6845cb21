"""Versions of the files that are kept, and what earlier ones say in the words of today; `docs/files.md` has the table.

Up to schema version 1 a scheduler's code was known by a hash of its modules' bytes. What stood for the code since then
is looked up in a committed table, `codes.json`; a hash that it lacks was made of a file of the user's own or of a
package, and stays one: `source HASH`.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from ganno_bench.core.errors import VersionError

__all__ = ["check_version", "code_of_hash", "with_code"]


def check_version(found: object, newest: int, key: str = "format") -> None:
    """Refuse a version that is not among 1 to the newest.

    Args:
        found: The version.
        newest: The one that is written.
        key: Where it stands, for the message.

    Raises:
        VersionError: It cannot be read.
    """
    if type(found) is not int or not 1 <= found <= newest:
        readable = "1" if newest == 1 else f"1 to {newest}"
        later = "; a later one wrote it" if type(found) is int and found > newest else ""
        raise VersionError(f"key {key!r} is {found!r}; this version of ganno-bench reads {readable}{later}")


def with_code(
    data: dict[str, Any], *, key: str = "schema_version", versioned: bool = True, newest: int = 2
) -> dict[str, Any]:
    """Return data of version 1 or later as those of the newest: with `code` in the place of `code_hash`.

    What versions after 2 have more is the checksum at the end of a line, which is none of the data.

    Args:
        data: What a file, a line or a part of a file holds.
        key: Where its version stands.
        versioned: Whether version 1 has it there, too.
        newest: The version that is written.

    Raises:
        VersionError: It has another version.
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
    """Return what stands for the code that had a hash in version 1; what is no string is returned as it is."""
    return _codes().get(code_hash, f"source {code_hash}") if isinstance(code_hash, str) else code_hash


@cache
def _codes() -> dict[str, str]:
    """Return the hash of version 1 -> what stands for that code now."""
    codes: dict[str, str] = json.loads(files("ganno_bench.core").joinpath("codes.json").read_text(encoding="utf-8"))
    return codes
