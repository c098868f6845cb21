"""Standings as text in cells, with the lines above and below the tables; `formats` writes them in each format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ganno_bench.leaderboard.terms import BASELINE, OPEN_OPTIMIZER, terms
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Ruleset, Standings

__all__ = [
    "OPEN_OPTIMIZER",
    "Column",
    "TextTable",
    "cautions",
    "claims",
    "count",
    "entry_label",
    "estimate",
    "footer",
    "header",
    "main_table",
    "remarks",
    "workload_table",
]

_CLAIM_TRIALS = 32
"""Trials of the protocol's tuned ruleset."""

_FEW_SEEDS = 5
"""With 3 seeds on 3 workloads a 95 % confidence interval covers the truth in 87 % of cases, with 5 in about 90 %."""

_MOST_WORKLOADS = 3
"""Workloads that the line on the reference names; it counts more."""

_TITLES: dict[Ruleset, str] = {
    "tuned": "Tuned: Optuna tuned each entry on every workload",
    "zero-shot": "Zero-shot: one frozen configuration for all workloads",
}


@dataclass(frozen=True)
class Column:
    """A column's title, and whether its cells are numbers, which are aligned to the right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True)
class TextTable:
    """A table as text.

    Attributes:
        title: Its caption.
        columns: One per cell of a row.
        rows: Cells.
        best: (row, column) of the cells to highlight.
        faint: Rows that are not ranked.
        rules: Rows with a rule above.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]
    faint: frozenset[int]
    rules: frozenset[int]


def header(standings: Standings) -> list[str]:
    """Return suite, budget, reference and versions of the runs; one line for each."""
    suite = f"{standings.suite}@{standings.suite_hash}" + (", custom settings" if standings.custom else "")
    lines = [f"Suite {suite}: {count(len(standings.workloads), 'workload')}, {_seeds(standings)}"]
    if standings.n_trials:
        trials = count(standings.n_trials[-1], "trial")
        if len(standings.n_trials) > 1:
            trials = f"{standings.n_trials[0]} to {trials}"
        n_studies = min(standings.studies.values(), default=0)
        studies = f" in each of {n_studies} studies" if n_studies > 1 else ""
        lines[0] += f", {trials} of tuning per workload{studies}"
    lines[0] += "."
    versions = ", ".join(f"{package} {'/'.join(found)}" for package, found in standings.versions.items())
    return [*lines, _reference(standings), *([f"Versions: {versions}"] if versions else [])]


def _reference(standings: Standings) -> str:
    own = [name for name in standings.workloads if name not in standings.committed]
    text = f"Reference (score 0): tuned {REFERENCE}"
    if not own:
        return f"{text}, committed results."
    if not standings.committed:
        return f"{text} of these records."
    where = ", ".join(own) if len(own) <= _MOST_WORKLOADS else count(len(own), "workload")
    return f"{text}; committed results on {count(len(standings.committed), 'workload')}, these records on {where}."


def claims(standings: Standings) -> list[str]:
    """Return the line on suite and budget; then a warning if the budget is too small for a claim."""
    lines = header(standings)[:1]
    if standings.n_trials and standings.n_trials[0] < _CLAIM_TRIALS:
        trials = count(standings.n_trials[0], "trial")
        lines.append(f"{trials} of tuning: a first look, no basis for a claim (which takes {_CLAIM_TRIALS}).")
    return lines


def cautions(standings: Standings) -> list[str]:
    """Return warnings about too few trials, too few report seeds, and settings other than the suite's own."""
    lines = claims(standings)[1:]
    fewest, most = standings.n_seeds[0], standings.n_seeds[-1]
    if most == 1:
        lines.append("1 report seed: there are no confidence intervals, and no difference is significant.")
    elif fewest == 1:
        lines.append(
            "1 report seed for some entry on some workload: the entry has no confidence interval, and no difference "
            "from it is significant."
        )
    elif fewest < _FEW_SEEDS:
        some = "" if fewest == most else " for some entry"
        lines.append(f"{fewest} report seeds{some}: too few, so confidence intervals are too narrow.")
    if standings.custom:
        lines.append(
            "Custom settings: trials or seeds are not the suite's own. Do not compare these tables with others."
        )
    return lines


def remarks(standings: Standings) -> list[str]:
    """Return what a reader must know about the intervals and about single workloads; one item per line."""
    notes = [note for note in standings.notes if not note.startswith(f"{BASELINE} ")]  # it is one of the terms
    return [*_tuning_again(standings.studies), *notes]


def footer(standings: Standings) -> list[str]:
    """Return the terms of the rankings, then all warnings and remarks; one item per line."""
    said = [f"{term}: {meaning}" for term, meaning in terms(standings, per_workload=False)]
    return [*said, *cautions(standings), *remarks(standings)]


def _tuning_again(studies: Mapping[str, int]) -> list[str]:
    """Return whether the confidence intervals cover the luck of tuning, given each tuned entry's number of studies."""
    if not studies:
        return []
    fewest, most = min(studies.values()), max(studies.values())
    if most == 1:
        return [
            "Confidence intervals do not cover the luck of tuning: each entry has one tuning study per workload, and "
            "another study could find other values."
        ]
    if fewest == most:
        return [f"Confidence intervals cover {most} independent tuning studies per workload."]
    several = ", ".join(f"{name} ({n})" for name, n in sorted(studies.items()) if n > 1)
    others = (
        " Every other tuned entry has one study per workload, and its confidence interval does not cover the luck of "
        "tuning."
    )
    return [f"Confidence intervals cover several tuning studies of {several}.{others * (fewest == 1)}"]


