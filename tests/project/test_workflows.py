"""The workflows run the commands that a contributor can run: targets of the Makefile and scripts of `.ci`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.name: yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / ".github/workflows").glob("*.yml")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def steps(workflow: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in workflow["jobs"].values():
        yield from job.get("steps", ())


@pytest.mark.parametrize("name", WORKFLOWS)
def test_each_command_is_a_makefile_target_or_a_script_of_ci(name: str) -> None:
    for command in (step["run"] for step in steps(WORKFLOWS[name]) if "run" in step):
        program, *words = shlex.split(command)
        if program == "make":
            assert {word for word in words if "=" not in word} <= TARGETS, command
        elif program != "gh":  # the release on GitHub, which nobody makes by hand
            assert program.startswith(".ci/"), command
            assert (ROOT / program).is_file()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_and_expressions_stay_out_of_commands(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] in ({}, {"contents": "read"})
    for line in (ROOT / ".github/workflows" / name).read_text(encoding="utf-8").splitlines():
        if "uses: " in line and "uses: ./" not in line:
            assert re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    for step in steps(WORKFLOWS[name]):
        assert "${{" not in step.get("run", ""), step
        if "actions/checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_one_version_of_each_action_is_used() -> None:
    used = {step["uses"] for workflow in WORKFLOWS.values() for step in steps(workflow) if "uses" in step}
    assert len({action.split("@")[0] for action in used}) == len(used)


def test_the_matrix_has_the_declared_versions_of_python() -> None:
    classifiers = re.findall(r"Python :: (3\.\d+)\"", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    jobs = WORKFLOWS["tests.yml"]["jobs"]
    for job in ("default", "windows"):
        assert jobs[job]["strategy"]["matrix"]["python"] == classifiers
