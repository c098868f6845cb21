"""Compute the content of the site's pages: boards in, the variables of a template out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup, escape

from ganno_bench.core.records import RunRecord
from ganno_bench.leaderboard.bars import Scale, scale_of
from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.drawings import Drawing
from ganno_bench.leaderboard.panels import (
    budget_panel,
    entry_loss_panel,
    entry_rate_panel,
    ladder_panels,
    loss_panel,
    profile_panels,
    robustness_panels,
)
from ganno_bench.leaderboard.picks import Choice, rank_label, suite_choices
from ganno_bench.leaderboard.robustness_tables import robustness_footer, robustness_table
from ganno_bench.leaderboard.seen import seen_in_training
from ganno_bench.leaderboard.style import Look
from ganno_bench.leaderboard.tables import OPEN_OPTIMIZER, TextTable, claims, entry_label, footer, main_table
from ganno_bench.leaderboard.text import href, minus, page_name, short
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Cell, Row
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["entry_page", "entry_path", "index_page", "suite_page", "suite_path", "workload_page", "workload_path"]

_Key = tuple[str, str]


def suite_path(suite: str) -> str:
    """Return the path of a suite's page below the site."""
    return f"{page_name(suite)}/index.html"


def entry_path(suite: str, ruleset: str, entry: str) -> str:
    """Return the path of an entry's page below the site."""
    return f"{page_name(suite)}/{ruleset}/{page_name(entry)}.html"


def workload_path(suite: str, workload: str) -> str:
    """Return the path of a workload's page below the site."""
    return f"{page_name(suite)}/workloads/{page_name(workload)}.html"


@dataclass(frozen=True)
class _Pick:
    """A suite on the first page."""

    board: Board
    href: str
    choices: Sequence[Choice]
    scale: Scale
    meta: str


def index_page(boards: Sequence[Board], pending: Sequence[str]) -> dict[str, Any]:
    """Return the variables of the first page."""
    picks = []
    chosen = [choice.row for board in boards for choice in suite_choices(board)]
    scale = scale_of(bound for row in chosen for bound in (row.iqm, row.iqm_low, row.iqm_high))
    for board in boards:
        choices = [
            replace(choice, href=href(entry_path(board.name, choice.row.ruleset, choice.row.entry)))
            for choice in suite_choices(board)
        ]
        meta = " ".join(claims(board.standings)).partition(": ")[2]
        if board.left_out:
            n_workloads = len(board.suite.workload)
            meta += f" {len(board.left_out)} of {n_workloads} are left out until every baseline has finished them."
        picks.append(_Pick(board, href(suite_path(board.name)), choices, scale, meta))
    sources = [source for board in boards for source in [*_entry_sources(board), board.reference_file]]
    return {
        "picks": picks,
        "pending": list(pending),
        "boards": boards,
        "across": _across(boards),
        "sources": list(dict.fromkeys(sources)),
    }


def _across(boards: Sequence[Board]) -> dict[str, list[dict[str, Any]]]:
    """Return ruleset -> a line for each entry with its row in every suite.

    Entries with the most suites come first, among them those with the best mean score.
    """
    found: dict[str, dict[str, list[dict[str, Any] | None]]] = {"tuned": {}, "zero-shot": {}}
    for column, board in enumerate(boards):
        for (ruleset, entry), row in board.rows.items():
            cells = found[ruleset].setdefault(entry, [None] * len(boards))
            path = href(entry_path(board.name, ruleset, entry))
            cells[column] = {"row": row, "rank": rank_label(board, row), "href": path}

    def order(item: tuple[str, list[dict[str, Any] | None]]) -> tuple[int, float, str]:
        scores = [cell["row"].iqm for cell in item[1] if cell]
        return len(boards) - len(scores), -sum(scores) / len(scores), item[0]

    return {
        ruleset: [{"name": name, "cells": cells} for name, cells in sorted(lines.items(), key=order)]
        for ruleset, lines in found.items()
        if lines
    }


def suite_page(board: Board) -> dict[str, Any]:
    """Return the variables of a suite's page."""
    standings = board.standings
    tables = []
    for ruleset, rows in standings.tables.items():
        lines = []
        for row in rows:
            entry = board.entries.get((row.ruleset, row.entry)) if row.kind != "oracle" else None
            path = href(f"{row.ruleset}/{page_name(row.entry)}.html") if entry else ""
            label = entry_label(replace(row, open_optimizer=False), ruleset, len(standings.workloads))
            lines.append({"row": row, "entry": entry, "href": path, "label": label, "rank": rank_label(board, row)})
        tables.append({"ruleset": ruleset, "title": main_table(standings, ruleset).title, "lines": lines})
    return {
        "board": board,
        "claims": " ".join(claims(standings)),
        "tables": tables,
        "scale": _scale(board),
        "notes": [line for line in footer(standings) if not line.startswith(OPEN_OPTIMIZER)],  # pages spell it out
        "looks": list(board.looks.values()),
        "ladders": ladder_panels(board),
        "budget": budget_panel(board, standings.workloads, _mean_of(standings.workloads), "budget", wide=True),
        "profiles": profile_panels(board),
        "robust": robustness_panels(board),
        "robust_table": _robust_table(board),
        "matrices": [_matrix(board, ruleset) for ruleset in standings.tables if len(board.ranked(ruleset)) > 1],
        "workloads": [_workload_line(board, workload) for workload in standings.workloads],
        "sources": [*_entry_sources(board), board.reference_file],
    }


