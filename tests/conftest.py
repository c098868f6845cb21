"""Shared by all tests: one thread, since the tests run one process per core, and no cache of datasets.

With a cache a second dataset might be the first one again, and a test that compares the two could not fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

# Where a test does take two threads, the one that waits leaves its core to the other tests. Read as torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _no_cache() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GANNO_BENCH_CACHE", "off")
        yield
