"""Commands are called in this process, as they would be in a shell."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command_line import Call, caller

for neighbour in ("bench", "scoring", "leaderboard", "marl"):
    sys.path.insert(0, str(Path(__file__).parents[1] / neighbour))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)
