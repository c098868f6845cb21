"""Read TOML files into frozen pydantic models; errors name file, key, value and the nearest valid name."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ganno_bench.core.errors import ConfigError, VersionError, did_you_mean

__all__ = ["Config", "Name", "Positive", "check_least", "content_hash", "describe_error", "parse_config", "read_toml"]

C = TypeVar("C", bound="Config")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")]
"""A name that is valid in paths and tables."""
Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of all models that are read from files: immutable, unknown keys are errors, no implicit conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert the content of a file from an earlier format to the current one; by default, return it unchanged.

        Raises:
            VersionError: The file has a version that cannot be read.
        """
        return data


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file is missing, unreadable or not valid TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from error


def parse_config(model: type[C], data: dict[str, Any], source: str) -> C:
    """Validate `data` as a `model`.

    Args:
        model: The class.
        data: Content of the file; arrays may stand for tuples.
        source: The file's name, for messages.

    Raises:
        ConfigError: Some key is wrong. One line describes the first: file, key, value and the nearest valid name.
    """
    try:
        # Only in JSON mode does a strict model accept an array as a tuple.
        return model.model_validate_json(json.dumps(model.upgraded(data), default=str))
    except VersionError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        # A misspelt key causes two errors: an unknown key and a missing one. The unknown key says more.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        raise ConfigError(f"{source}: {describe_error(model, first)}") from None


def describe_error(model: type[BaseModel], found: ErrorDetails) -> str:
    """Return a message about a wrong key of a `model`: key, value and the nearest valid name."""
    loc = found["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if found["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(str(loc[-1]), _fields_at(model, loc[:-1]))}"
    if found["type"] == "missing":
        return f"key {key!r} is missing"
    message = found["msg"].removeprefix("Value error, ")
    where = f"key {key!r}: " if key else ""  # a rule about several keys has none
    return f"{where}{message} (value: {found['input']!r})"


def check_least(option: str, value: int | None, least: int) -> None:
    """Check that the value of a command-line option is at least `least`. None means that the option was not given.

    Raises:
        ConfigError: The value is too small.
    """
    if value is not None and value < least:
        raise ConfigError(f"option --{option.replace('_', '-')}: must be at least {least} (value: {value})")


def content_hash(data: Any) -> str:
    """Return a hash of plain data (mappings, sequences, numbers, strings, dates): 16 hexadecimal digits."""
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json")
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the model at `loc` inside `model`."""
    for part in loc:
        # Other parts are indices, or keys of a table with free keys.
        if isinstance(part, str) and (field := model.model_fields.get(part)) is not None:
            model = _innermost_model(field.annotation) or model
    return list(model.model_fields)


def _innermost_model(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if (found := _innermost_model(argument)) is not None:
            return found
    return None