def _robust_table(board: Board) -> Markup:
    found = board.robustness
    if found is None:
        return Markup("")
    lines = Markup("").join(Markup("<li>{}</li>").format(line) for line in robustness_footer(found))
    return plain_table(robustness_table(found)) + Markup('<div class="notes"><ul>{}</ul></div>').format(lines)


def plain_table(table: TextTable) -> Markup:
    """Return a table of texts as HTML, in a box that scrolls."""

    def cells(values: Sequence[str], row: int | None) -> Markup:
        parts = []
        for at, value in enumerate(values):
            kind = "num" if table.columns[at].numeric else "text"
            shown = Markup("<b>{}</b>").format(value) if (row, at) in table.best else escape(value)
            tag, scope = ("th", "col") if row is None else ("th", "row") if at == 0 else ("td", "")
            attribute = Markup(' scope="{}"').format(scope) if scope else ""
            parts.append(Markup('<{0}{1} class="{2}"><bdi>{3}</bdi></{0}>').format(tag, attribute, kind, shown))
        return Markup("<tr>{}</tr>").format(Markup("").join(parts))

    head = cells([column.title for column in table.columns], None)
    numeric = [column.numeric for column in table.columns]
    rows = [
        [minus(cell) if number else short(cell) for cell, number in zip(row, numeric, strict=True)]
        for row in table.rows
    ]
    body = Markup("").join(cells(row, index) for index, row in enumerate(rows))
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table><thead>{}</thead><tbody>{}</tbody>'
        "</table></div>"
    ).format(table.title, head, body)


def _matrix(board: Board, ruleset: Any) -> dict[str, Any]:
    entries = [row.entry for row in board.ranked(ruleset)]
    duels = board.duels[ruleset]
    lines = [{"entry": entry, "duels": [duels.get((entry, rival)) for rival in entries]} for entry in entries]
    return {"ruleset": ruleset, "entries": entries, "lines": lines}


def _workload_line(board: Board, workload: str) -> dict[str, Any]:
    spec = board.suite.find_workload(workload)
    cells = [cell for _, cell in _cells(board, workload)]
    best = min(cells, key=lambda cell: (-cell.score, cell.entry))
    ties = sum(cell is not best and cell.score >= (best.score_low or best.score) for cell in cells)
    return {
        "spec": spec,
        "href": href(f"workloads/{page_name(workload)}.html"),
        "network": _network(spec),
        "reference": board.standings.reference[workload],
        "best": best,
        "ties": ties,
    }


def workload_page(board: Board, workload: str) -> dict[str, Any]:
    """Return the variables of a workload's page."""
    spec = board.suite.find_workload(workload)
    cells = sorted(_cells(board, workload), key=lambda pair: (pair[1].test_loss, pair[1].entry))
    runs = next(board.reports[*key, workload] for key, _ in cells)
    more = [
        *ladder_panels(board, workload),
        budget_panel(board, [workload], f"{workload}: score against tuning budget", "budget"),
        *robustness_panels(board, workload),
    ]
    return {
        "board": board,
        "spec": spec,
        "network": _network(spec),
        "reference": board.standings.reference[workload],
        "chance": runs[0].chance_loss,
        "looks": list(board.looks.values()),
        "losses": loss_panel(board, workload),
        "errors": any(cell.test_error is not None for _, cell in cells),
        "scale": scale_of(bound for _, cell in cells for bound in (cell.score, cell.score_low, cell.score_high)),
        "lines": [
            {
                "cell": cell,
                "row": board.rows[key],
                "entry": board.entries[key],
                "best": index == 0,
                "href": href(f"../{key[0]}/{page_name(key[1])}.html"),
            }
            for index, (key, cell) in enumerate(cells)
        ],
        "more": [panel for panel in more if panel is not None],
        "sources": [*_entry_sources(board), board.reference_file],
    }


@dataclass(frozen=True)
class _Run:
    """An entry on one workload."""

    cell: Cell
    href: str
    losses: Drawing
    rates: Drawing | None
    config: Mapping[str, float | int | str | bool]


