"""Compiled functions on tensors: lowered once by Inductor, kept as AOTInductor packages, loaded in milliseconds.

A package is named by a hash of the recorded operations, of the layout of all tensors, and of what the compiler depends
on: versions, processor, number of threads. Packages are machine code. So they are taken only from a folder that belongs
to the user and that nobody else can write to.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import torch
from torch import Tensor, fx

from ganno_bench.core.errors import UserError, one_line
from ganno_bench.core.processor import processor_features
from ganno_bench.core.user_cache import user_cache
from ganno_bench.training.convolutions import CONVOLUTIONS
from ganno_bench.training.products import PRODUCTS
from ganno_bench.training.recording import blank, trace

__all__ = [
    "MAX_BYTES",
    "CompilationError",
    "MakePackage",
    "Package",
    "compiler",
    "has_packages",
    "lifted",
    "package",
    "packages_folder",
    "recorded",
]

MAX_BYTES = 2**30
"""Largest size of all packages; above it, the least recently used ones are deleted."""

# Inductor's choices that must not depend on a measurement, so that the same operations become the same code again.
_OPTIONS: Mapping[str, Any] = {
    "max_autotune": False,
    "max_autotune_gemm": False,
    "max_autotune_pointwise": False,
    "layout_optimization": False,  # channels come last otherwise, which makes residual networks half as fast
}
_VARIABLES = ("TORCHINDUCTOR_", "AOT_INDUCTOR_", "TORCH_COMPILE_", "CXX", "CXXFLAGS", "CPATH", "LDFLAGS")


class CompilationError(UserError):
    """Code cannot be compiled on this machine, or it is not compiled yet."""


@dataclass(frozen=True)
class Package:
    """A compiled function.

    Attributes:
        run: Takes a list of tensors, with the layouts that were compiled, and returns a list of tensors. It may change
            its arguments in place, as the function does.
        constants: Tensors that the function uses besides its arguments: the last entries of the list.
        compiled: Whether it was compiled now, in place of loaded.
    """

    run: Callable[[list[Tensor]], list[Tensor]]
    constants: tuple[Tensor, ...]
    compiled: bool

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Call it with the function's own arguments."""
        return self.run([*tensors, *self.constants])


class MakePackage(Protocol):
    """What `package` is; tests have one that does not compile."""

    def __call__(  # noqa: D102
        self, function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], *, compiling: bool
    ) -> Package: ...


def package(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], *, compiling: bool = True) -> Package:
    """Return a compiled function.

    Args:
        function: Takes tensors and returns tensors; it may change them in place. It must not branch on their values.
        inputs: Tensors with the shapes, strides, dtypes and device of the arguments; they are not changed.
        compiling: Whether to compile it if there is no package yet.

    Raises:
        CompilationError: It cannot be compiled or loaded, or there is no package and `compiling` is false.
    """
    if (found := compiler()) is None:
        raise CompilationError("there is no C++ compiler; install g++ or clang++, or name one in the variable CXX")
    try:
        graph, constants = recorded(function, inputs)
    except Exception as error:  # a model may raise any error
        raise CompilationError(f"its operations cannot be recorded: {one_line(error)}") from error
    arguments = [*inputs, *constants]
    key = _key(graph, arguments, found)
    folder = packages_folder()
    file = folder / f"{key}.pt2"
    was_there = file.exists()
    if not was_there:
        if not compiling:
            raise CompilationError("is not compiled yet")
        _compile(graph, arguments, file)
    try:
        run = _load(file)
        os.utime(file)  # mark it as most recently used
    except (RuntimeError, OSError) as error:
        if not was_there:
            raise CompilationError(f"compiled code cannot be loaded: {one_line(error)}") from error
        file.unlink(missing_ok=True)  # damaged
        return package(function, inputs, compiling=compiling)
    return Package(run, constants, compiled=not was_there)


