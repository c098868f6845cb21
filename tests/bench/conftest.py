from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tiny_suite import datasets_read_once, run_tiny, write_suite


@pytest.fixture(scope="module", autouse=True)
def _datasets_read_once() -> Iterator[None]:
    with datasets_read_once():
        yield


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write_suite(tmp_path)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run of the tiny suite that was never interrupted; not to be written to."""
    folder = tmp_path_factory.mktemp("unbroken")
    run_tiny(write_suite(folder), folder / "out")
    return folder / "out"
