"""Read lines of JSON into models; errors name file, line, key and value."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import ValidationError

from ganno_bench.core.checksums import unsealed
from ganno_bench.core.config import Config
from ganno_bench.core.errors import RecordError, VersionError

__all__ = ["check_line", "parse_line"]

C = TypeVar("C", bound=Config)
_VERSION_2, _VERSION_3 = b'{"schema_version":2,', b'{"schema_version":3,'
"""Beginning of a line of schema version 2 or 3."""


def parse_line(model: type[C], line: str | bytes, where: str) -> C:
    """Read a line of JSON as a model that has a `schema_version`.

    Args:
        model: The class.
        line: The line.
        where: File and line number, for messages.

    Raises:
        RecordError: The line is not valid JSON, was changed after it was written, has a schema version that cannot be
            read, or has a missing or invalid key.
    """
    text, is_sealed = _unsealed(line.encode() if isinstance(line, str) else line, where)
    # Fast path: version 2 is version 3 without the checksum, and committed baselines have thousands of such lines.
    quick = text if is_sealed else text.replace(_VERSION_2, _VERSION_3, 1) if text.startswith(_VERSION_2) else b""
    with suppress(ValidationError):
        value = model.model_validate_json(quick)
        if "schema_version" in value.model_fields_set:
            return value
    upgraded = _upgraded(model, text, where)
    if not is_sealed and upgraded["schema_version"] == json.loads(text)["schema_version"]:
        raise RecordError(f"{where}: key 'checksum': is missing at the end of the line, so the line was changed or cut")
    try:
        return model.model_validate_json(json.dumps(upgraded))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: key {key!r}: {first['msg']} (value: {first['input']!r})") from None


def check_line(line: bytes, where: str) -> None:
    """Check the checksum of a line, if it has one, without reading the line.

    Raises:
        RecordError: The line was changed after it was written.
    """
    _unsealed(line, where)


def _unsealed(line: bytes, where: str) -> tuple[bytes, bool]:
    try:
        return unsealed(line)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None


def _upgraded(model: type[Config], line: bytes, where: str) -> dict[str, Any]:
    """Convert a line of JSON from an earlier schema version to the current one."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{where}: is not valid JSON: {error}") from None
    try:
        return model.upgraded(data if isinstance(data, dict) else {})
    except VersionError as error:
        raise RecordError(f"{where}: {error}") from None
