"""Commands are called in this process, as they would be in a shell."""

from __future__ import annotations

import pytest

from tests.helpers.command_line import Call, caller


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    return caller(monkeypatch, capsys)
