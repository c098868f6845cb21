"""`ganno-bench new`: the project of a scheduler of one's own, which passes its contract before a line is changed.

The templates lie beside this module, as `templates/KIND/PATH.j2`; the path of what they give may have names in it, too.
"""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.schedulers.registry import SCHEDULERS

__all__ = ["new_scheduler", "scheduler_files"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")
_LONGEST = 40
"""Characters, so that no line of a template grows beyond what ruff lets stand."""
_PREFIX = "ganno-bench-"
_TAKEN = {"None", "True", "False", "Mapping", "ClosedForm", "BaseDistribution", "FloatDistribution"}
"""Class names that mean something else in the files."""


def scheduler_files(name: str) -> dict[str, str]:
    """Return the files of a scheduler's project: path relative to it -> content.

    Args:
        name: What it is called on the command line and in tables: words of lower-case letters and digits, joined by
            hyphens; 40 characters at most. Its package is `ganno-bench-NAME`, its class the words in capitals.

    Raises:
        ConfigError: The name is of another form, too long, or makes a class that means something else.
        PluginError: A scheduler of this name is registered.
    """
    if not _NAME.fullmatch(name):
        words = re.findall(r"[a-z][a-z0-9]*", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
        nearest = f"; did you mean {'-'.join(words)!r}?" if words else ""
        raise ConfigError(
            f"name {name!r} is not made of lower-case words (letters, then digits) joined by hyphens{nearest}"
        )
    if len(name) > _LONGEST:
        raise ConfigError(f"name {name!r} has {len(name)} characters, which is more than {_LONGEST}")
    class_name = "".join(word.capitalize() for word in name.split("-"))
    if class_name in _TAKEN or class_name.startswith("Test"):
        why = "pytest takes for a test" if class_name.startswith("Test") else "is something else"
        raise ConfigError(f"name {name!r} makes a class {class_name!r}, which {why}; did you mean 'my-{name}'?")
    known = SCHEDULERS.entries()
    if name in known:
        raise PluginError(f"scheduler {name!r} is registered already ({known[name].source}); did you mean 'my-{name}'?")
    names = {
        "name": name,
        "package": _PREFIX + name,
        "module": (_PREFIX + name).replace("-", "_"),
        "class": class_name,
    }
    # A closing newline is part of a file, and what a template leaves open is a mistake in it.
    environment = Environment(keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False)
    return {
        environment.from_string(path).render(names): environment.from_string(text).render(names)
        for path, text in sorted(_templates(files("ganno_bench.plugins") / "templates" / "scheduler"))
    }


def new_scheduler(name: str, out: Path | None = None) -> Path:
    """Write the project of a scheduler, and return its folder.

    Args:
        name: See `scheduler_files`.
        out: A folder that is not there yet, or is empty; `ganno-bench-NAME` in the current one by default.

    Raises:
        ConfigError: The name is malformed, or the folder has something in it, or cannot be written.
        PluginError: A scheduler of this name is registered.
    """
    content = scheduler_files(name)
    folder = out if out is not None else Path(_PREFIX + name)
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ConfigError(f"{folder}: there is something already; give a folder that is new or empty as --out")
        for path, text in content.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


def _templates(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Return the path of what each template gives, and its text."""
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".j2"):
            found.append((prefix + entry.name.removesuffix(".j2"), entry.read_text(encoding="utf-8")))
    return found
