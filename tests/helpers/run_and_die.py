"""Runs a suite in child processes that die on request. Reads one JSON object a line and answers each with one.

Importing torch takes seconds, so it is imported once, and a child is forked for each run. `write` kills a child in its
n-th write of settings, records or studies (of one `file`, or of any), of which `share` reaches the disk; `step` kills
it from outside when it has made so many steps of training.

    {"suite": "tiny.toml", "out": "out", "file": "records.jsonl", "write": 2, "share": 0.5}
    {"signal": 9, "exit": 0, "started": 2}
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._dynamo
from torch.func import vmap

from ganno_bench.bench.progress import Progress
from ganno_bench.tuning.study import Journal
from tests.helpers.tiny_suite import datasets_read_once, run_tiny


class TornWrite:
    """Stands in for `os.fsync`: the n-th time, what was written is cut, and the process is gone."""

    def __init__(self, file: str, n: int, share: float) -> None:
        self.file = file
        self.left = n
        self.share = share
        self.opened = ""
        self.size_before = 0
        self.fsync = os.fsync
        sys.addaudithook(self._opened)

    def __call__(self, fd: int) -> None:
        self.left -= self.opened.endswith(self.file)
        if self.left == 0:
            size = os.fstat(fd).st_size
            os.ftruncate(fd, self.size_before + int(self.share * (size - self.size_before)))
            os.kill(os.getpid(), signal.SIGKILL)
        self.fsync(fd)

    def _opened(self, event: str, args: tuple[Any, ...]) -> None:
        # A file is opened, written, synced and closed before the next one is opened.
        if event == "open" and isinstance(args[1], str) and set(args[1]) & {"a", "w"}:
            self.opened = str(args[0])
            appended = "a" in args[1] and os.path.exists(self.opened)
            self.size_before = os.path.getsize(self.opened) if appended else 0


def synced(append_logs: Callable[[Journal, list[dict[str, Any]]], None]) -> Callable[..., None]:
    """The studies' journal is not synced, but may be cut like any other file."""

    def append_and_sync(journal: Journal, logs: list[dict[str, Any]]) -> None:
        append_logs(journal, logs)
        with journal.file.open("rb+") as file:
            os.fsync(file.fileno())

    return append_and_sync


class Counted(Progress):
    """Counts the populations in a file, which outlives the process; at a step waits to be killed."""

    def __init__(self, file: Path, step: int, reached: int) -> None:
        self.file = file
        self.left = step
        self.reached = reached

    def job_started(self, job: Any, n_trials: int) -> None:
        with self.file.open("a") as file:
            file.write(".")

    def advanced(self, cost: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.write(self.reached, b".")
            while True:
                signal.pause()


class LoadedError(Exception):
    """Everything is there, and nothing was trained."""


class Stop(Progress):
    def started(self, title: str, total_cost: float, done_cost: float) -> None:
        raise LoadedError


def child(request: dict[str, Any], count: Path, reached: int) -> None:
    if "write" in request:
        mock.patch("os.fsync", TornWrite(request.get("file", ""), request["write"], request["share"])).start()
        mock.patch.object(Journal, "append_logs", synced(Journal.append_logs)).start()
    run_tiny(Path(request["suite"]), Path(request["out"]), Counted(count, request.get("step", 0), reached))


def answer(request: dict[str, Any]) -> dict[str, int]:
    count = Path(tempfile.mkstemp()[1])
    arrived, reached = os.pipe()
    process = os.fork()
    if process == 0:
        status = 1
        try:
            child(request, count, reached)
            status = 0
        finally:
            os._exit(status)
    os.close(reached)
    if os.read(arrived, 1):  # nothing, where the process ended before its step
        os.kill(process, signal.SIGKILL)
    os.close(arrived)
    status = os.waitpid(process, 0)[1]
    started = count.stat().st_size
    count.unlink()
    return {"signal": os.WTERMSIG(status), "exit": os.WEXITSTATUS(status), "started": started}


def main() -> None:
    with datasets_read_once(), tempfile.TemporaryDirectory() as folder:
        # What is imported late and the data that is read come with the fork. Autograd must not have run before one.
        vmap(torch.sin)(torch.ones(1))
        with suppress(LoadedError):
            run_tiny(Path(sys.argv[1]), Path(folder), Stop())
        for line in sys.stdin:
            sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
    os._exit(0)  # to take down all that was imported takes seconds
