"""Committed results stay valid when the code that made them is moved or reworded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOVED = {"closed_form": "curves", "policy": "frozen"}
"""Module of schedulers -> what it is called after the move."""


@pytest.mark.slow(group="pages")
def test_baselines_are_valid_after_a_move(tmp_path: Path) -> None:
    for name in ("ganno_bench", "suites", "baselines", "policies"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    schedulers = tmp_path / "ganno_bench" / "schedulers"
    for old, new in MOVED.items():
        text = (schedulers / f"{old}.py").read_text("utf-8")
        (schedulers / f"{new}.py").write_text(f"# This module has another name, and another comment.\n{text}", "utf-8")
        (schedulers / f"{old}.py").unlink()
    for file in (tmp_path / "ganno_bench").rglob("*.py"):
        text = file.read_text("utf-8")
        for old, new in MOVED.items():
            text = text.replace(f"ganno_bench.schedulers.{old}", f"ganno_bench.schedulers.{new}")
        file.write_text(text, "utf-8")
    command = [sys.executable, "-m", "ganno_bench", "verify", "baselines", "--sample", "0"]
    # Environment variables that name other folders must not count.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GANNO_BENCH_")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout == f"{tmp_path}/baselines: 26 entries, 0 runs trained again, 0 faults\n"