def entry_page(board: Board, key: _Key) -> dict[str, Any]:
    """Return the variables of an entry's page."""
    entry, row = board.entries[key], board.rows[key]
    lines = [
        _Run(
            cell,
            href(f"../workloads/{page_name(workload)}.html"),
            entry_loss_panel(board, key, workload, f"loss-{index}"),
            entry_rate_panel(board, key, workload, f"rate-{index}"),
            board.reports[*key, workload][0].config,
        )
        for index, workload in enumerate(board.standings.workloads, 1)
        if (cell := board.standings.cells.get((*key, workload))) is not None
    ]
    cells = [line.cell for line in lines]
    runs = [run for line in lines for run in board.reports[*key, line.cell.workload]]
    reference: Sequence[Look] = [] if key == ("tuned", REFERENCE) else [board.looks["tuned", REFERENCE]]
    return {
        "board": board,
        "entry": entry,
        "row": row,
        "rank": rank_label(board, row),
        "n_ranked": len(board.ranked(entry.ruleset)),
        "is_reference": key == ("tuned", REFERENCE),
        "layerwise": any(line.rates is not None and "per layer" in line.rates.title for line in lines),
        "own_looks": [Look(entry.name, "#0072B2", dashed=False, prominent=True), *reference],
        "errors": any(cell.test_error is not None for cell in cells),
        "scale": scale_of(bound for cell in cells for bound in (cell.score, cell.score_low, cell.score_high)),
        "lines": lines,
        "seen": seen_in_training(board, entry),
        "config_keys": sorted(
            {key for line in lines for key in line.config}, key=lambda key: (key not in _FIRST_KEYS, key)
        ),
        "cost": _cost(runs),
        "n_studies": len({run.study for run in runs}),
        "provenance": _provenance(board, runs),
        "sources": [*entry.sources, *_reference_sources(board, key)],
    }


_FIRST_KEYS = ("base_lr", "weight_decay")


def _cost(runs: Sequence[RunRecord]) -> dict[str, Any]:
    tuning = {(run.workload, run.study): run.cost.tuning_updates for run in runs}
    devices = sorted({"one core" if run.provenance.device == "cpu" else run.provenance.device for run in runs})
    return {
        "tuning": sum(tuning.values()),
        "updates": sum(run.cost.updates for run in runs),
        "seconds": sum(run.cost.wall_seconds for run in runs),
        "device": " and ".join(devices),
    }


def _provenance(board: Board, runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    made = [run.provenance for run in runs]
    days = sorted({one.timestamp[:10] for one in made})
    versions: dict[str, set[str]] = defaultdict(set)
    for one in made:
        for package, version in one.versions.items():
            versions[package].add(version)
    data = {run.workload: run.dataset_fingerprint[:12] for run in runs}
    return [
        ("Suite", f"{board.name}@{board.suite.hash}"),
        ("Code", "; ".join(sorted({run.code for run in runs}))),
        ("Runs", f"{len(runs)}, made {days[0] if len(days) == 1 else f'{days[0]} to {days[-1]}'}"),
        ("Versions", ", ".join(f"{package} {'/'.join(sorted(found))}" for package, found in sorted(versions.items()))),
        ("Processor", "; ".join(sorted({one.cpu or one.device for one in made}))),
        ("Backend", ", ".join(sorted({f"{one.backend}, {one.threads} thread" for one in made}))),
        ("Data", ", ".join(f"{name} {found}…" for name, found in _by_value(data).items())),
    ]


def _by_value(data: Mapping[str, str]) -> dict[str, str]:
    """Return workloads -> fingerprint; workloads with the same fingerprint share a key."""
    groups: dict[str, list[str]] = defaultdict(list)
    for workload, fingerprint in data.items():
        groups[fingerprint].append(workload)
    return {"/".join(workloads): fingerprint for fingerprint, workloads in groups.items()}


def _cells(board: Board, workload: str) -> list[tuple[_Key, Cell]]:
    found = [(key, board.standings.cells.get((*key, workload))) for key in board.rows]
    return [(key, cell) for key, cell in found if cell is not None]


def _scale(board: Board) -> Scale:
    rows: list[Row] = [row for table in board.standings.tables.values() for row in table]
    return scale_of(bound for row in rows for bound in (row.iqm, row.iqm_low, row.iqm_high))


def _network(spec: WorkloadSpec) -> str:
    model = dict(spec.model)
    family, depth = str(model.pop("family")), model.pop("depth", None)
    details = [f"{key.replace('_', ' ')} {value}" for key, value in model.items()]
    return ", ".join([family, *([] if depth is None else [f"depth {depth}"]), *details])


def _mean_of(workloads: Sequence[str]) -> str:
    return f"mean of {len(workloads)} workloads" if len(workloads) > 1 else workloads[0]


def _entry_sources(board: Board) -> list[str]:
    return [source for key in board.rows for source in board.entries[key].sources]


def _reference_sources(board: Board, key: _Key) -> list[str]:
    own = board.entries.get(("tuned", REFERENCE))
    runs = [] if own is None or key == own.key else [source for source in own.sources if "/records/" in source]
    return [*runs, board.reference_file]
