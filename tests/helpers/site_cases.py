"""A leaderboard of made-up records: a suite with ladders, one that varies something, and an entry that means harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ganno_bench.core.records import LrTrace, RunRecord
from ganno_bench.leaderboard.board import Board, make_board
from ganno_bench.leaderboard.entries import Challenge, Entry
from ganno_bench.scoring.reference import is_reference, reference_values
from ganno_bench.workloads.suite import Suite
from tests.helpers.fake_records import ENTRIES, fake_benchmark
from tests.helpers.varied_records import varied_benchmark

HOSTILE = '<script>alert(1)</script>"><img src=x onerror=alert(2)>\u202egnol\u202c:' + "very" * 60
NO_TRACE = LrTrace(updates=(), layers=(), lr=())


def make_suite(name: str, workloads: Sequence[str]) -> Suite:
    return Suite.model_validate_json(
        Suite(
            name=name,
            description=f"Made-up runs of {name}.",
            schedulers=("cosine",),
            dataset={"digits": {"source": "digits", "task": "image-classification", "input": "x", "target": "y"}},
            workload=tuple(
                {
                    "id": workload,
                    "dataset": "digits",
                    "model": {"family": "mlp", "depth": 2, "width": 8},
                    "optimizer": {"name": "sgd"},
                    "batch_size": 8,
                    "n_updates": 400,
                }
                for workload in workloads
            ),
        ).model_dump_json()
    )


def make_entries(suite: Suite, records: Sequence[RunRecord], **changes: object) -> list[Entry]:
    """Return an entry for each scheduler among the records, all of them baselines."""
    found: dict[tuple[str, str], list[RunRecord]] = {}
    for record in records:
        named = record.model_copy(update={"suite": suite.name, "suite_hash": suite.hash})
        found.setdefault((record.ruleset, record.scheduler), []).append(named)
    return [
        Entry(
            suite=suite.name,
            name=name,
            ruleset=ruleset,
            description=f"Uses `{name}`.",
            url=None,
            origin="baseline",
            records=tuple(runs),
            studies=(),
            challenges=(),
            sources=(f"baselines/records/{suite.name}/{name}.jsonl.gz",),
            command=f"ganno-bench run {suite.name} --scheduler {name}",
        )
        for (ruleset, name), runs in found.items()
    ]


def board_of(suite: Suite, entries: Sequence[Entry]) -> Board:
    cosine = [run for entry in entries for run in entry.records if is_reference(run)]
    names = {run.workload for run in cosine}
    reference = {name: reference_values([run for run in cosine if run.workload == name]) for name in names}
    board = make_board(suite, entries, reference, "baselines/reference.json")
    assert board is not None
    return board


def ladder_entries() -> tuple[Suite, list[Entry]]:
    """Return three tuned entries and two zero-shot ones, one of them a submission that is hostile and challenged."""
    workloads = ["mlp-depth-2", "mlp-depth-16"]
    some = {name: ENTRIES[name] for name in ("cosine", "constant", "hypergradient", "ganno", "schedule-free")}
    suite = make_suite("ladder", workloads)
    entries = make_entries(suite, fake_benchmark(workloads, some, n_seeds=3, n_trials=4))
    *rest, last = entries
    assert last.name == "schedule-free"
    hostile = replace(
        last,
        name=HOSTILE,
        description=HOSTILE,
        url="javascript:alert(3)",
        origin="submission",
        records=tuple(r.model_copy(update={"scheduler": HOSTILE, "lr_trace": NO_TRACE}) for r in last.records),
        challenges=(
            Challenge(
                claim=HOSTILE,
                summary=HOSTILE,
                by=HOSTILE,
                date="2026-01-02",
                status="upheld",
                command=HOSTILE,
                url="https://example.org/why",
                source="leaderboard/challenges/1.toml",
            ),
        ),
        author=HOSTILE,
        sources=(f"leaderboard/submissions/{HOSTILE}.jsonl",),
        command=f"ganno-bench run ladder --scheduler '{HOSTILE}'",
    )
    return suite, [*rest, hostile]


def make_boards() -> list[Board]:
    """Return two suites; the second varies something and has no ladder."""
    varied = make_suite("varied", ["a", "b"])
    records = varied_benchmark({"cosine": 1.0, "wsd": 0.5, "ganno": 0.2}, zero_shot=["ganno"])
    return [board_of(*ladder_entries()), board_of(varied, make_entries(varied, records))]
