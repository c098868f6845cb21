"""Hook of mkdocs that gives the site the tree of the repository, so that the same links work in both.

mkdocs reads pages from one folder, `docs/`. A link out of it, such as `../README.md`, would be broken in the site. This
hook adds the pages of the whole repository, and the files that they link to, at their places in the repository.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

FOLDERS = ("benchmarks", "findings", "leaderboard", "policies")
PAGES = ("*.md", "docs/**/*.md", *(f"{folder}/README.md" for folder in FOLDERS))
WHOLE = ("leaderboard/site/**/*", "leaderboard/tables/*")
"""Pages that another command builds, with the files that they link to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Return the files of the theme, and the files of the repository at their places."""
    root = Path(config.config_file_path).parent
    for file in [file for file in files if Path(file.abs_src_path or "").is_relative_to(config.docs_dir)]:
        files.remove(file)
    pages = {page for pattern in PAGES for page in root.glob(pattern)}
    others = {root / sheet for sheet in config.extra_css} | {file for page in pages for file in linked(page)}
    others |= {path for pattern in WHOLE for path in root.glob(pattern)}
    for path in sorted(pages | others):
        if path.is_file() and path.is_relative_to(root):
            source = path.relative_to(root).as_posix()
            files.append(File(source, str(root), config.site_dir, config.use_directory_urls))
    return files


def linked(page: Path) -> Iterator[Path]:
    """Yield the files that a page links to or shows, except other pages; they need not exist."""
    for target in re.findall(r"(?:\]\(|src(?:set)?=\")([^)#:\s\"]+)", page.read_text(encoding="utf-8")):
        if not target.endswith(".md"):
            yield Path(os.path.normpath(page.parent / target))
