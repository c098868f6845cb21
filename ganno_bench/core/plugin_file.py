"""Import a user's file as a module, together with the modules that it imports from its folder.

`import helper` in `./mine.py:Mine` finds `helper.py` in the same folder, as in a script. Installed modules have
precedence, so a neighbour of a plugin hides no module from the rest of the process.

A *neighbour* is a file in or below the folder of a plugin that the plugin imports.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from ganno_bench.core.errors import PluginError, UnknownNameError, one_line

__all__ = ["forget", "import_file", "source_files", "source_hash"]

_folders: list[str] = []
"""Folders that plugins import from; they are the last entries of `sys.path`."""
_imported: dict[str, tuple[Path, bytes]] = {}
"""Name of an imported neighbour -> its file, and the content of the file at that time."""


class _Uncached(SourceFileLoader):
    """A loader without Python's bytecode cache, which misses an edit that keeps a file's second and length."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError


def import_file(path: Path, kind: str) -> ModuleType:
    """Import a file. It is imported again only after it or a neighbour was edited.

    Args:
        path: The file.
        kind: Kind of the object that the caller will take from it, for messages: `scheduler`.

    Raises:
        UnknownNameError: There is no such file.
        PluginError: The file cannot be read or imported, it changes settings of the whole process, or a neighbour has
            the same module name as a neighbour of another plugin.
    """
    resolved = path.expanduser().resolve()
    if not resolved.is_file():
        raise UnknownNameError(f"{kind} file {str(path)!r} does not exist")
    try:
        files = source_files(resolved)
        digest = hashlib.sha256(str(resolved).encode() + b"\0" + _content(files)).hexdigest()[:16]
    except OSError as error:
        raise PluginError(f"{kind} file {str(path)!r} cannot be read: {one_line(error)}") from error
    from ganno_bench.core.process_state import undisturbed  # which imports torch

    name = f"ganno_bench_plugin_{resolved.stem}_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_loader(name, _Uncached(name, str(resolved)))
    assert spec is not None
    assert spec.loader is not None
    _make_importable(path, kind, files[1:])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks up its module while Python creates the class
    try:
        with undisturbed(f"{kind} file {str(path)!r}: importing it", may_draw=True):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, PluginError | KeyboardInterrupt):
            raise
        raise PluginError(f"{kind} file {str(path)!r} cannot be imported: {one_line(error)}") from error
    return module


def source_hash(*files: Path, beside: bool = True) -> str:
    """Return a hash of the content of files: 16 hexadecimal digits. Folders and file names have no effect.

    Args:
        files: The files, in order; repeated files count once.
        beside: Whether to include the neighbours that they import.
    """
    every = [other for file in files for other in (source_files(file) if beside else (file,))]
    return hashlib.sha256(_content(tuple(dict.fromkeys(every)))).hexdigest()[:16]


def source_files(file: Path) -> tuple[Path, ...]:
    """Return a file, then its neighbours, sorted: the files in its folder that it imports, directly or indirectly.

    Imports are found in the source, at any level. A module name that is computed at run time is not found. A file with
    the name of an installed module is left out, because Python imports the installed one.
    """
    found: set[Path] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += _imports(current, file.parent)
    return (file, *sorted(found - {file}))


def forget() -> None:
    """Forget all neighbours of plugins and remove their folders from `sys.path`."""
    sys.path[:] = [place for place in sys.path if place not in _folders]
    _folders.clear()
    _imported.clear()


def _content(files: Sequence[Path]) -> bytes:
    return b"\0".join(path.read_bytes() for path in files)


def _imports(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that a file imports; nothing for a file that is not valid Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # the import reports it
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _modules(root, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            above = [root, *file.parents]
            parts = node.module.split(".") if node.module else []
            if node.level < len(above) and (base := above[node.level]).is_relative_to(root):
                for alias in node.names:
                    yield from _modules(base, [*parts, alias.name], absolute=node.level == 0)
        elif isinstance(node, ast.Call) and (name := _imported_name(node)) is not None:
            yield from _modules(root, name.split("."))


def _imported_name(call: ast.Call) -> str | None:
    """Return the module name in `import_module("...")` or `__import__("...")`; None for any other call."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = call.args[0] if call.args else None
    if called in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def _modules(folder: Path, parts: Sequence[str], *, absolute: bool = True) -> Iterator[Path]:
    """Yield the files that Python runs to import a dotted name: the packages above the module, then the module."""
    if absolute and _is_installed(parts[0], folder):
        return
    for part in parts:
        package, module = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            yield package
        elif module.is_file():
            yield module
            return
        elif not (folder / part).is_dir():
            return
        folder = folder / part


def _is_installed(name: str, folder: Path) -> bool:
    """Return whether Python finds a top-level name before it searches a plugin's folder, or the folder lacks it."""
    if not (folder / f"{name}.py").is_file() and not (folder / name).is_dir():
        return True
    if name in sys.stdlib_module_names:
        return True
    if name in {module.partition(".")[0] for module in _imported}:
        return False
    spec = PathFinder.find_spec(name, [place for place in sys.path if place not in _folders])
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(folder)


def _make_importable(plugin: Path, kind: str, neighbours: Sequence[Path]) -> None:
    """Add a plugin's folder to `sys.path`. If a neighbour was edited, make Python import all neighbours again.

    Raises:
        PluginError: A neighbour has the same module name as a neighbour of another plugin.
    """
    folder = plugin.expanduser().resolve().parent
    found = {
        ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): (file, file.read_bytes())
        for file in neighbours
    }
    for name, (file, _) in found.items():
        other = _imported.get(name, (file, b""))[0]
        if other != file:
            raise PluginError(
                f"{kind} file {str(plugin)!r} imports {name!r} from its folder, but {str(other)!r} was already "
                "imported under this name; rename one of the two files"
            )
    if found and str(folder) not in sys.path:
        _folders.append(str(folder))
        sys.path.append(str(folder))
    if any(_imported.get(name, here) != here for name, here in found.items()):
        packages = {name.partition(".")[0] for name in found}
        for module in [module for module in sys.modules if module.partition(".")[0] in packages]:
            del sys.modules[module]
        for file in neighbours:
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
    _imported.update(found)
    importlib.invalidate_caches()
