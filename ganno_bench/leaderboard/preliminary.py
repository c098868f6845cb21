"""Results of a single workload while the others are still trained: median test losses, without scores and ranks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from ganno_bench.core.records import RunRecord
from ganno_bench.leaderboard.tables import Column, TextTable, count
from ganno_bench.scoring.metrics import clipped_loss
from ganno_bench.scoring.reference import REFERENCE

__all__ = ["best_entry", "preliminary_table"]


def preliminary_table(title: str, records: Iterable[RunRecord]) -> TextTable | None:
    """Return the entries with their median test losses, lowest first; None without report runs.

    Args:
        title: Start of the caption.
        records: All records of one workload.
    """
    losses = _losses(records)
    if not losses:
        return None
    medians = _medians(losses)
    columns = [Column("Entry", numeric=False), Column("Test loss (nats)")]
    if REFERENCE in medians:
        columns.append(Column(f"Against {REFERENCE}"))
    rows = tuple((name, f"{loss:.4f}", _against(loss, medians))[: len(columns)] for name, loss in medians.items())
    seeds = count(max(map(len, losses.values())), "report seed")
    caption = f"{title}, median test loss over {seeds}"
    lowest = frozenset((0, column) for column in (0, 1))
    return TextTable(caption, tuple(columns), rows, lowest, frozenset(), frozenset())


def best_entry(records: Iterable[RunRecord]) -> str:
    """Return the entry with the lowest median test loss on one workload, with that loss, as text."""
    medians = _medians(_losses(records))
    if not medians:
        return "no entry has results"
    name, loss = next(iter(medians.items()))
    text = f"lowest median test loss: {name}, {loss:.4f} nats"
    if name != REFERENCE and REFERENCE in medians:
        text += f", {_against(loss, medians)} against {REFERENCE}"
    return text


def _losses(records: Iterable[RunRecord]) -> dict[str, list[float]]:
    losses: dict[str, list[float]] = {}
    for record in records:
        if record.role == "report":
            losses.setdefault(record.scheduler, []).append(clipped_loss(record))
    return losses


def _medians(losses: dict[str, list[float]]) -> dict[str, float]:
    medians = {name: statistics.median(values) for name, values in losses.items()}
    return dict(sorted(medians.items(), key=lambda item: (item[1], item[0])))


def _against(loss: float, medians: dict[str, float]) -> str:
    reference = medians.get(REFERENCE)
    return f"{100 * (loss / reference - 1):+z.1f} %" if reference else "-"
