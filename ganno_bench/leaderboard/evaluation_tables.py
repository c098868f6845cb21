"""Tables of how far a policy generalises, as text and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

import numpy as np

from ganno_bench.bench.evaluation import LAYERWISE, Evaluation
from ganno_bench.leaderboard.evaluation_plots import matrix_rows, varied_losses
from ganno_bench.leaderboard.robustness_tables import short_label
from ganno_bench.leaderboard.tables import Column, TextTable, estimate
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.robustness import OWN, Setting
from ganno_bench.scoring.transfer import Comparison, Summary, TransferCell, summarise, transfer_cells

__all__ = [
    "cell_table",
    "cells_of",
    "entry_table",
    "matrix_csv",
    "matrix_table",
    "robustness_csv",
    "robustness_table",
    "summary_table",
]

_CSV_COLUMNS = (
    "workload", "family", "depth", "dataset", "optimizer", "novelty", "rival", "best_layerwise", "policy_loss",
    "rival_loss", "score", "score_low", "score_high", "verdict", "seeds", "diverged",
)  # fmt: skip
_ROBUSTNESS_COLUMNS = (
    "workload", "entry", "factor", "multiple", "base_lr", "weight_decay", "seed", "val_loss", "status",
)  # fmt: skip


def cells_of(evaluation: Evaluation) -> tuple[TransferCell, ...]:
    """Return the transfer matrix, in the order of the suite."""
    workloads = [spec.id for spec in evaluation.suite.workload]
    return transfer_cells(evaluation.records, evaluation.policy, workloads, LAYERWISE)


def summary_table(evaluation: Evaluation, cells: Sequence[TransferCell]) -> TextTable:
    """Return mean scores and counts of cells won, tied and lost: over all cells, and by novelty."""
    groups = _groups(evaluation, cells)
    rows, best = [], set()
    for index, (label, own) in enumerate(groups.items()):
        row = [label, str(len(own))]
        rivals: list[list[Comparison]] = [
            [cell.cosine for cell in own],
            [cell.layerwise for cell in own if cell.layerwise is not None],
        ]
        for place, comparisons in enumerate(rivals):
            if not comparisons:
                row += ["-", "-"]
                continue
            summary = summarise(comparisons)
            row += [_with_interval(summary), f"{summary.wins} / {summary.ties} / {summary.losses}"]
            if summary.low is not None and summary.low > 0:
                best.add((index, 2 + 2 * place))
        rows.append(tuple(row))
    columns = (
        Column("Cells", numeric=False),
        Column("Number"),
        Column(f"vs tuned {REFERENCE}"),
        Column("won / tied / lost"),
        Column("vs best layerwise"),
        Column("won / tied / lost"),
    )
    return TextTable("Mean scores", columns, tuple(rows), frozenset(best), frozenset(), frozenset({1}))


def matrix_table(evaluation: Evaluation, cells: Sequence[TransferCell]) -> TextTable:
    """Return scores against tuned cosine: a row for each family and dataset, by increasing depth."""
    by_id = {cell.workload: cell for cell in cells}
    rows = matrix_rows(evaluation.suite.workload)
    n_columns = max(len(row) for own in rows.values() for row in own.values())
    lines: list[tuple[str, ...]] = []
    best, rules = set(), set()
    for family, own in rows.items():
        rules.add(len(lines))
        for label, row in own.items():
            line = [family, label]
            for depth, workload in sorted(row.items()):
                cell = by_id.get(workload)
                if cell is None:
                    line.append(f"{depth}: -")
                    continue
                mark = {"win": " won", "loss": " lost", "tie": ""}[cell.cosine.verdict]
                line.append(f"{depth}: {cell.cosine.score:+z.1f}{mark}")
                if cell.cosine.verdict == "win":
                    best.add((len(lines), len(line) - 1))
            lines.append((*line, *[""] * (2 + n_columns - len(line))))
    columns = (
        Column("Family", numeric=False),
        Column("Data, optimizer", numeric=False),
        *[Column("") for _ in range(n_columns)],
    )
    title = f"Depth: score against tuned {REFERENCE}"
    return TextTable(title, columns, tuple(lines), frozenset(best), frozenset(), frozenset(rules))


def entry_table(evaluation: Evaluation, cells: Sequence[TransferCell]) -> TextTable:
    """Return the mean score of every entry against tuned cosine, on the same cells."""
    groups = _groups(evaluation, cells)
    shown = [label for label in ("all", "seen", "unseen", "unknown") if label in groups]
    names = [evaluation.policy, *evaluation.rivals]
    names = [name for name in names if all(name in cell.losses for cell in cells)]
    means = {
        name: [float(np.mean([cell.score_of(name) for cell in groups[label]])) for label in shown] for name in names
    }
    names.sort(key=lambda name: -means[name][0])
    rows = tuple((name, *(f"{mean:+z.1f}" for mean in means[name])) for name in names)
    best = frozenset(
        (max(range(len(names)), key=lambda at: means[names[at]][column]), column + 1) for column in range(len(shown))
    )
    columns = (Column("Entry", numeric=False), *(Column(f"{label} ({len(groups[label])})") for label in shown))
    return TextTable("Policy and rivals", columns, rows, best, frozenset(), frozenset())


def cell_table(evaluation: Evaluation, cells: Sequence[TransferCell]) -> TextTable:
    """Return a row for each cell: novelty, losses, scores with confidence intervals."""
    others = [name for name in evaluation.rivals if name not in (REFERENCE, *LAYERWISE)]
    rows, best = [], set()
    for index, cell in enumerate(cells):
        shown = [cell.cosine, cell.layerwise, *(cell.against.get(name) for name in others)]
        scores = [_with_interval(comparison) for comparison in shown]
        if cell.layerwise is not None:
            scores[1] += f" {cell.layerwise.rival}"
        best |= {(index, 4 + at) for at, found in enumerate(shown) if found is not None and found.verdict == "win"}
        losses = [f"{cell.losses[name]:.3g}" for name in (evaluation.policy, REFERENCE)]
        news = evaluation.novelty[cell.workload]
        diverged = f"{cell.diverged}/{cell.n_seeds}" if cell.diverged else ""
        rows.append((cell.workload, news.label, *losses, *scores, diverged, news.reason))
    columns = (
        Column("Workload", numeric=False),
        Column("In training", numeric=False),
        Column("Loss"),
        Column(f"Tuned {REFERENCE}"),
        Column(f"vs tuned {REFERENCE}"),
        Column("vs best layerwise"),
        *(Column(f"vs {name}") for name in others),
        Column("Diverged"),
        Column("Reason", numeric=False),
    )
    return TextTable("Cell by cell", columns, tuple(rows), frozenset(best), frozenset(), frozenset())


def robustness_table(evaluation: Evaluation) -> TextTable:
    """Return median final validation losses with every start, a row for each workload and entry."""
    keys = dict.fromkeys((run.workload, run.scheduler) for run in evaluation.robustness)
    losses = {key: varied_losses(evaluation, *key) for key in keys}
    settings = sorted(
        {setting for found in losses.values() for setting in found},
        key=lambda setting: (setting.factor == "weight_decay", setting.multiple),
    )
    rows = [
        (*key, *(f"{np.median(found[setting]):.3g}" if setting in found else "-" for setting in settings))
        for key, found in losses.items()
    ]
    columns = (
        Column("Workload", numeric=False),
        Column("Entry", numeric=False),
        *(Column("default" if setting == OWN else short_label(setting)) for setting in settings),
    )
    return TextTable("Robustness", columns, tuple(rows), frozenset(), frozenset(), frozenset())


def robustness_csv(evaluation: Evaluation) -> str:
    """Return a line for each run: losses in nats, at most chance; the factor is empty if nothing was changed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_ROBUSTNESS_COLUMNS)
    for run in evaluation.robustness:
        setting, config = Setting.of(run), run.config
        start = (setting.factor, setting.multiple, config["base_lr"], config["weight_decay"])
        writer.writerow((run.workload, run.scheduler, *start, run.seed, run.objective, run.status))
    return out.getvalue()


