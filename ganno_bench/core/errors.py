"""The exception tree. Every user mistake raises a `UserError`, which ends a command with exit code 2."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Set
from functools import cache
from pathlib import Path
from traceback import walk_tb
from types import FrameType

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
    "plugin_line",
]

_OWN = str(Path(__file__).resolve().parents[1]) + os.sep
_STANDARD_LIBRARY = str(Path(os.__file__).parent) + os.sep


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
    """An optional package is not installed; the message has the command that installs it."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice nearest to `name`; if none is near, the list of choices."""
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; valid: {', '.join(choices)}" if choices else ""


def one_line(error: BaseException) -> str:
    """Return type and message of an error that other code raised, on one line, and the plugin's line that raised it."""
    return ": ".join(filter(None, [type(error).__name__, " ".join(str(error).split())])) + plugin_line(error)


def plugin_line(error: BaseException) -> str:
    """Return ` (FILE:LINE)`, the innermost line of a plugin that an error passed through; empty if there is none.

    Code of this package, of Python and of installed libraries does not count, except packages that bring plugins.
    """
    packages = cache(_plugin_packages)  # searched once for all frames, and only if one is of an installed package
    frames = reversed(list(walk_tb(error.__traceback__)))
    found = ((frame.f_code.co_filename, line) for frame, line in frames if _is_plugin(frame, packages))
    return next((f" ({Path(file).name}:{line})" for file, line in found), "")


def _is_plugin(frame: FrameType, packages: Callable[[], Set[str]]) -> bool:
    file = frame.f_code.co_filename
    if file.startswith((_OWN, "<")):
        return False
    if not {"site-packages", "dist-packages"} & set(Path(file).parts):  # a folder of the standard library has them
        return not file.startswith(_STANDARD_LIBRARY)
    return str(frame.f_globals.get("__name__")).partition(".")[0] in packages()


def _plugin_packages() -> frozenset[str]:
    """Return the names of the installed packages that bring plugins."""
    from importlib.metadata import distributions

    points = (point for distribution in distributions() for point in distribution.entry_points)
    return frozenset(
        point.value.replace(":", ".").partition(".")[0] for point in points if point.group.startswith("ganno_bench.")
    )
