"""A finished run of the tiny suite, for tests of other programs that read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.tiny_suite import run_tiny, write_suite


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run with six trials of two seeds, its suite next to it; tests must not write to it."""
    folder = tmp_path_factory.mktemp("tiny")
    run_tiny(write_suite(folder), folder / "out")
    return folder / "out"
