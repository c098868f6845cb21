"""The exception tree. Every user mistake raises a `UserError`, which ends a command with exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "BaselineError",
    "ConfigError",
    "DatasetError",
    "GannoBenchError",
    "MissingPackageError",
    "PluginError",
    "RecordError",
    "ResumeError",
    "StorageError",
    "SubmissionError",
    "UnknownNameError",
    "UserError",
    "VersionError",
    "did_you_mean",
    "one_line",
]


class GannoBenchError(Exception):
    """Base of every error that this package raises on purpose."""

    exit_code = 1


class UserError(GannoBenchError):
    """Some input of the user is wrong; the message says where, what and how to fix it."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration file or command-line value is invalid."""


class UnknownNameError(UserError):
    """A name is not registered; the message has the nearest valid name, or all of them."""


class DatasetError(UserError):
    """A dataset is missing, or does not match its declaration."""


class RecordError(UserError):
    """A record file is corrupt, or records cannot be compared."""


class VersionError(UserError):
    """A file has a version that cannot be read."""


class BaselineError(UserError):
    """A result cannot be committed, or contradicts a committed one."""


class SubmissionError(UserError):
    """A result cannot be submitted, or a submission breaks a rule."""


class ResumeError(UserError):
    """A run directory cannot be continued with these settings."""


class StorageError(UserError):
    """A database, journal or disk that stores results fails; earlier records are safe."""


class PluginError(UserError):
    """A plugin cannot be imported, is not of the registered kind, or breaks its contract."""


class MissingPackageError(UserError, ImportError):
    """An optional package is not installed; the message says how to get it."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice nearest to `name`; if none is near, the list of choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(choices)}" if choices else ""


def one_line(error: BaseException) -> str:
    """Return the type and message of another library's error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
