"""Shared by all tests: one thread, since the tests run one process per core, and no cache of datasets.

With a cache a second dataset might be the first one again, and a test that compares the two could not fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.changed_groups import GROUPS
from tests.helpers.command_line import Call, caller

# Where a test does take two threads, the one that waits leaves its core to the other tests. Read as torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a slow test that `groups.toml` does not have in its group."""
    for item in items:
        for mark in item.iter_markers("slow"):
            group = mark.kwargs.get("group")
            if not item.nodeid.startswith(tuple(GROUPS.get(group, {"tests": ()})["tests"])):
                raise pytest.UsageError(f"{item.nodeid}: is slow, and not in group {group!r} of tests/groups.toml")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANNO_BENCH_CACHE", "off")
        yield


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command in this process, as in a shell."""
    return caller(monkeypatch, capsys)


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave plots empty, but for slow tests and those that ask for `drawn`: they are most of what a small run takes."""
    if request.node.get_closest_marker("slow") is None and "drawn" not in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, file, **options: Path(file).touch())


@pytest.fixture
def drawn() -> None:
    """Have plots drawn in a module that leaves them empty."""
