"""A file of the user's own as a module, together with the modules that it imports from beside it.

`import helper` in `./mine.py:Mine` finds `helper.py` in the same folder, as it does in a script. What is installed
comes first, so a file beside a plugin hides nothing from the rest of the process.
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
"""Folders that plugins import from; they stand at the end of `sys.path`."""
_imported: dict[str, tuple[Path, bytes]] = {}
"""Module that a plugin imported from beside it -> its file, and what stood in it."""


class _Uncached(SourceFileLoader):
    """Compiles what stands in a file: Python's cache takes a file of the same second and length for the same one."""

    def path_stats(self, path: Any) -> Mapping[str, Any]:
        raise OSError


def import_file(path: Path, kind: str) -> ModuleType:
    """Import a file; one that was edited, or whose neighbour was, is imported anew, any other only once.

    Args:
        path: The file.
        kind: What is looked for in it, for messages: `scheduler`.

    Raises:
        UnknownNameError: There is no such file.
        PluginError: It cannot be read or imported, changes what belongs to the whole process, or a neighbour's name is
            taken by that of another plugin.
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
    sys.modules[name] = module  # dataclasses look their module up while the class is made
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
    """Return a hash of what stands in files: 16 hexadecimal digits. Neither folders nor the files' names matter.

    Args:
        files: The files, in order; none counts twice.
        beside: Whether what they import from beside them counts, too.
    """
    every = [other for file in files for other in (source_files(file) if beside else (file,))]
    return hashlib.sha256(_content(tuple(dict.fromkeys(every)))).hexdigest()[:16]


def source_files(file: Path) -> tuple[Path, ...]:
    """Return a file, then the files beside it that it imports, directly or through others, sorted.

    Imports are read from the source, wherever in it they stand. A name that is made up while the code runs is not
    seen. Files of which the process would import another one of that name, since that is installed, are left out.
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
    """Forget which names plugins' neighbours have taken, and no longer look in their folders."""
    sys.path[:] = [place for place in sys.path if place not in _folders]
    _folders.clear()
    _imported.clear()


def _content(files: Sequence[Path]) -> bytes:
    return b"\0".join(path.read_bytes() for path in files)


def _imports(file: Path, root: Path) -> Iterator[Path]:
    """Yield the files below `root` that a file imports; none of what is no Python."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # which importing it will say
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
    """Return the module that `import_module("...")` or `__import__("...")` names; None for any other call."""
    function = call.func
    called = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    first = call.args[0] if call.args else None
    if called in ("import_module", "__import__") and isinstance(first, ast.Constant) and isinstance(first.value, str):
        return first.value
    return None


def _modules(folder: Path, parts: Sequence[str], *, absolute: bool = True) -> Iterator[Path]:
    """Yield the files that are run to import a dotted name: the packages on the way, and the module."""
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
    """Return whether a top-level name is found before the folder of a plugin is looked at, or not in it."""
    if not (folder / f"{name}.py").is_file() and not (folder / name).is_dir():
        return True
    if name in sys.stdlib_module_names:
        return True
    if name in {module.partition(".")[0] for module in _imported}:
        return False
    spec = PathFinder.find_spec(name, [place for place in sys.path if place not in _folders])
    return spec is not None and spec.origin is not None and not Path(spec.origin).is_relative_to(folder)


def _make_importable(plugin: Path, kind: str, neighbours: Sequence[Path]) -> None:
    """Put the folder of a plugin on the path; where a neighbour was edited, let all of them be imported anew.

    Raises:
        PluginError: A neighbour's name is that of another plugin's neighbour.
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
                f"{kind} file {str(plugin)!r} imports {name!r} from beside it, a name under which {str(other)!r} was "
                "imported; rename one of them"
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
