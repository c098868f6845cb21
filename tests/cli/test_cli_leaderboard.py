"""`ganno-bench leaderboard build`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.command_line import Call
from tests.helpers.site_cases import make_boards


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    boards = make_boards()[1:]
    monkeypatch.setattr("ganno_bench.leaderboard.build.committed_boards", lambda folder, root: (boards, []))


@pytest.mark.slow(group="pages")
@pytest.mark.usefixtures("made_up")
def test_it_is_built_checked_and_found_stale(call: Call, tmp_path: Path) -> None:
    folder = str(tmp_path / "board")
    assert call("leaderboard", "build", "--folder", folder, "--check", "--quick").code == 1  # nothing is there yet
    built = call("leaderboard", "build", "--folder", folder)
    assert built.code == 0
    assert f"{folder}: " in built.out
    fresh = call("leaderboard", "build", "--folder", folder, "--check", "--quick")
    assert (fresh.code, fresh.out) == (0, f"{folder}: up to date\n")
    (tmp_path / "board" / "README.md").write_text("by hand")
    stale = call("leaderboard", "build", "--folder", folder, "--check", "--quick")
    assert stale.code == 1
    assert stale.out.splitlines()[0] == "stale    README.md: differs"
    assert "1 stale file; run: ganno-bench leaderboard build" in stale.out


def test_without_baselines_nothing_is_built_and_nothing_lost(call: Call, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("there")
    said = call("leaderboard", "build", "--folder", str(tmp_path), "--baselines", str(tmp_path / "none"))
    assert said.code == 2
    assert said.err == f"error: {tmp_path / 'none'}: has no committed baselines; the leaderboard needs them\n"
    assert (tmp_path / "site" / "index.html").exists()
