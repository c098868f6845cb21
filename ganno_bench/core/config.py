"""TOML files -> frozen pydantic models, with errors that name file, key, value and the nearest valid name."""

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
"""A name that can be part of a path and of a table."""
Positive = Annotated[int, Field(ge=1)]


class Config(BaseModel):
    """Base of everything that is read from a file: immutable, unknown keys are errors, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return what a file holds as this version writes it, where an earlier one wrote it; by default as it is.

        Raises:
            VersionError: Of another version than those that can be read.
        """
        return data


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file is missing, unreadable or no TOML.
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
        model: The class to make.
        data: What was read; arrays may stand for tuples.
        source: The file's name, for messages.

    Raises:
        ConfigError: One line for the first thing that is wrong: file, key, value and the nearest valid name.
    """
    try:
        # JSON mode, because it is the one in which a strict model still takes an array for a tuple.
        return model.model_validate_json(json.dumps(model.upgraded(data), default=str))
    except VersionError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        # A misspelt key is unknown and leaves another one missing; the former says more.
        first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
        raise ConfigError(f"{source}: {describe_error(model, first)}") from None


def describe_error(model: type[BaseModel], found: ErrorDetails) -> str:
    """Return what is wrong with a key of a `model`: key, value and the nearest valid name."""
    loc = found["loc"]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")
    if found["type"] == "extra_forbidden":
        return f"unknown key {key!r}{did_you_mean(str(loc[-1]), _fields_at(model, loc[:-1]))}"
    if found["type"] == "missing":
        return f"key {key!r} is missing"
    return f"key {key!r}: {found['msg']} (value: {found['input']!r})"


def check_least(option: str, value: int | None, least: int) -> None:
    """Check the number that an option of a command was given; None: it was not given.

    Raises:
        ConfigError: It is too small.
    """
    if value is not None and value < least:
        raise ConfigError(f"option --{option.replace('_', '-')}: is less than {least} (value: {value})")


def content_hash(data: Any) -> str:
    """Return a hash of plain data (mappings, sequences, numbers, strings, dates): 16 hexadecimal digits."""
    if isinstance(data, BaseModel):
        data = data.model_dump(mode="json")
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """Return the field names of the model that lies at `loc` below `model`."""
    for part in loc:
        # What is no field is an index, or a key of a table whose keys are free.
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
