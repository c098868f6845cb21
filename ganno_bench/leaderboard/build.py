"""Write the generated files of the leaderboard from committed records, and check them against the records.

README.md                     tables in Markdown
overview-light.svg, -dark     the best entries on all suites in one picture, for the project's README
tables/SUITE.csv, .tex        standings, overall and for each workload
tables/SUITE-pairs.csv        who beats whom
tables/SUITE-robustness.csv   results with one factor changed, if the suite varies any
site/                         pages; open site/index.html
site/drawn-with.json          versions of the libraries that made the drawings

The check compares texts exactly. It compares each drawing by a hash of its data. It compares the bytes of drawings only
if the installed libraries are those that made them, because other versions draw differently.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.core.errors import BaselineError, RecordError
from ganno_bench.leaderboard.board import Board, build_boards
from ganno_bench.leaderboard.drawings import strip_drawings
from ganno_bench.leaderboard.entries import baseline_entries
from ganno_bench.leaderboard.formats import to_csv, to_latex
from ganno_bench.leaderboard.overview import THEMES, overview_boards, overview_svg
from ganno_bench.leaderboard.published import published_entries
from ganno_bench.leaderboard.readme import leaderboard_readme
from ganno_bench.leaderboard.robustness_formats import robustness_latex
from ganno_bench.leaderboard.robustness_tables import robustness_csv
from ganno_bench.leaderboard.site import render_site
from ganno_bench.leaderboard.text import page_name

__all__ = ["committed_boards", "generate", "stale_files", "write_leaderboard"]

_DRAWN_WITH = "site/drawn-with.json"
_LIBRARIES = ("matplotlib", "numpy", "pillow")
_GENERATED = ("tables", "site")
"""Folders that may hold generated files only."""


def committed_boards(folder: BaselineFolder, root: Path) -> tuple[list[Board], list[str]]:
    """Return the suites with all committed entries; see `ganno_bench.leaderboard.board.build_boards`.

    Args:
        folder: The folder of the baselines.
        root: The leaderboard's folder, with submissions and challenges.

    Raises:
        UserError: There are no baselines, a file cannot be read, or records cannot be compared.
    """
    entries = baseline_entries(folder)
    if not entries:
        raise BaselineError(f"{folder.path}: has no committed baselines; the leaderboard needs them")
    return build_boards(published_entries(entries, root), folder)


def generate(boards: Sequence[Board], pending: Sequence[str] = (), *, drawn: bool = True) -> Iterator[tuple[str, str]]:
    """Yield (path below the leaderboard's folder, text) of all files except `drawn-with.json`.

    Args:
        boards: The suites.
        pending: Names of suites without results to compare yet.
        drawn: Whether to draw the pages' drawings.
    """
    yield "README.md", leaderboard_readme(boards, pending)
    if overview_boards(boards):
        for theme in THEMES:
            yield f"overview-{theme}.svg", overview_svg(boards, theme, drawn=drawn)
    for board in boards:
        stem = f"tables/{page_name(board.name)}"
        latex = to_latex(board.standings)
        yield f"{stem}.csv", to_csv(board.standings)
        yield f"{stem}-pairs.csv", _pairs_csv(board)
        if board.robustness is not None:
            yield f"{stem}-robustness.csv", robustness_csv(board.robustness)
            latex += f"\n{robustness_latex(board.robustness)}"
        yield f"{stem}.tex", latex
    for path, text in render_site(boards, pending, drawn=drawn):
        yield f"site/{path}", text


def write_leaderboard(root: Path, boards: Sequence[Board], pending: Sequence[str] = ()) -> list[Path]:
    """Write all files below `root`, remove other files from their folders, and return their paths; see `generate`."""
    files = dict(generate(boards, pending))
    files[_DRAWN_WITH] = json.dumps(_installed(), indent=2) + "\n"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    for path in _lying(root):
        if path.relative_to(root).as_posix() not in files:
            path.unlink()
    return [root / name for name in files]


def stale_files(root: Path, boards: Sequence[Board], pending: Sequence[str] = (), *, redraw: bool = True) -> list[str]:
    """Return the files that differ from the records: sorted lines `PATH: FAULT`, with paths below `root`.

    Args:
        root: The leaderboard's folder.
        boards: The suites.
        pending: Names of suites without results to compare yet.
        redraw: Whether to redraw everything if the libraries are the recorded ones, which takes a minute.

    Raises:
        RecordError: A file cannot be read.
    """
    redraw = redraw and _recorded(root) == _installed()
    found, known = [], {_DRAWN_WITH}
    for name, text in generate(boards, pending, drawn=redraw):
        known.add(name)
        try:
            there = (root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            found.append(f"{name}: missing")
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise RecordError(f"{root / name}: cannot be read: {error}") from None
        if strip_drawings(there) != strip_drawings(text):
            found.append(f"{name}: differs")
        elif redraw and there != text:
            found.append(f"{name}: a drawing differs")
    if _recorded(root) is None:
        found.append(f"{_DRAWN_WITH}: missing or unreadable")
    names = [path.relative_to(root).as_posix() for path in _lying(root)]
    return sorted(found + [f"{name}: is not a file of the leaderboard" for name in names if name not in known])


def _lying(root: Path) -> list[Path]:
    return [path for name in _GENERATED for path in sorted((root / name).rglob("*")) if path.is_file()]


def _installed() -> dict[str, str]:
    return {library: version(library) for library in _LIBRARIES}


def _recorded(root: Path) -> dict[str, str] | None:
    try:
        found = json.loads((root / _DRAWN_WITH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _pairs_csv(board: Board) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("ruleset", "entry", "rival", "probability", "low", "high", "verdict"))
    for ruleset, duels in board.duels.items():
        for (entry, rival), duel in duels.items():
            bounds = ("" if bound is None else format(bound, ".6g") for bound in (duel.low, duel.high))
            writer.writerow((ruleset, entry, rival, format(duel.probability, ".6g"), *bounds, duel.verdict))
    return out.getvalue()
