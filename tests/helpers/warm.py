"""Documented commands run in processes of their own, which are forked from one that has imported what they need.

Importing it is most of the time of many of them.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["run"]

_TIMEOUT = 900
_IMPORTED = [
    "ganno_bench.api",
    "ganno_bench.cli.main",
    "matplotlib.pyplot",
    "datasets",
    "torch._dynamo",  # which the first gradient under vmap imports
    "pytorch_optimizer",
    "timm.scheduler",
    "transformers.optimization",
]


def run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, as in a shell with the project's environment.

    Args:
        command: Words: `ganno-bench ...`, `python -c CODE`, `python FILE ...`, or any other program.
        folder: Where.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path}
    if command[0] not in {"ganno-bench", "python"}:
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT)
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(_IMPORTED)
    with tempfile.TemporaryDirectory() as said:
        out, err = Path(said, "out"), Path(said, "err")
        process = server.Process(target=_forked, args=(list(command), folder, environment, out, err))
        process.start()
        process.join(_TIMEOUT)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, _TIMEOUT)
        texts = (out.read_text("utf-8"), err.read_text("utf-8"))
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _forked(command: list[str], folder: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if command[0] == "ganno-bench":
        from ganno_bench.cli.main import main

        sys.argv = command
        main()
    elif command[1] == "-c":
        sys.argv, sys.path[:0] = ["-c", *command[3:]], [""]
        exec(compile(command[2], "<documented>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv, sys.path[:0] = command[1:], [str(Path(command[1]).parent)]
        runpy.run_path(command[1], run_name="__main__")
