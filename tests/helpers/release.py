"""Print the changelog's section of a release, after checking its tag: `python -m tests.helpers.release v0.1.0`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import ganno_bench

__all__ = ["notes"]

ROOT = Path(__file__).resolve().parents[2]


def notes(tag: str, version: str, changelog: str) -> str:
    """Return the section of the changelog that belongs to a tag.

    Args:
        tag: `v` and the version.
        version: The package's version.
        changelog: The text of `CHANGELOG.md`.

    Raises:
        ValueError: The tag is not that of the version, or the changelog has no dated section of it.
    """
    if tag != f"v{version}":
        raise ValueError(f"tag {tag!r}: expected 'v{version}', from ganno_bench/__init__.py")
    section = re.search(
        rf"^## {re.escape(version)} \(([^)\n]*)\)\n(.*?)(?=^## |\Z)", changelog, re.DOTALL | re.MULTILINE
    )
    if section is None:
        raise ValueError(f"CHANGELOG.md: section '## {version} (DATE)' is missing")
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", section[1]):
        raise ValueError(f"CHANGELOG.md: section {version}: expected a date such as 2027-01-31 (value: {section[1]})")
    return section[2].strip() + "\n"


if __name__ == "__main__":
    try:
        sys.stdout.write(notes(sys.argv[1], ganno_bench.__version__, (ROOT / "CHANGELOG.md").read_text("utf-8")))
    except ValueError as error:
        sys.exit(f"error: {error}")