def main_table(standings: Standings, ruleset: Ruleset) -> TextTable:
    """Return a ruleset's ranking: one row per entry, then the unranked reference rows and the oracle.

    Rank, entry and score are highlighted in the rows of rank 1, and the best value in each other column.
    """
    rows = standings.tables[ruleset]
    columns = (
        Column("Rank"),
        Column("Entry", numeric=False),
        Column("Score (IQM)"),
        Column("P(better)"),
        Column("Mean rank"),
        Column("Speed-up"),
        Column("Diverged"),
    )
    ranks = [row.rank for row in rows]
    cells = tuple(
        (
            "-" if row.rank is None else f"{row.rank}{'=' * (ranks.count(row.rank) > 1)}",
            entry_label(row, ruleset, len(standings.workloads)),
            estimate(row.iqm, row.iqm_low, row.iqm_high),
            estimate(row.improvement, row.improvement_low, row.improvement_high, ".2f"),
            _number(row.mean_rank, ".2f"),
            _speed_up(row.speed_up),
            f"{row.diverged}/{row.n_runs}",
        )
        for row in rows
    )
    best = {(index, column) for index, row in enumerate(rows) if row.rank == 1 for column in (0, 1, 2)}
    measures: list[tuple[int, Callable[[Row], float | None]]] = [
        (3, lambda row: row.improvement),
        (4, lambda row: None if row.mean_rank is None else -row.mean_rank),
        (5, lambda row: row.speed_up or None),
    ]
    for column, measure in measures:
        values = [None if row.rank is None else measure(row) for row in rows]
        best |= {(index, column) for index in _largest(values)}
    others = [index for index, row in enumerate(rows) if row.kind != "entry"]
    faint = frozenset(index for index, row in enumerate(rows) if row.rank is None)
    return TextTable(_TITLES[ruleset], columns, cells, frozenset(best), faint, frozenset(others[:1]))


def workload_table(standings: Standings, ruleset: Ruleset) -> TextTable:
    """Return a ruleset's results on each workload, lowest median test loss first; the lowest is highlighted."""
    columns = (
        Column("Workload", numeric=False),
        Column("Entry", numeric=False),
        Column("Test loss (nats)"),
        Column("Error (%)"),
        Column("Score (mean)"),
        Column("Speed-up"),
        Column("Diverged"),
    )
    rows = [row for row in standings.tables[ruleset] if row.kind != "oracle"]
    cells: list[tuple[str, ...]] = []
    best, faint, rules = set(), set(), set()
    for workload in standings.workloads:
        found = [(row, standings.cells.get((row.ruleset, row.entry, workload))) for row in rows]
        own = sorted(
            ((cell, row) for row, cell in found if cell is not None),
            key=lambda pair: (pair[0].test_loss, pair[1].entry),
        )
        if own:
            rules.add(len(cells))
        lowest = min((cell.test_loss for cell, row in own if row.kind == "entry"), default=None)
        for index, (cell, row) in enumerate(own):
            if row.kind == "reference":
                faint.add(len(cells))
            elif cell.test_loss == lowest:
                best |= {(len(cells), 1), (len(cells), 2)}
            cells.append(
                (
                    workload if index == 0 else "",
                    entry_label(row, ruleset),
                    f"{cell.test_loss:.4f}",
                    _number(None if cell.test_error is None else 100 * cell.test_error, ".1f"),
                    estimate(cell.score, cell.score_low, cell.score_high),
                    _speed_up(cell.speed_up),
                    f"{cell.diverged}/{cell.n_runs}",
                )
            )
    title = f"{ruleset.capitalize()}, workload by workload: median test loss and error, mean score"
    return TextTable(title, columns, tuple(cells), frozenset(best), frozenset(faint), frozenset(rules))


def entry_label(row: Row, ruleset: Ruleset, n_workloads: int | None = None) -> str:
    """Return an entry's name with its marks.

    The marks are `OPEN_OPTIMIZER`, a star for a committed baseline, `(tuned)` for a tuned entry in the zero-shot table,
    and the number of workloads if some are missing.
    """
    label = row.entry + OPEN_OPTIMIZER * row.open_optimizer + BASELINE * row.baseline
    if row.ruleset != ruleset:
        label += " (tuned)"
    if n_workloads is not None and row.n_workloads < n_workloads:
        label += f" ({row.n_workloads}/{n_workloads})"
    return label


def estimate(value: float | None, low: float | None, high: float | None, form: str = "+z.1f") -> str:
    """Return a value with its confidence interval, if it has one; `-` for None. `form` is a format specification."""
    text = _number(value, form)
    return text if low is None or high is None else f"{text} [{_number(low, form)}, {_number(high, form)}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _speed_up(value: float | None) -> str:
    return "missed" if value == 0 else _number(value, ".2f") + ("" if value is None else "x")


def _largest(values: Sequence[float | None]) -> list[int]:
    top = max((value for value in values if value is not None), default=None)
    return [index for index, value in enumerate(values) if value is not None and value == top]


def count(n: int, singular: str, plural: str | None = None) -> str:
    """Return a number with a noun; the plural has an `s` unless it is given."""
    return f"{n} {singular if n == 1 else plural or f'{singular}s'}"


def _seeds(standings: Standings) -> str:
    low, high = standings.n_seeds[0], standings.n_seeds[-1]
    return count(high, "report seed") if low == high else f"{low} to {count(high, 'report seed')}"
