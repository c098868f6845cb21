"""The plugins in the guide to plugins keep the contracts of their kinds and do what the guide says."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ganno_bench.plugins.kinds import KINDS
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.signals import RunInfo, Signals
from tests.helpers.plugin_guide import FILES, PAGE
from tests.helpers.warm import run

CHECKS = re.findall(r"^ganno-bench check --kind (\w+) \"?\./(things\.py:[^\"\n]+)", PAGE, re.MULTILINE)
SCHEDULERS = re.findall(r"^ganno-bench check \./(\w+\.py:\w+)$", PAGE, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the guide."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_every_python_block_names_its_file() -> None:
    assert list(FILES) == ["my_decay.py", "cut_on_rise.py", "things.py", "test_things.py"]
    assert PAGE.count("```python\n") == len(FILES)


def test_every_kind_is_shown() -> None:
    assert {"scheduler", *(kind for kind, _ in CHECKS)} == set(KINDS)
    assert all(f"`ganno_bench.{kind}s`" in PAGE for kind in KINDS)
    assert SCHEDULERS == ["my_decay.py:MyDecay", "cut_on_rise.py:CutOnRise"]


@pytest.mark.parametrize(("kind", "name"), [*(("scheduler", name) for name in SCHEDULERS), *CHECKS])
def test_it_keeps_its_contract(kind: str, name: str, folder: Path) -> None:
    results = KINDS[kind].check(f"{folder}/{name}")
    assert len(results) > 4
    assert [result for result in results if not result.ok] == []


def test_the_minimal_plugin_falls_to_its_fraction(folder: Path) -> None:
    scheduler = load_scheduler(f"{folder}/my_decay.py:MyDecay").build({"final": 0.2})
    factors = [scheduler.factor(update, 4) for update in range(5)]  # type: ignore[attr-defined]
    assert factors == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])
    assert len([line for line in FILES["my_decay.py"].splitlines() if line.strip()]) <= 15


def test_the_reactive_plugin_cuts_only_the_run_whose_loss_has_risen(folder: Path) -> None:
    scheduler = load_scheduler(f"{folder}/cut_on_rise.py:CutOnRise").build({"cut": 0.5})
    base = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    state = scheduler.init(RunInfo(("a", "b"), (3, 3), base, torch.zeros_like(base), 40, "sgd"))
    rates = []
    for decision, losses in enumerate(([torch.nan] * 3, [1.0, 1.0, 1.0], [0.9, 1.1, torch.nan], [0.9, 1.2, torch.nan])):
        seen = Signals(10 * decision, 40, torch.zeros(3).bool(), torch.zeros(3, 2), torch.tensor(losses))
        controls, state = scheduler.step(state, seen)
        assert torch.equal(controls.lr[:, 0], controls.lr[:, 1])
        rates.append(controls.lr[:, 0].tolist())
    assert rates == [[1.0, 2.0, 4.0], [1.0, 2.0, 4.0], [1.0, 1.0, 4.0], [1.0, 0.5, 4.0]]


def test_the_reactive_plugin_is_the_example() -> None:
    def code(text: str) -> str:
        (found,) = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
        for node in ast.walk(found):
            if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
                del node.body[0]
        return ast.dump(found)

    example = Path(__file__).resolve().parents[2] / "examples" / "cut_on_rise.py"
    assert code(FILES["cut_on_rise.py"]) == code(example.read_text(encoding="utf-8"))


@pytest.mark.slow(group="long")
def test_the_minimal_plugin_is_ranked(folder: Path) -> None:
    (command,) = re.findall(r"^ganno-bench run quickstart --scheduler \./my_decay\.py.*$", PAGE, re.MULTILINE)
    done = run(shlex.split(command), folder)
    assert done.returncode == 0, done.stderr
    for entry in ("my-decay", r"cosine\*"):
        assert re.search(rf"^\s*\d+=?\s+{entry}\s", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow(group="docs")
def test_its_tests_pass(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    # `check` has two more results, which are no tests: it loads, and it leaves the process alone.
    n_checks = sum(len(KINDS[kind].check(f"{folder}/{name}")) - 2 for kind, name in CHECKS)
    assert f"{n_checks} passed" in done.stdout
