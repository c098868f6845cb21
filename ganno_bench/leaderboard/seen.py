"""What of a workload a shipped policy has seen in training; the protocol asks for it beside every score of a policy."""

from __future__ import annotations

from ganno_bench.bench.novelty import novelty
from ganno_bench.core.errors import UserError
from ganno_bench.leaderboard.board import Board
from ganno_bench.leaderboard.entries import Entry

__all__ = ["seen_in_training"]

_LEARNED = ("policy", "mean-curve", "profile", "curve-profile", "without")
"""Kinds of entries that carry what a policy learned; an untrained one, or random actions, do not."""


def seen_in_training(board: Board, entry: Entry) -> dict[str, str]:
    """Return workload -> `seen`, or what is new there, for baselines made from a shipped policy; empty for others."""
    kind, _, rest = entry.name.partition(":")
    if entry.origin != "baseline" or not rest or kind not in _LEARNED:
        return {}
    from ganno_bench.policies.policy import load_policy
    from ganno_bench.schedulers.policy import find_policy

    try:
        card = load_policy(find_policy(rest.rpartition(":")[2])).card
    except UserError:  # it is no longer shipped
        return {}
    found = {}
    for workload in board.standings.workloads:
        runs = board.reports.get((*entry.key, workload))
        if runs:
            spec = board.suite.find_workload(workload)
            dataset = board.suite.dataset[spec.dataset]
            found[workload] = novelty(card, spec, dataset, runs[0].dataset_fingerprint).label
    return found
