"""What the tables say: standings in, text in cells out. How it looks in a format is in `formats`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Ruleset, Standings

__all__ = [
    "OPEN_OPTIMIZER",
    "Column",
    "TextTable",
    "claims",
    "entry_label",
    "estimate",
    "footer",
    "header",
    "main_table",
    "workload_table",
]

_CLAIM_TRIALS = 32
"""Trials of the protocol's tuned ruleset."""

_FEW_SEEDS = 5
"""With 3 seeds on 3 workloads a 95 % percentile interval covers the truth in 87 % of cases, with 5 in about 90 %."""

OPEN_OPTIMIZER = "†"
"""Stands behind an entry that replaces the workload's optimizer."""

_TITLES: dict[Ruleset, str] = {
    "tuned": "Tuned: by Optuna, on every workload",
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
        title: What it is about.
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
    """Return what the runs were: suite, budget, seeds, reference, versions; one item per line."""
    suite = f"{standings.suite}@{standings.suite_hash}" + (", custom settings" if standings.custom else "")
    lines = [f"Suite {suite}: {_count(len(standings.workloads), 'workload')}, {_seeds(standings)}"]
    if standings.n_trials:
        trials = _count(standings.n_trials[-1], "trial")
        if len(standings.n_trials) > 1:
            trials = f"{standings.n_trials[0]} to {trials}"
        n_studies = min(standings.studies.values(), default=0)
        studies = f" in each of {n_studies} studies" if n_studies > 1 else ""
        lines[0] += f", {trials} of tuning per workload{studies}"
    lines[0] += "."
    own = len(standings.workloads) - len(standings.committed)
    source = {0: "the committed one", len(standings.workloads): f"tuned {REFERENCE} of these records"}.get(
        own, f"the committed one, on {_count(own, 'workload')} tuned {REFERENCE} of these records"
    )
    versions = ", ".join(f"{package} {'/'.join(found)}" for package, found in standings.versions.items())
    return [*lines, f"Reference: {source}", *([f"Versions: {versions}"] if versions else [])]


def claims(standings: Standings) -> list[str]:
    """Return what the runs were, and, where it is too little to claim anything, that."""
    lines = header(standings)[:1]
    if standings.n_trials and standings.n_trials[0] < _CLAIM_TRIALS:
        lines.append(f"{_count(standings.n_trials[0], 'trial')}: no claim rests on it.")
    return lines


def footer(standings: Standings) -> list[str]:
    """Return how to read the tables, and what they cannot carry; one sentence or two per line."""
    lines = [
        f"Score 0 = Optuna-tuned {REFERENCE}; +10 = a test loss about 10 % lower. IQM = interquartile mean over runs x "
        "workloads. [..] = 95 % stratified bootstrap interval.",
        "Rank = 1 + entries that are significantly better; = ties. P(better) = probability of beating tuned "
        f"{REFERENCE} on the same seed. Speed-up = to its median final validation loss. Oracle = best entry per "
        "workload in hindsight.",
    ]
    lines += _tuning_again(standings.studies)
    if standings.n_seeds[0] < _FEW_SEEDS:
        seeds = _count(standings.n_seeds[0], "report seed")
        few = "so few make bootstrap intervals too narrow" if standings.n_seeds[0] > 1 else "there are no intervals"
        lines.append(f"{seeds}: {few}.")
    if any(row.open_optimizer for rows in standings.tables.values() for row in rows):
        lines.append(
            f"{OPEN_OPTIMIZER} Open-optimizer: replaces the workload's optimizer by a released one of its own."
        )
    lines += claims(standings)[1:]
    if standings.custom:
        lines.append("Custom: these runs are not at the suite's own settings and compare with nothing else.")
    return [*lines, *standings.notes]


def _tuning_again(studies: Mapping[str, int]) -> list[str]:
    """Return what of the luck of tuning the intervals of tuned entries cover, given how often each was tuned."""
    if not studies:
        return []
    fewest, most = min(studies.values()), max(studies.values())
    if most == 1:
        return ["Intervals are conditional on one tuning study per workload: tuning again is not part of them."]
    if fewest == most:
        return [f"Intervals cover {most} independent tuning studies per workload."]
    several = ", ".join(f"{name} ({n})" for name, n in sorted(studies.items()) if n > 1)
    others = "; of other tuned entries there is one per workload, and tuning again is not part of their intervals"
    return [f"Intervals cover the tuning studies of {several}{others if fewest == 1 else ''}."]


def main_table(standings: Standings, ruleset: Ruleset) -> TextTable:
    """Return a ruleset's ranking: one row per entry, the best highlighted, reference rows and the oracle below.

    Entry, rank and score are highlighted for all that nobody is significantly better than.
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
    """Return how the entries of a ruleset's table did on each workload, lowest median loss first and highlighted."""
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
    title = f"{ruleset.capitalize()}, workload by workload: median loss and error, mean score"
    return TextTable(title, columns, tuple(cells), frozenset(best), frozenset(faint), frozenset(rules))


def entry_label(row: Row, ruleset: Ruleset, n_workloads: int | None = None) -> str:
    """Return an entry's name with what it is marked by.

    That is `OPEN_OPTIMIZER`, a star for what is committed, its ruleset in the other one's table, and how many workloads
    it has if not all.
    """
    label = row.entry + OPEN_OPTIMIZER * row.open_optimizer + "*" * row.baseline
    if row.ruleset != ruleset:
        label += " (tuned)"
    if n_workloads is not None and row.n_workloads < n_workloads:
        label += f" ({row.n_workloads}/{n_workloads})"
    return label


def estimate(value: float | None, low: float | None, high: float | None, form: str = "+z.1f") -> str:
    """Return a value with its interval, where there is one, in the form of scores or another; `-` for None."""
    text = _number(value, form)
    return text if low is None or high is None else f"{text} [{_number(low, form)}, {_number(high, form)}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _speed_up(value: float | None) -> str:
    return "missed" if value == 0 else _number(value, ".2f") + ("" if value is None else "x")


def _largest(values: Sequence[float | None]) -> list[int]:
    top = max((value for value in values if value is not None), default=None)
    return [index for index, value in enumerate(values) if value is not None and value == top]


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _seeds(standings: Standings) -> str:
    low, high = standings.n_seeds[0], standings.n_seeds[-1]
    return _count(high, "report seed") if low == high else f"{low} to {_count(high, 'report seed')}"
