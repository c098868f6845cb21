"""Fixtures: boards made of the scoring tests' fake records, and submissions made of runs of the tiny suite."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.helpers.submission_cases import World


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> World:
    from tests.helpers.submission_cases import World, project

    made = World(tmp_path_factory.mktemp("world"))
    with project(made.path):
        made.make()
    return made


@pytest.fixture
def world(_made: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A project with a suite, a run of it, committed baselines of cosine and a leaderboard; read-only."""
    from tests.helpers.tiny_suite import datasets_read_once

    monkeypatch.setattr("ganno_bench.workloads.suite.resource_dir", lambda name: _made.path / name)
    monkeypatch.setenv("GANNO_BENCH_BASELINES", str(_made.path / "baselines"))
    with datasets_read_once():
        yield _made


@pytest.fixture
def copy(world: World, tmp_path: Path) -> World:
    """A copy of the project that a test may change."""
    from tests.helpers.submission_cases import World

    return World(Path(shutil.copytree(world.path, tmp_path / "world")))
