"""`ganno-bench new`: writes the project of a new scheduler, which passes the contract before you change a line.

The templates are `templates/KIND/PATH.j2` next to this module. Names are substituted in their paths and contents.
"""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.schedulers.registry import SCHEDULERS

__all__ = ["new_scheduler", "new_scheduler_file", "scheduler_files"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*")
_LONGEST = 40
"""Largest number of characters, so that no line of a template exceeds the line length."""
_PREFIX = "ganno-bench-"
_TAKEN = {"None", "True", "False", "Mapping", "ClosedForm", "BaseDistribution", "FloatDistribution"}
"""Class names that have another meaning in the files."""


def scheduler_files(name: str) -> dict[str, str]:
    """Return the files of the project of a scheduler: path relative to its folder -> content.

    Args:
        name: Name of the scheduler on the command line and in tables: words of lower-case letters and digits, joined
            by hyphens, at most 40 characters. The package is `ganno-bench-NAME`, the class is the name in CamelCase.

    Raises:
        ConfigError: The name has another form, is too long, or its class name has another meaning.
        PluginError: A scheduler of this name is registered.
    """
    if not _NAME.fullmatch(name):
        words = re.findall(r"[a-z][a-z0-9]*", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower())
        nearest = f"; did you mean {'-'.join(words)!r}?" if words else ""
        raise ConfigError(f"name {name!r} must be lower-case words (letters, then digits) joined by hyphens{nearest}")
    if len(name) > _LONGEST:
        raise ConfigError(f"name {name!r} must have at most {_LONGEST} characters (value: {len(name)})")
    class_name = _class_name(name)
    if class_name in _TAKEN or class_name.startswith("Test"):
        why = "pytest takes for a test" if class_name.startswith("Test") else "has another meaning in the files"
        raise ConfigError(f"name {name!r} makes a class {class_name!r}, which {why}; did you mean 'my-{name}'?")
    known = SCHEDULERS.entries()
    if name in known:
        raise PluginError(f"scheduler {name!r} is already registered ({known[name].source}); did you mean 'my-{name}'?")
    names = {
        "name": name,
        "package": _PREFIX + name,
        "module": (_PREFIX + name).replace("-", "_"),
        "class": class_name,
    }
    # Keep the newline at the end of a file, and raise for an undefined name.
    environment = Environment(keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False)
    return {
        environment.from_string(path).render(names): environment.from_string(text).render(names)
        for path, text in sorted(_templates(files("ganno_bench.plugins") / "templates" / "scheduler"))
    }


def new_scheduler(name: str, out: Path | None = None) -> Path:
    """Write the project of a scheduler, and return its folder.

    Args:
        name: See `scheduler_files`.
        out: A new or empty folder; by default `ganno-bench-NAME` in the current folder.

    Raises:
        ConfigError: The name is malformed, or the folder is not empty or cannot be written.
        PluginError: A scheduler of this name is registered.
    """
    content = scheduler_files(name)
    folder = out if out is not None else Path(_PREFIX + name)
    try:
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ConfigError(f"{folder}: is not empty; give a new or empty folder as --out")
        for path, text in content.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    return folder


def new_scheduler_file(name: str, out: Path | None = None) -> tuple[Path, str]:
    """Write a scheduler as a single file that needs no installation, and return its path and its class's name.

    Args:
        name: See `scheduler_files`; the file is the name with underscores, such as `my_decay.py`.
        out: Its folder, which is created if necessary; by default the current folder.

    Raises:
        ConfigError: The name is malformed, or the file exists or cannot be written.
        PluginError: A scheduler of this name is registered.
    """
    (text,) = [text for path, text in scheduler_files(name).items() if path.endswith("/scheduler.py")]
    file = (out or Path()) / f"{name.replace('-', '_')}.py"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        if not file.parent.is_dir():
            raise ConfigError(f"{file.parent}: is not a folder; give a folder as --out") from None
        raise ConfigError(f"{file}: exists; give another name, or another folder as --out") from None
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror}") from error
    return file, _class_name(name)


def _class_name(name: str) -> str:
    """Return the name of a scheduler's class: the words of its name in CamelCase."""
    return "".join(word.capitalize() for word in name.split("-"))


def _templates(folder: Traversable, prefix: str = "") -> list[tuple[str, str]]:
    """Return the output path and the text of each template."""
    found: list[tuple[str, str]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _templates(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".j2"):
            found.append((prefix + entry.name.removesuffix(".j2"), entry.read_text(encoding="utf-8")))
    return found
