"""An error of a plugin's code names the line of the plugin that raised it."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from ganno_bench.core.errors import PluginError, one_line, plugin_line
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.scheduler_contract import check_scheduler

SOURCE = """
from dataclasses import dataclass
import torch
from ganno_bench.schedulers import ClosedForm

@dataclass(frozen=True)
class Mine(ClosedForm):
    '''Constant.'''
    def factor(self, update, total):
        RAISE

def divided(value):
    return value / 0
"""


def ref(tmp_path: Path, statement: str) -> str:
    (tmp_path / "divides.py").write_text(SOURCE.replace("RAISE", statement))
    return f"{tmp_path / 'divides.py'}:Mine"


def message(tmp_path: Path, statement: str) -> str:
    failed = [result for result in check_scheduler(ref(tmp_path, statement)) if not result.ok]
    return failed[0].message


def test_it_is_the_innermost_line_of_the_file(tmp_path: Path) -> None:
    assert message(tmp_path, "return divided(1)") == (
        "update 0: raised ZeroDivisionError: division by zero (divides.py:13)"
    )


def test_a_library_that_the_plugin_calls_does_not_count(tmp_path: Path) -> None:
    assert message(tmp_path, "return float(torch.nn.functional.softmax(None, 0))").endswith(" (divides.py:10)")
    assert message(tmp_path, "import json; json.loads('{')").endswith(" (divides.py:10)")


def test_a_file_beside_the_plugin_counts(tmp_path: Path) -> None:
    (tmp_path / "beside_lines.py").write_text("def half(value):\n    return value // 0\n")
    assert message(tmp_path, "from beside_lines import half; return half(1)").endswith(" (beside_lines.py:2)")


def test_it_is_said_of_loading_too(tmp_path: Path) -> None:
    file = tmp_path / "divides.py"
    file.write_text("import torch\n1 / 0\n")
    with pytest.raises(
        PluginError, match=r"cannot be imported: ZeroDivisionError: division by zero \(divides\.py:2\)$"
    ):
        load_scheduler(f"{file}:Mine")


@pytest.mark.parametrize("is_environment", [True, False], ids=["environment", "system"])
@pytest.mark.parametrize(("entry_point", "expected"), [("[ganno_bench.schedulers]", " (lined.py:2)"), ("[other]", "")])
def test_an_installed_package_counts_if_it_brings_plugins(
    entry_point: str, expected: str, is_environment: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_environment:  # site-packages are a folder of the standard library
        monkeypatch.setattr("ganno_bench.core.errors._STANDARD_LIBRARY", f"{tmp_path}{os.sep}")
    installed = tmp_path / "site-packages"
    about = installed / "lined-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Name: lined\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"{entry_point}\nlined = lined:Lined\n")
    (installed / "lined.py").write_text("def fail():\n    raise ValueError('no')\n")
    monkeypatch.syspath_prepend(installed)
    monkeypatch.delitem(importlib.sys.modules, "lined", raising=False)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no") as caught:
        importlib.import_module("lined").fail()
    error = caught.value
    assert error.__traceback__ is not None
    assert plugin_line(error.with_traceback(error.__traceback__.tb_next)) == expected


def test_an_error_without_a_plugin_has_no_line() -> None:
    assert one_line(ValueError("a\n b")) == "ValueError: a b"
