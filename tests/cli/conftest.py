"""Commands are called in this process, as they would be in a shell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Call, Said

for neighbour in ("bench", "scoring", "leaderboard"):
    sys.path.insert(0, str(Path(__file__).parents[1] / neighbour))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
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
