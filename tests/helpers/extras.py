"""Libraries that are not needed to use the project, and are needed to test it."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

__all__ = ["library"]


def library(module: str) -> Any:
    """Return a module; where it is not installed the test is skipped, but fails in CI, which installs everything."""
    if os.environ.get("CI"):
        return importlib.import_module(module)
    return pytest.importorskip(module, reason=f"{module} is not installed")
