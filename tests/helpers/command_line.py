"""What calling a command gives."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

__all__ = ["Call", "Said", "caller"]


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Call = Callable[..., Said]


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return what calls a command in this process, as it would be in a shell."""
    from ganno_bench.cli.main import main

    def run(*words: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["ganno-bench", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run
