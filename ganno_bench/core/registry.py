"""Registries: a name -> where the code lies, resolved only when the code is wanted.

An entry comes from one of three places: the built-in table of the registry, an installed package's entry point, or a
file of the user's own (`./file.py:Name`). Nothing is registered by importing it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import ModuleType
from typing import Any

from ganno_bench.core.errors import PluginError, UnknownNameError, did_you_mean, one_line
from ganno_bench.core.plugin_file import import_file, source_hash

__all__ = ["Entry", "Origin", "Registry", "origins"]


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: What it is called on the command line and in suites.
        target: `module:attribute`, or `path.py:attribute`.
        source: `built-in`, the name and version of the package that brings it, or `file`.
        error: Why it cannot be used, or None. A broken plugin is listed, and fails only what names it.
        package: Distribution that brings it; None for what is built in.
    """

    name: str
    target: str
    source: str
    error: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Origin:
    """Whose code stands behind a name that is not built in; results may depend on it.

    Attributes:
        code: Hash of the module's source, and of what a file imports from beside it, 16 hexadecimal digits; empty where
            there is no source.
        package: Distribution that brings it; None for a file of the user's own.
        version: Of the package, or empty.
    """

    code: str
    package: str | None = None
    version: str = ""

    def __str__(self) -> str:
        """Return package, version and code in a line."""
        code = f"code {self.code}" if self.code else ""
        return ", ".join(filter(None, (f"{self.package} {self.version}" if self.package else "", code)))


class Registry:
    """Names of one kind of thing (schedulers, models, ...), and how to get at them."""

    def __init__(self, kind: str, builtin: Mapping[str, str], group: str | None = None) -> None:
        """Describe a registry.

        Args:
            kind: What is registered, in the singular, for messages: `scheduler`.
            builtin: Name -> `module:attribute`.
            group: Entry-point group in which installed packages bring more, or None.
        """
        self.kind = kind
        self._builtin = dict(builtin)
        self._group = group

    def entries(self) -> dict[str, Entry]:
        """Return every name with its entry, sorted; names that two sources claim carry an error."""
        found = {name: Entry(name, target, "built-in") for name, target in self._builtin.items()}
        for point in _installed(entry_points, self._group) if self._group else ():
            source = f"{point.dist.name} {point.dist.version}" if point.dist else "entry point"
            entry = Entry(point.name, point.value, source, package=point.dist.name if point.dist else None)
            other = found.get(point.name)
            if other is not None and other != entry:
                error = f"{self.kind} {point.name!r} is registered twice: by {other.source} and by {source}"
                entry = Entry(point.name, other.target, f"{other.source}, {source}", error, entry.package)
            found[point.name] = entry
        return dict(sorted(found.items()))

    def load(self, ref: str, *, files: bool = True) -> Any:
        """Return the object that `ref` names.

        Args:
            ref: A registered name, or `path/to/file.py:Name`.
            files: Whether files may be named, whose code is run; False for what strangers wrote.

        Raises:
            UnknownNameError: No such name; the message has the nearest one.
            PluginError: It is registered twice, or importing it failed.
        """
        module, attribute = self._module(ref, files=files)
        return self._attribute(ref, module, attribute)

    def origin(self, ref: str) -> Origin | None:
        """Return whose code stands behind a name, as it is now; None for what is built in, and for no such name.

        Raises:
            PluginError: It is registered twice, or importing it failed.
        """
        entry = self.entries().get(ref)
        if ".py:" not in ref and (entry is None or entry.source == "built-in"):
            return None
        file = self._module(ref)[0].__file__
        code = "" if file is None else source_hash(Path(file), beside=entry is None)
        if entry is None or entry.package is None:
            return Origin(code)
        return Origin(code, entry.package, version(entry.package))

    def _module(self, ref: str, *, files: bool = True) -> tuple[ModuleType, str]:
        """Return the module that has what `ref` names, and under which name; see `load`."""
        if ".py:" in ref or ref.endswith(".py"):
            if not files:
                raise UnknownNameError(
                    f"{self.kind} {ref!r} is a file; only what is installed can be named here"
                    + (f", by a package's entry point {self._group!r}" if self._group else "")
                )
            path, mark, attribute = ref.rpartition(":")
            if not path.endswith(".py") or not mark:
                raise UnknownNameError(f"{self.kind} {ref!r} is a file: say what to take from it, {ref}:NAME")
            return import_file(Path(path), self.kind), attribute
        entry = self.entries().get(ref)
        if entry is None:
            raise UnknownNameError(f"unknown {self.kind} {ref!r}{did_you_mean(ref, self.entries())}")
        if entry.error is not None:
            raise PluginError(entry.error)
        module, _, attribute = entry.target.partition(":")
        if module in sys.modules:
            return sys.modules[module], attribute
        from ganno_bench.core.process_state import undisturbed  # which imports torch

        try:
            with undisturbed(f"{self.kind} {ref!r} ({entry.source}): importing it", may_draw=True):
                return importlib.import_module(module), attribute
        except PluginError:
            sys.modules.pop(module, None)  # another attempt is to fail, too
            raise
        except Exception as error:
            raise PluginError(f"{self.kind} {ref!r} ({entry.source}) cannot be imported: {one_line(error)}") from error

    def _attribute(self, ref: str, module: ModuleType, attribute: str) -> Any:
        try:
            return getattr(module, attribute)
        except AttributeError:
            public = [name for name in vars(module) if not name.startswith("_")]
            raise PluginError(
                f"{self.kind} {ref!r}: {module.__file__} has no {attribute!r}{did_you_mean(attribute, public)}"
            ) from None


def origins(named: Iterable[tuple[Registry, str]]) -> dict[str, Origin]:
    """Return whose code stands behind names, `KIND NAME` -> origin, sorted; what is built in is left out.

    Raises:
        PluginError: See `Registry.origin`.
    """
    found = {f"{registry.kind} {name}": registry.origin(name) for registry, name in named}
    return {key: origin for key, origin in sorted(found.items()) if origin is not None}


@cache  # looking through everything that is installed takes milliseconds, and each network that is built asks
def _installed(find: Callable[..., Iterable[EntryPoint]], group: str) -> tuple[EntryPoint, ...]:
    unique = {(point.name, point.value): point for point in find(group=group)}
    return tuple(sorted(unique.values(), key=lambda point: (point.name, point.value)))