@cache
def compiler() -> str | None:
    """Return path and version of the C++ compiler that Inductor calls; None without one, and on Windows."""
    if sys.platform == "win32":
        return None  # Inductor needs an environment there that this module does not set up
    path = shutil.which(os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++"))
    if path is None:
        return None
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{path}: {done.stdout.partition(os.linesep)[0]}"


def has_packages() -> bool:
    """Whether something is compiled already."""
    return any(packages_folder().glob("*.pt2"))


def packages_folder() -> Path:
    """Return the folder of the packages: one in the user's cache folder, or one for this process alone.

    The latter if there is no cache, or others can write to it.
    """
    folder = user_cache("compiled", mode=0o700)
    if folder is None:
        return _own_folder()
    for path in (folder, folder.parent):
        if (fault := _fault(path)) is not None:
            _warn_once(f"{path}: {fault}; compiled code is kept for this process only")
            return _own_folder()
    return folder


def _fault(path: Path) -> str | None:
    """Return why code in a folder cannot be trusted, or None."""
    found = path.stat()
    if found.st_uid != os.getuid():
        return "belongs to another user"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others can write to it"
    return None if os.access(path, os.W_OK) else "is read-only"


@cache
def _own_folder() -> Path:
    """Return a new folder, which is removed when the process ends."""
    holder = tempfile.TemporaryDirectory(prefix="ganno-bench-", ignore_cleanup_errors=True)
    _kept.append(holder)
    return Path(holder.name)


_kept: list[tempfile.TemporaryDirectory[str]] = []


@cache
def _warn_once(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def recorded(
    function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]
) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """Return the graph to compile, and the constants that are its last inputs.

    Args:
        function: Takes tensors and returns tensors.
        inputs: Tensors with the shapes, strides, dtypes and device of the arguments; they are not changed.
    """
    on_cpu = inputs[0].device.type == "cpu"
    return lifted(trace(function, inputs, {**CONVOLUTIONS, **PRODUCTS} if on_cpu else {}))


def lifted(graph_module: fx.GraphModule) -> tuple[fx.GraphModule, tuple[Tensor, ...]]:
    """Make the constants of a graph its last inputs, so that a package does not depend on their values."""
    graph = graph_module.graph
    constants = []
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.nodes):
        if node.op == "get_attr":
            constants.append(getattr(graph_module, node.target))
            with graph.inserting_after(last):
                # A name that no other node has: FX assigns the arguments one after another to the names of their nodes,
                # so an argument with the name of another one would overwrite it.
                last = graph.placeholder(f"lifted_{len(constants)}")
            node.replace_all_uses_with(last)
            graph.erase_node(node)
    return fx.GraphModule({}, graph), tuple(constants)


def _key(graph_module: fx.GraphModule, arguments: Sequence[Tensor], found: str) -> str:
    layouts = [(str(a.device), str(a.dtype), [*a.shape], [*a.stride()]) for a in arguments]
    environment = {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    devices = {a.device for a in arguments if a.device.type == "cuda"}
    machine = [torch.cuda.get_device_name(device) for device in sorted(devices, key=str)] or processor_features()
    parts = [str(graph_module.graph), layouts, torch.__version__, found, machine, torch.get_num_threads(), environment]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _compile(graph_module: fx.GraphModule, arguments: Sequence[Tensor], file: Path) -> None:
    """Write a package atomically: a concurrent reader finds all of it or nothing."""
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix="compiling-", ignore_cleanup_errors=True) as work:
            unfinished = Path(work) / file.name
            with _compiler_in(work) as options:
                # Views of one matrix become tensors of their own: if Inductor knew that they share memory, it would
                # copy the whole matrix.
                separate = tuple(blank(argument) for argument in arguments)
                exported = torch.export.export(graph_module, separate, strict=False)
                torch._inductor.aoti_compile_and_package(
                    exported, package_path=str(unfinished), inductor_configs=options
                )
            os.replace(unfinished, file)
            _trim(file.parent, file)
    except Exception as error:  # Inductor raises errors of many kinds
        raise CompilationError(f"code cannot be compiled: {one_line(error)}") from error


@contextmanager
def _compiler_in(work: str) -> Iterator[dict[str, Any]]:
    """Let Inductor work in a folder, without messages about GPUs; yield its options."""
    logger = logging.getLogger("torch.utils.cpp_extension")
    level, mask = logger.level, os.umask(0o077)
    logger.setLevel(logging.ERROR)
    try:
        with mock.patch.dict(os.environ, {"TORCHINDUCTOR_CACHE_DIR": work}), torch.no_grad():
            yield {**_OPTIONS, "cpp_cache_precompile_headers": _has_safe_headers()}
    finally:
        os.umask(mask)
        logger.setLevel(level)


def _has_safe_headers() -> bool:
    """Whether Inductor can keep precompiled headers, which halve the time, in its own folder and nobody else's.

    It keeps them in the folder for temporary files, whatever the variable TORCHINDUCTOR_CACHE_DIR says.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    folder = Path(default_cache_dir())
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return not folder.is_symlink() and _fault(folder) is None
    except OSError:
        return False


def _load(file: Path) -> Callable[[list[Tensor]], list[Tensor]]:
    # What `torch._inductor.aoti_load_package` does, without the second that importing Inductor takes. The boxed form
    # frees each argument as soon as it is read.
    loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", True, 1, -1)
    run: Callable[[list[Tensor]], list[Tensor]] = loader.boxed_run
    return run


def _trim(folder: Path, newest: Path) -> None:
    """Delete the least recently used packages until the rest is small enough."""
    files = []
    for path in folder.glob("*.pt2"):
        with suppress(FileNotFoundError):  # another process may delete packages, too
            found = path.stat()
            files.append((found.st_mtime_ns, found.st_size, path))
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > MAX_BYTES and path != newest:
            path.unlink(missing_ok=True)
