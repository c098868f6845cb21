"""Write the tables and pictures of `docs/results.md`, and the table of `docs/reading.md`.

    python benchmarks/results.py [--check]

The committed baselines are their only source. The script replaces the text between `<!-- SUITE -->` and
`<!-- end of SUITE -->`. People write the text around it. The block `overview` has a row for each of the page's suites.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console

from ganno_bench.baselines.files import BaselineFolder, compare_with, read_baselines
from ganno_bench.core.records import read_records
from ganno_bench.leaderboard.formats import markdown_table
from ganno_bench.leaderboard.ladders import plot_ladders
from ganno_bench.leaderboard.outcome import outcome
from ganno_bench.leaderboard.plots import plot_budget, plot_scores
from ganno_bench.leaderboard.robustness_plot import plot_robustness
from ganno_bench.leaderboard.robustness_tables import robustness_table
from ganno_bench.leaderboard.tables import Column, TextTable, estimate, header, main_table, remarks
from ganno_bench.leaderboard.terminal import to_rich
from ganno_bench.scoring.budget import budget_scores, trials_to_match
from ganno_bench.scoring.comparison import Comparison, against_each_study, committed_alone, complete_workloads
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Standings
from ganno_bench.scoring.robustness import robustness
from ganno_bench.workloads.suite import load_suite

PAGE = Path(__file__).resolve().parent.parent / "docs" / "results.md"
PICTURES = PAGE.parent / "results"
READING = PAGE.parent / "reading.md"
OVERVIEW = "overview"
BLOCK = re.compile(r"<!-- (?P<suite>[\w.-]+) -->\n.*?<!-- end of (?P=suite) -->\n", re.DOTALL)


def committed(suite: str) -> tuple[Comparison, list[str]]:
    """Return the committed runs and studies of a suite, and the ids of workloads that some entry has not finished."""
    found = load_suite(suite)
    baselines = read_baselines(suite, found.hash, BaselineFolder())
    complete = complete_workloads(baselines)
    return committed_alone(baselines, complete), [spec.id for spec in found.workload if spec.id not in complete]


def entries_of(standings: Standings) -> list[Row]:
    """Return the rows of all entries, the tuned ones first."""
    return [row for rows in standings.tables.values() for row in rows if row.kind == "entry"]


def label(row: Row) -> str:
    """Return the name of an entry in a table of both rulesets."""
    return f"{row.entry} (zero-shot)" if row.ruleset == "zero-shot" else row.entry


def score_table(standings: Standings) -> TextTable:
    """Return the mean score of every entry on every workload, with the best of each workload highlighted."""
    rows, best = [], set()
    cells = {(row.ruleset, row.entry): row for row in entries_of(standings)}
    for key, row in cells.items():
        scores = [standings.cells.get((*key, workload)) for workload in standings.workloads]
        rows.append((label(row), *(f"{cell.score:+.1f}" if cell else "-" for cell in scores)))
    for column, workload in enumerate(standings.workloads, 1):
        found = [standings.cells[*key, workload].score for key in cells if (*key, workload) in standings.cells]
        best |= {(index, column) for index, row in enumerate(rows) if row[column] == f"{max(found):+.1f}"}
    columns = (Column("Entry", numeric=False), *(Column(workload) for workload in standings.workloads))
    return TextTable("Scores by workload", columns, tuple(rows), frozenset(best), frozenset(), frozenset())


def trials_table(comparison: Comparison, standings: Standings) -> TextTable | None:
    """Return the number of trials that cosine needs to reach the validation loss of each zero-shot entry.

    Returns:
        None without zero-shot entries, or without tuning studies of cosine.
    """
    scores = budget_scores(comparison.records, comparison.studies)
    tuned = scores.get(("tuned", REFERENCE), {})
    workloads = [name for name in standings.workloads if name in tuned]
    entries = [row.entry for row in standings.tables.get("zero-shot", ()) if row.kind == "entry"]
    if not entries or not workloads:
        return None
    rows = []
    for entry in entries:
        levels = scores["zero-shot", entry]
        cells = []
        for name in workloads:
            if name not in levels:
                cells.append("-")
                continue
            trials = trials_to_match(tuned[name], float(levels[name][0]))
            cells.append(f"> {len(tuned[name])}" if trials is None else str(trials))
        counts = sorted(math.inf if cell.startswith(">") else int(cell) for cell in cells if cell != "-")
        middle = counts[(len(counts) - 1) // 2]  # the lower of two middle ones, in favour of cosine
        rows.append((entry, f"{middle:g}" if math.isfinite(middle) else "more than all", *cells))
    columns = (Column("Entry", numeric=False), Column("Median"), *map(Column, workloads))
    return TextTable("Trials", columns, tuple(rows), frozenset(), frozenset(), frozenset())


def by_study(cells: Mapping[tuple[str, int], str]) -> TextTable:
    """Return a table of entries x studies from its cells, (entry, study) -> text; entries keep their order."""
    studies = sorted({study for _, study in cells})
    names = dict.fromkeys(name for name, _ in cells)
    rows = [(name, *(cells.get((name, study), "-") for study in studies)) for name in names]
    columns = (Column("Entry", numeric=False), *(Column(f"Study {study}") for study in studies))
    return TextTable("By study", columns, tuple(rows), frozenset(), frozenset(), frozenset())


def studies_table(comparison: Comparison, standings: Standings) -> TextTable | None:
    """Return the score of every entry relative to each tuning study of cosine; None if there is one study."""
    studies = against_each_study(comparison)
    if len(studies) < 2:
        return None
    scores = {
        (label(row), study): estimate(row.iqm, row.iqm_low, row.iqm_high)
        for study, compared in studies.items()
        for row in entries_of(compared.standings())
    }
    order = [(label(row), study) for row in entries_of(standings) for study in studies]
    return by_study({key: scores[key] for key in order})


def own_studies_table(comparison: Comparison, standings: Standings) -> TextTable | None:
    """Return the score of each study of the entries that were tuned several times; None if there are none."""
    tuned = [run for run in comparison.records if run.ruleset == "tuned"]
    studies = sorted({run.study for run in tuned})
    scores = {
        (row.entry, study): estimate(row.iqm, row.iqm_low, row.iqm_high)
        for study in studies
        for row in replace(comparison, records=[run for run in tuned if run.study == study]).standings().tables["tuned"]
    }
    several = [row.entry for row in entries_of(standings) if standings.studies.get(row.entry, 1) > 1]
    order = [(name, study) for name in dict.fromkeys(several) for study in studies]
    return by_study({key: scores[key] for key in order if key in scores}) if several else None


def block(suite: str) -> tuple[str, dict[str, Figure]]:
    """Return the generated part of a suite as Markdown, and its pictures, file name -> figure."""
    comparison, left_out = committed(suite)
    standings = comparison.standings()
    figures: dict[str, Figure | None] = {
        f"{suite}-scores.png": plot_scores(standings),
        f"{suite}-ladders.png": plot_ladders(standings),
        f"{suite}-budget.png": plot_budget(comparison.records, standings, comparison.studies),
    }
    lines = [*outcome(standings), *header(standings)]
    if left_out:
        lines.append(f"Left out, because not every entry has finished them: {', '.join(left_out)}")
    parts = ["\n".join(f"- {line}" for line in lines)]
    for ruleset in standings.tables:
        table = main_table(standings, ruleset)
        parts += [f"**{table.title}**", markdown_table(table)]
    parts += ["**Mean score on each workload**", markdown_table(score_table(standings))]
    if trials := trials_table(comparison, standings):
        parts += [
            f"**Trials of tuned {REFERENCE} until its expected best validation loss equals a zero-shot entry's**",
            markdown_table(trials),
        ]
    if studies := studies_table(comparison, standings):
        parts += [
            f"**Score relative to each tuning study of {REFERENCE}** (study 0 is the reference above)",
            markdown_table(studies),
        ]
    if own := own_studies_table(comparison, standings):
        parts += [
            f"**Score of each tuning study alone, for entries with several** (relative to study 0 of {REFERENCE})",
            markdown_table(own),
        ]
    varied = robustness(comparison.records, standings)
    if varied is not None:
        parts += ["**With one factor changed at a time**", markdown_table(robustness_table(varied))]
        figures[f"{suite}-robustness.png"] = plot_robustness(varied, standings)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    parts += [f"![{name.removesuffix('.png').replace('-', ': ', 1)}](results/{name})" for name in drawn]
    parts.append("\n".join(f"- {line}" for line in remarks(standings)))
    return "\n\n".join(parts), drawn


def overview(suites: Sequence[str]) -> str:
    """Return a table of all suites as Markdown: the entries with rank 1 in either ruleset, and tuned cosine."""
    rows = []
    for suite in suites:
        standings = committed(suite)[0].standings()
        tuned, zero_shot = (standings.tables[ruleset] for ruleset in ("tuned", "zero-shot"))
        (cosine,) = (row for row in tuned if row.entry == REFERENCE)
        cells = (score_list(row for row in found if row.rank == 1) for found in (tuned, zero_shot))
        rows.append((f"[{suite}](#{suite})", str(len(standings.workloads)), *cells, score_list([cosine], named=False)))
    titles = ("Tuned, rank 1", "Zero-shot, rank 1", "Tuned cosine, all studies")
    columns = (Column("Suite", numeric=False), Column("Workloads"), *(Column(title, numeric=False) for title in titles))
    return markdown_table(TextTable("Overview", columns, tuple(rows), frozenset(), frozenset(), frozenset()))


def score_list(rows: Iterable[Row], *, named: bool = True) -> str:
    """Return the scores of some rows with their confidence intervals, separated by semicolons."""
    return "; ".join(f"{row.entry} " * named + estimate(row.iqm, row.iqm_low, row.iqm_high) for row in rows)


def printed(records: Path) -> str:
    """Return the output of `ganno-bench table` for a record file, without the tables by workload."""
    standings = compare_with(BaselineFolder(), read_records([records])).standings()
    terminal = io.StringIO()
    Console(file=terminal, width=120).print(to_rich(standings, per_workload=False))
    return "\n".join(line.rstrip() for line in terminal.getvalue().splitlines())


def main(arguments: Sequence[str] | None = None) -> int:
    """Rewrite both pages and the pictures, or print whether the pages are stale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    options = parser.parse_args(arguments)
    page = PAGE.read_text(encoding="utf-8")
    suites = [match["suite"] for match in BLOCK.finditer(page) if match["suite"] != OVERVIEW]
    pictures: dict[str, Figure] = {}

    def replaced(match: re.Match[str]) -> str:
        if match["suite"] == OVERVIEW:
            return f"<!-- {OVERVIEW} -->\n\n{overview(suites)}\n\n<!-- end of {OVERVIEW} -->\n"
        text, figures = block(match["suite"])
        pictures.update(figures)
        return f"<!-- {match['suite']} -->\n\n{text}\n\n<!-- end of {match['suite']} -->\n"

    def reprinted(match: re.Match[str]) -> str:
        text = printed(BaselineFolder().path / "records" / match["suite"] / "wsd.jsonl.gz")
        return f"<!-- {match['suite']} -->\n\n```text\n{text}\n```\n\n<!-- end of {match['suite']} -->\n"

    reading = READING.read_text(encoding="utf-8")
    new = {PAGE: BLOCK.sub(replaced, page), READING: BLOCK.sub(reprinted, reading)}
    if options.check:
        stale = new != {PAGE: page, READING: reading}
        print("stale; run python benchmarks/results.py" if stale else "up to date")
        return int(stale)
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for name, figure in pictures.items():
        figure.savefig(PICTURES / name, dpi=110)
    return 0


if __name__ == "__main__":
    sys.exit(main())
