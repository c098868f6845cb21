"""Lines of JSON -> models, with errors that name file, line, key and value."""

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
"""How lines begin."""


def parse_line(model: type[C], line: str | bytes, where: str) -> C:
    """Read a line of JSON as a model that has a `schema_version`.

    Args:
        model: What the line holds.
        line: The line.
        where: File and line number, for messages.

    Raises:
        RecordError: The line is no JSON, was changed after it was written, has a schema version that cannot be read, or
            lacks something.
    """
    text, is_sealed = _unsealed(line.encode() if isinstance(line, str) else line, where)
    # Version 2 is as version 3, but for the checksum, and committed baselines have thousands of its lines.
    quick = text if is_sealed else text.replace(_VERSION_2, _VERSION_3, 1) if text.startswith(_VERSION_2) else b""
    with suppress(ValidationError):
        value = model.model_validate_json(quick)
        if "schema_version" in value.model_fields_set:
            return value
    upgraded = _upgraded(model, text, where)
    if not is_sealed and upgraded["schema_version"] == json.loads(text)["schema_version"]:
        raise RecordError(f"{where}: key 'checksum': is missing at the end of the line, so it was changed or cut")
    try:
        return model.model_validate_json(json.dumps(upgraded))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RecordError(f"{where}: key {key!r}: {first['msg']} (value: {first['input']!r})") from None


def check_line(line: bytes, where: str) -> None:
    """Check the checksum of a line that need not be read, if it has one.

    Raises:
        RecordError: It was changed after it was written.
    """
    _unsealed(line, where)


def _unsealed(line: bytes, where: str) -> tuple[bytes, bool]:
    try:
        return unsealed(line)
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None


def _upgraded(model: type[Config], line: bytes, where: str) -> dict[str, Any]:
    """Return what a line of JSON that is not as this version writes it says in this one's form."""
    try:
        data = json.loads(line)
    except ValueError as error:
        raise RecordError(f"{where}: is not valid JSON: {error}") from None
    try:
        return model.upgraded(data if isinstance(data, dict) else {})
    except VersionError as error:
        raise RecordError(f"{where}: {error}") from None
