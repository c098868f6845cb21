"""The version is written once, and what has to repeat it agrees with it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from ganno_bench import __version__
from tests.helpers.release import notes

ROOT = Path(__file__).resolve().parents[2]
CHANGELOG = """# Changelog

## 0.2.0 (2027-01-31)

- A change.

## 0.1.0 (unreleased)

- The first one.
"""


def test_the_version_is_that_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "ganno_bench/__init__.py"
    assert version("ganno-bench") == __version__, "the installed version is another one; run: make install"


def test_the_citation_has_the_version() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == __version__


def test_the_changelog_begins_with_the_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.fullmatch(rf"{re.escape(__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)", headings[0])
    assert len(set(headings)) == len(headings)


def test_the_notes_of_a_release_are_its_section() -> None:
    assert notes("v0.2.0", "0.2.0", CHANGELOG) == "- A change.\n"


@pytest.mark.parametrize(
    ("tag", "package", "message"),
    [
        ("v0.2.1", "0.2.0", "tag 'v0.2.1': expected 'v0.2.0', from ganno_bench/__init__.py"),
        ("0.2.0", "0.2.0", "tag '0.2.0': expected 'v0.2.0', from ganno_bench/__init__.py"),
        ("v0.3.0", "0.3.0", r"CHANGELOG.md: section '## 0.3.0 \(DATE\)' is missing"),
        ("v0.1.0", "0.1.0", "section 0.1.0: expected a date such as 2027-01-31 .value: unreleased."),
    ],
)
def test_a_wrong_tag_is_refused(tag: str, package: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        notes(tag, package, CHANGELOG)


def test_every_file_can_be_checked_out_on_any_system() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = [name for name in listed.stdout.split("\0") if name] if listed.returncode == 0 else []
    assert not [name for name in names if not re.fullmatch(r"[\w.,@+={}%/ -]+", name)]
