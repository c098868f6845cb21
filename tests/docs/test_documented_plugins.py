"""What the guide to plugins brings keeps the contracts of its kinds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ganno_bench.plugins.kinds import KINDS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
MODULE, TESTS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CHECKS = re.findall(r"^ganno-bench check --kind (\w+) \"?\./things\.py:([^\"\n]+)", PAGE, re.MULTILINE)


def test_every_kind_is_shown() -> None:
    assert {"scheduler", *(kind for kind, _ in CHECKS)} == set(KINDS)
    assert all(f"`ganno_bench.{kind}s`" in PAGE for kind in KINDS)


@pytest.mark.parametrize(("kind", "name"), CHECKS)
def test_it_keeps_its_contract(kind: str, name: str, tmp_path: Path) -> None:
    (tmp_path / "things.py").write_text(MODULE)
    results = KINDS[kind].check(f"{tmp_path}/things.py:{name}")
    assert len(results) > 4
    assert [result for result in results if not result.ok] == []


@pytest.mark.slow(group="docs")
def test_its_tests_pass(tmp_path: Path) -> None:
    (tmp_path / "things.py").write_text(MODULE)
    (tmp_path / "test_things.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # Loading and leaving the process alone are results of their own for `check`, and no tests.
    n_checks = sum(len(KINDS[kind].check(f"{tmp_path}/things.py:{name}")) - 2 for kind, name in CHECKS)
    assert f"{n_checks} passed" in done.stdout
