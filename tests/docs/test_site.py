"""The documentation builds as a site, with no link that leads nowhere and nothing that is fetched from elsewhere."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

pytestmark = pytest.mark.slow(group="docs")

ROOT = Path(__file__).resolve().parents[2]
FAULTS = {
    "[a](../nowhere.md)": "contains a link '../nowhere.md'",
    "[b](protocol.md#no-such-heading)": "does not contain an anchor '#no-such-heading'",
    "[c](../benchmarks/nothing.py)": "contains a link '../benchmarks/nothing.py'",
    "[d][ganno_bench.api.nothing]": "Could not find cross-reference target 'ganno_bench.api.nothing'",
}


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        "mkdocs.yml",
        "--site-dir",
        str(site),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


class Page(HTMLParser):
    """Ids of a page, what it links to, and what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.add(given["href"])
        elif "src" in given:
            self.loaded.add(given["src"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}


def followed(page: Path, links: set[str]) -> Iterator[tuple[str, Path, str]]:
    for link in links:
        if not urlsplit(link).scheme:
            path, anchor = urldefrag(link)
            target = (page.parent / unquote(path)).resolve() if path else page
            yield link, target / "index.html" if target.is_dir() else target, unquote(anchor)


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path) -> None:
    written = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(written) > 15
    for source in written:
        place = source.relative_to(ROOT)
        name = "" if place.stem in ("README", "index") else place.stem
        assert (site / place.parent / name / "index.html").is_file(), place


def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(pages: dict[Path, Page]) -> None:
    n_links = 0
    for page, content in pages.items():
        for link, target, anchor in followed(page, content.links | content.loaded):
            n_links += 1
            assert target.is_file(), f"{page}: {link}"
            assert not anchor or anchor.startswith("__") or anchor in pages[target].ids, f"{page}: {link}"
    assert n_links > 500


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    for page, content in pages.items():
        assert not [url for url in content.loaded if urlsplit(url).scheme not in ("", "data")], page
        assert content.loaded
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?https?:", sheet.read_text(encoding="utf-8")), sheet


def test_every_public_name_is_in_the_reference(pages: dict[Path, Page]) -> None:
    ids = set().union(*(page.ids for page in pages.values()))
    modules = [
        match
        for path in (ROOT / "docs/api").glob("*.md")
        for match in re.findall(r"^::: (\S+)$", path.read_text(), re.M)
    ]
    assert "ganno_bench.api" in modules
    for name in modules:
        assert name in ids
        if name.rpartition(".")[2].islower():
            module = importlib.import_module(name)
            assert {f"{name}.{public}" for public in module.__all__} <= ids, name
    top = importlib.import_module("ganno_bench")
    for public in set(top.__all__) - {"__version__"}:
        assert f"{getattr(top, public).__module__}.{public}" in ids


def test_what_leads_nowhere_breaks_the_build(tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    shutil.copytree(ROOT / "docs", root / "docs")
    for path in [*ROOT.glob("*.md"), ROOT / "mkdocs.yml"]:
        shutil.copy(path, root)
    for name in ("benchmarks", "examples", "ganno_bench", "leaderboard", "policies", "LICENSE", "CITATION.cff"):
        (root / name).symlink_to(ROOT / name)
    with (root / "docs/models.md").open("a") as page:
        page.write("\n\n".join(["", *FAULTS, ""]))
    (root / "docs/forgotten.md").write_text("# In no menu\n")
    done = build(root, tmp_path / "site")
    assert done.returncode != 0
    for message in [*FAULTS.values(), "docs/forgotten.md"]:
        assert message in done.stderr
