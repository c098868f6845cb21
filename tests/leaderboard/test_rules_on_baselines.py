"""The committed baselines are valid submissions: the rules refuse nothing that the benchmark itself produces."""

from __future__ import annotations

from pathlib import Path

import pytest

from ganno_bench.baselines.files import BaselineFolder, read_lines, record_lines, study_lines
from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.known import KnownSuites
from ganno_bench.leaderboard.plausible import record_faults
from ganno_bench.leaderboard.rules import derived
from ganno_bench.leaderboard.submissions import Submission
from ganno_bench.leaderboard.untrusted import parse_model
from ganno_bench.leaderboard.validate import check_submission
from ganno_bench.schedulers.registry import load_scheduler

SUITES = KnownSuites()
GRAPH = SUITES.load("graph")


@pytest.mark.parametrize("suite", ["graph", pytest.param("vision", marks=pytest.mark.slow(group="pages"))])
def test_no_committed_record_is_impossible(suite: str) -> None:
    known = SUITES.load(suite)
    assert known.baselines.records
    assert [fault for record in known.baselines.records for fault in record_faults(record, known)] == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            pytest.param(name, marks=pytest.mark.slow(group="pages"))
            for name in ("wsd", "wsd@default", "schedule-free")
        ),
        "hypergradient",
        "policy:ganno",
    ],
)
def test_a_committed_baseline_would_be_a_valid_submission(name: str, tmp_path: Path) -> None:
    folder = BaselineFolder()
    content = folder.read_toml(folder.toml(name))
    records = list(read_lines(RunRecord, folder.records("graph", name)))
    studies = list(read_lines(StudyRecord, folder.studies("graph", name)))
    facts = derived(records, studies, GRAPH)
    data = {
        "name": "mine",
        "description": "A baseline.",
        "suite": "graph",
        "suite_hash": GRAPH.suite.hash,
        "ruleset": content.ruleset,
        "scheduler": content.name,
        "ref": content.ref,
        "code": content.code,
        "studies": [0],
        "date": facts["date"],
        "open_optimizer": {
            GRAPH.workloads[r.workload].optimizer.name: r.open_optimizer for r in records if r.open_optimizer
        },
        "cost": {
            "updates": facts["cost.updates"], "tuning_updates": facts["cost.tuning_updates"], "wall_seconds": 1e6
        },
        "versions": facts["versions"],
        "search_space": {key: content.search_space[key] for key in GRAPH.optimizers} if studies else {},
    }  # fmt: skip
    if name.startswith("policy:"):
        data["policy"] = load_scheduler(content.ref).cls.policy.card.model_dump(mode="json")  # type: ignore[attr-defined]
    info, wrong = parse_model(Submission, data)
    assert info is not None, wrong
    (tmp_path / "submission.toml").write_text(info.text())
    (tmp_path / "records.jsonl").write_text(record_lines(records))
    if studies:
        (tmp_path / "studies.jsonl").write_text(study_lines(studies))
    verdict = check_submission(tmp_path, "graph", "mine", SUITES, name)
    assert verdict.faults == []
    assert "50 report runs on 5 workloads" in verdict.summary
