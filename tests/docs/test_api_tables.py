"""Each page of the API has a table of exactly the names that it documents."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "api"
PAGES = sorted(page.name for page in FOLDER.glob("*.md") if page.name != "index.md")


@pytest.mark.parametrize("page", PAGES)
def test_the_table_has_the_public_names_of_the_page(page: str) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    documented = set()
    for target in re.findall(r"^::: (\S+)$", text, re.MULTILINE):
        parent, _, name = target.rpartition(".")
        is_module = name.islower()
        names = importlib.import_module(target).__all__ if is_module else [name]
        documented |= {f"{target if is_module else parent}.{public}" for public in names}
    rows = re.findall(
        r"^\| \[`(\w+)`\]\(#([\w.]+)\) \| \S.* \| \[\w+\.py\]\(\.\./\.\./([\w/]+)\.py\) \|$", text, re.MULTILINE
    )
    assert len(rows) == len(re.findall(r"^\| \[`", text, re.MULTILINE)), "a row has another form"
    assert {anchor for _, anchor, _ in rows} == documented
    assert [f"{source.replace('/', '.')}.{name}" for name, _, source in rows] == [anchor for _, anchor, _ in rows]


def test_the_overview_has_every_page_and_the_names_of_the_top_level() -> None:
    text = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[[^`\]]+\]\((\S+?)\)", text, re.MULTILINE)) == set(PAGES)
    top = importlib.import_module("ganno_bench")
    assert set(re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE)) == set(top.__all__) - {"__version__"}
