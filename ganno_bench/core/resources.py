"""Where the data folders that belong to the project (suites, baselines) lie, in a checkout and in a wheel."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["baselines_dir", "checkout", "resource_dir"]

_PACKAGE = Path(__file__).resolve().parents[1]


def resource_dir(name: str) -> Path:
    """Return the folder `name` (such as `suites`): beside the package in a checkout, inside it in a wheel."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def baselines_dir() -> Path:
    """Return the folder of the committed baselines: the project's, unless `GANNO_BENCH_BASELINES` names another."""
    return Path(os.environ.get("GANNO_BENCH_BASELINES") or resource_dir("baselines"))


def checkout() -> Path | None:
    """Return the root of the git checkout that the package lies in; None where it was installed from a wheel."""
    root = _PACKAGE.parent
    return root if (root / ".git").exists() else None
