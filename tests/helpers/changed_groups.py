"""Says which groups of slow tests are about what has changed; `tests/groups.toml` has the groups.

    python -m tests.helpers.changed_groups [BASE]

BASE is a commit, by default the last one that is a day older than HEAD: a push has seldom more than a day's commits,
and to run a group too often costs minutes. Where there is none, as in a shallow clone, every group is named.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

__all__ = ["GROUPS", "about"]

ROOT = Path(__file__).resolve().parents[2]
GROUPS: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "tests" / "groups.toml").read_text("utf-8"))
"""Group -> `about`, in words; `files`, patterns in which a star stands for folders, too; `tests`, beginnings of ids."""


def about(changed: Iterable[str]) -> list[str]:
    """Return the groups that are about some of the files; one without patterns never is."""
    files = list(changed)
    return [
        name
        for name, group in GROUPS.items()
        if any(fnmatch(file, pattern) for pattern in group["files"] for file in files)
    ]


def _git(*words: str) -> list[str]:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def main(base: str | None = None) -> None:
    if base is None:
        (head,) = _git("log", "-1", "--format=%ct")
        (base,) = _git("rev-list", "-1", f"--before={int(head) - 86_400}", "HEAD") or [None]
    changed = _git("ls-files") if base is None else _git("diff", "--name-only", base, "HEAD")
    sys.stdout.write(" ".join(about(changed)) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
