"""What is new about a workload to a policy; the protocol requires it next to every score of a policy."""

from __future__ import annotations

from ganno_bench.bench.novelty import novelty
from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.entries import Entry

__all__ = ["seen_in_training"]


def seen_in_training(board: Board, entry: Entry) -> dict[str, str]:
    """Return workload -> `seen` or the new parts; empty for an entry without a policy's card."""
    if entry.card is None:
        return {}
    found = {}
    for workload in board.standings.workloads:
        if runs := board.reports.get((*entry.key, workload)):
            spec = board.suite.find_workload(workload)
            dataset = board.suite.dataset[spec.dataset]
            found[workload] = novelty(entry.card, spec, dataset, runs[0].dataset_fingerprint).label
    return found
