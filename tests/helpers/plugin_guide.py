"""The files that the guide to plugins shows: Python blocks whose first line is a comment with the name of the file."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["FILES", "PAGE"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = {name: text for text, name in re.findall(r"^```python\n(# (\w+\.py)\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)}
"""Name of a file -> its content."""
