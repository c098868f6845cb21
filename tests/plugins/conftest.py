"""An installed package with plugins, and the small suite of the harness's tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ganno_bench.core import registry
from tests.helpers.installed_package import Package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    yield Package(tmp_path / "site", monkeypatch)
    registry._installed.cache_clear()
    sys.modules.pop("other_things", None)
