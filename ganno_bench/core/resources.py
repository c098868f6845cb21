"""Locate the project's folders (suites, baselines, ...), in a checkout and in an installed wheel."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["baselines_dir", "checkout", "leaderboard_dir", "resource_dir"]

_PACKAGE = Path(__file__).resolve().parents[1]


def resource_dir(name: str) -> Path:
    """Return the folder `name`, such as `suites`: next to the package in a checkout, inside it in a wheel."""
    installed = _PACKAGE / "_data" / name
    return installed if installed.is_dir() else _PACKAGE.parent / name


def baselines_dir() -> Path:
    """Return the folder of the committed baselines: the project's, unless `GANNO_BENCH_BASELINES` names another."""
    return Path(os.environ.get("GANNO_BENCH_BASELINES") or resource_dir("baselines"))


def leaderboard_dir() -> Path:
    """Return the folder of the leaderboard: `leaderboard` in the current folder, else the checkout's.

    So after `submit` or `challenge` wrote into the current folder, later commands there check and build these files.
    """
    here, root = Path("leaderboard"), checkout()
    return here if here.is_dir() or root is None else root / here


def checkout() -> Path | None:
    """Return the root of the git checkout with this package; None for an installed wheel."""
    root = _PACKAGE.parent
    return root if (root / ".git").exists() else None
