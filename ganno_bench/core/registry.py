"""Registries: they map names to code, and import the code only when it is used.

A name comes from one of three places: the registry's built-in table, an entry point of an installed package, or a
user's file (`./file.py:Name`). Importing a module registers nothing.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from ganno_bench.core.errors import PluginError, UnknownNameError, did_you_mean, one_line
from ganno_bench.core.plugin_file import import_file, source_hash

__all__ = ["Entry", "Origin", "Registry", "origins"]


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        name: Name on the command line and in suites.
        target: `module:attribute`, or `path.py:attribute`.
        source: `built-in`, or the name and version of the package that provides it.
        error: Why it cannot be used, or None. A broken plugin stays in the list and fails only if it is used.
        package: Distribution that provides it; None if it is built in.
    """

    name: str
    target: str
    source: str
    error: str | None = None
    package: str | None = None


@dataclass(frozen=True)
class Origin:
    """Origin of the code behind a name that is not built in. Results may depend on this code.

    Attributes:
        code: Hash of the module's source and, for a user's file, of the files that it imports from its folder; 16
            hexadecimal digits, empty if there is no source.
        package: Distribution that provides it; None for a user's file.
        version: Version of the package, or empty.
    """

    code: str
    package: str | None = None
    version: str = ""

    def __str__(self) -> str:
        """Return package, version and code as one line."""
        code = f"code {self.code}" if self.code else ""
        return ", ".join(filter(None, (f"{self.package} {self.version}" if self.package else "", code)))


class Registry:
    """The names of one kind of object, such as schedulers or models, and the code behind them."""

    def __init__(
        self,
        kind: str,
        builtin: Mapping[str, str],
        group: str | None = None,
        *,
        prefixes: Sequence[str] = (),
        accepts: Callable[[Any], bool] = lambda value: True,
    ) -> None:
        """Create a registry.

        Args:
            kind: Kind of the objects, in the singular, for messages: `scheduler`.
            builtin: Name -> `module:attribute`.
            group: Entry-point group of installed packages that provide more, or None.
            prefixes: Beginnings of references that the caller resolves, such as `torch:`; for messages.
            accepts: Whether a value is of this kind; messages suggest only such names of a file.
        """
        self.kind = kind
        self._builtin = dict(builtin)
        self._group = group
        self._prefixes = tuple(prefixes)
        self._accepts = accepts

    def entries(self) -> dict[str, Entry]:
        """Return every name with its entry, sorted. A name from two sources has an entry with an error."""
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
            files: Whether `ref` may be a file, whose code then runs; False for references that strangers wrote.

        Raises:
            UnknownNameError: There is no such name; the message has the nearest one.
            PluginError: The name is registered twice, or the import failed.
        """
        module, attribute = self._module(ref, files=files)
        return self._attribute(ref, module, attribute)

    def origin(self, ref: str) -> Origin | None:
        """Return the origin of the code behind a name, as it is now; None for built-in and unknown names.

        Raises:
            PluginError: The name is registered twice, or the import failed.
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
        """Return the module and the attribute that `ref` names; see `load`."""
        if ".py:" in ref or ref.endswith(".py"):
            if not files:
                raise UnknownNameError(
                    f"{self.kind} {ref!r} is a file; only installed {self.kind}s can be used here"
                    + (f" (entry points of group {self._group!r})" if self._group else "")
                )
            path, mark, attribute = ref.rpartition(":")
            if not path.endswith(".py") or not mark:
                raise UnknownNameError(f"{self.kind} {ref!r} is a file; name the {self.kind} in it: {ref}:NAME")
            return import_file(Path(path), self.kind), attribute
        entry = self.entries().get(ref)
        if entry is None:
            file = f"{ref.replace('-', '_')}.py"
            if files and Path(file).is_file():
                raise UnknownNameError(
                    f"unknown {self.kind} {ref!r}; to use the file {file}, name the {self.kind} in it: ./{file}:NAME"
                )
            raise UnknownNameError(f"unknown {self.kind} {ref!r}{self._nearest(ref)}")
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
            sys.modules.pop(module, None)  # so that another attempt fails, too
            raise
        except Exception as error:
            raise PluginError(f"{self.kind} {ref!r} ({entry.source}) cannot be imported: {one_line(error)}") from error

    def _attribute(self, ref: str, module: ModuleType, attribute: str) -> Any:
        try:
            return getattr(module, attribute)
        except AttributeError:
            nearest = did_you_mean(attribute, self._defined_in(module)) or f"; it defines no {self.kind}"
            raise PluginError(f"{self.kind} {ref!r}: {module.__file__} has no {attribute!r}{nearest}") from None

    def _nearest(self, ref: str) -> str:
        """Return the end of a message about an unknown reference: the nearest name or prefix, else all of them."""
        if ":" not in ref or not self._prefixes:
            return did_you_mean(ref, self.entries())
        prefix = ref.partition(":")[0] + ":"
        return f": unknown prefix {prefix!r}{did_you_mean(prefix, ['FILE.py:', *self._prefixes])}"

    def _defined_in(self, module: ModuleType) -> list[str]:
        """Return the public names of a module for objects of this kind, without classes and functions of others."""

        def is_own(value: Any) -> bool:
            if not isinstance(value, type | FunctionType):
                return not isinstance(value, ModuleType)
            return f"{value.__module__}.".startswith(f"{module.__name__}.")

        named = vars(module).items()
        return [name for name, value in named if not name.startswith("_") and is_own(value) and self._accepts(value)]


def origins(named: Iterable[tuple[Registry, str]]) -> dict[str, Origin]:
    """Return the origins of the code behind names, `KIND NAME` -> origin, sorted; built-in names are left out.

    Raises:
        PluginError: See `Registry.origin`.
    """
    found = {f"{registry.kind} {name}": registry.origin(name) for registry, name in named}
    return {key: origin for key, origin in sorted(found.items()) if origin is not None}


@cache  # a search of all installed packages takes milliseconds, and every network that is built needs one
def _installed(find: Callable[..., Iterable[EntryPoint]], group: str) -> tuple[EntryPoint, ...]:
    unique = {(point.name, point.value): point for point in find(group=group)}
    return tuple(sorted(unique.values(), key=lambda point: (point.name, point.value)))
