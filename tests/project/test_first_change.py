"""The first change that CONTRIBUTING.md proposes works as it is written there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganno_bench.schedulers.registry import SCHEDULERS
from ganno_bench.testing.scheduler_contract import check_scheduler

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "ganno_bench" / "schedulers" / "closed_form.py"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_proposed_schedule_keeps_the_contract(tmp_path: Path) -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    # A file of its own in the place of the module, which the block is to be appended to.
    (tmp_path / "closed_form.py").write_text(MODULE.read_text(encoding="utf-8") + "\n\n" + block, encoding="utf-8")
    results = check_scheduler(f"{tmp_path / 'closed_form.py'}:Sqrt")
    assert [result for result in results if not result.ok] == []
    (line,) = re.findall(r'^ {8}"(\w+)": "ganno_bench.schedulers.closed_form:Sqrt",$', page, re.MULTILINE)
    assert line not in SCHEDULERS.entries()