def matrix_csv(evaluation: Evaluation, cells: Sequence[TransferCell]) -> str:
    """Return a line for each cell and rival: losses in nats, scores with confidence intervals; empty if unknown."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in cells:
        spec = evaluation.suite.find_workload(cell.workload)
        for rival, comparison in sorted(cell.against.items(), key=lambda item: evaluation.rivals.index(item[0])):
            numbers = {
                "policy_loss": cell.losses[evaluation.policy],
                "rival_loss": cell.losses[rival],
                "score": comparison.score,
                "score_low": comparison.low,
                "score_high": comparison.high,
            }
            writer.writerow(
                {
                    "workload": cell.workload,
                    "family": spec.model["family"],
                    "depth": spec.model.get("depth", ""),
                    "dataset": spec.dataset,
                    "optimizer": spec.optimizer.name,
                    "novelty": evaluation.novelty[cell.workload].label,
                    "rival": rival,
                    "best_layerwise": str(cell.layerwise is not None and cell.layerwise.rival == rival).lower(),
                    "verdict": comparison.verdict,
                    "seeds": cell.n_seeds,
                    "diverged": cell.diverged,
                    **{name: "" if value is None else format(value, ".6g") for name, value in numbers.items()},
                }
            )
    return out.getvalue()


def _groups(evaluation: Evaluation, cells: Sequence[TransferCell]) -> dict[str, list[TransferCell]]:
    """Return the cells by novelty: all, seen, unseen, and each kind of unseen; empty groups are left out."""
    news = {cell.workload: evaluation.novelty[cell.workload] for cell in cells}
    kinds: dict[str, Callable[[str], bool]] = {
        "all": lambda name: True,
        "seen": lambda name: news[name].seen,
        "unseen": lambda name: news[name].known and not news[name].seen,
    }
    found = {label: [cell for cell in cells if wanted(cell.workload)] for label, wanted in kinds.items()}
    for cell in cells:
        if not news[cell.workload].seen:
            found.setdefault(news[cell.workload].label, []).append(cell)
    return {label: own for label, own in found.items() if own}


def _with_interval(found: Summary | Comparison | None) -> str:
    return "-" if found is None else estimate(found.score, found.low, found.high)
