"""Results of a single workload while the others are still trained: median test losses, without scores and ranks."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.core.errors import UserError
from ganno_bench.core.records import RunRecord
from ganno_bench.leaderboard.tables import Column, TextTable, count
from ganno_bench.leaderboard.terms import BASELINE
from ganno_bench.scoring.metrics import clipped_loss
from ganno_bench.scoring.reference import REFERENCE, read_reference

__all__ = ["best_entry", "committed_loss", "preliminary_table"]

_COMMITTED = f"{REFERENCE}{BASELINE}"


def preliminary_table(title: str, records: Iterable[RunRecord], committed: float | None = None) -> TextTable | None:
    """Return the entries with their median test losses, lowest first; None without report runs.

    Args:
        title: Start of the caption.
        records: All records of one workload.
        committed: Median test loss of the committed reference on these data, nats, for records without a reference.
    """
    losses = _losses(records)
    if not losses:
        return None
    medians = _medians(losses, committed)
    columns = [Column("Entry", numeric=False), Column("Test loss (nats)")]
    if _reference(medians) is not None:
        columns.append(Column(f"Against {REFERENCE}"))
    rows = tuple((name, f"{loss:.4f}", _against(loss, medians))[: len(columns)] for name, loss in medians.items())
    seeds = count(max(map(len, losses.values())), "report seed")
    caption = f"{title}, median test loss over {seeds}"
    if _COMMITTED in medians:
        caption += f" ({BASELINE}: committed result)"
    lowest = frozenset((0, column) for column in (0, 1))
    return TextTable(caption, tuple(columns), rows, lowest, frozenset(), frozenset())


def best_entry(records: Iterable[RunRecord], committed: float | None = None) -> str:
    """Return the entry with the lowest median test loss on one workload, with that loss, as text.

    Args:
        records: See `preliminary_table`.
        committed: See `preliminary_table`.
    """
    losses = _losses(records)
    if not losses:
        return "no entry has results"
    name, loss = next(iter(_medians(losses).items()))
    medians = _medians(losses, committed)
    text = f"lowest median test loss: {name}, {loss:.4f} nats"
    if name != REFERENCE and _reference(medians) is not None:
        text += f", {_against(loss, medians)} against {REFERENCE}"
    return text


def committed_loss(records: Sequence[RunRecord]) -> float | None:
    """Return the committed reference's median test loss, in nats, on the data of records of one workload.

    None if none is committed for these data, or the records are custom. A damaged file counts as none: the tables at
    the end of the run report it.
    """
    if not records or records[0].custom:
        return None
    try:
        values = read_reference(records[0].suite_hash, BaselineFolder().reference).get(records[0].workload)
    except UserError:
        return None
    return None if values is None or values.fingerprint != records[0].dataset_fingerprint else values.loss


def _losses(records: Iterable[RunRecord]) -> dict[str, list[float]]:
    losses: dict[str, list[float]] = {}
    for record in records:
        if record.role == "report":
            losses.setdefault(record.scheduler, []).append(clipped_loss(record))
    return losses


def _medians(losses: dict[str, list[float]], committed: float | None = None) -> dict[str, float]:
    medians = {name: statistics.median(values) for name, values in losses.items()}
    if committed is not None and REFERENCE not in medians:
        medians[_COMMITTED] = committed
    return dict(sorted(medians.items(), key=lambda item: (item[1], item[0])))


def _reference(medians: dict[str, float]) -> float | None:
    return medians.get(REFERENCE, medians.get(_COMMITTED))


def _against(loss: float, medians: dict[str, float]) -> str:
    reference = _reference(medians)
    return f"{100 * (loss / reference - 1):+z.1f} %" if reference else "-"
