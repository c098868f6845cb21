"""Submissions: written from a run, read again, and refused."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from ganno_bench.baselines.files import BaselineFolder, place, read_baselines
from ganno_bench.core.errors import RecordError, SubmissionError, UserError
from ganno_bench.core.records import compact_record, read_records
from ganno_bench.core.studies import study_of
from ganno_bench.leaderboard.submissions import read_submissions
from ganno_bench.leaderboard.submit import _public, submit
from ganno_bench.leaderboard.validate import check_leaderboard
from ganno_bench.policies.policy import Policy, load_policy
from ganno_bench.schedulers.policy import find_policy
from ganno_bench.scoring.comparison import compare
from tests.helpers.resealed import reseal
from tests.helpers.submission_cases import WORKLOADS, World, edit, project
from tests.helpers.tiny_suite import SMALL, run_tiny, snapshot, write_suite


def test_what_is_submitted_is_what_was_run_and_validates(world: World) -> None:
    checked = check_leaderboard(world.root, world.suites)
    assert (checked.n_faults, [v.faults for v in checked.verdicts]) == (0, [[], []])
    read = read_submissions(world.root)
    assert [one.info.name for one in read] == ["frozen-wsd", "my-entry"]
    assert checked.submissions == read
    frozen, mine = read
    own = [r for r in read_records([world.path / "run"]) if r.scheduler == "mine" and r.workload in WORKLOADS]
    wanted = [compact_record(record) for record in own if record.role != "tuning"]
    assert mine.records == sorted(wanted, key=place)
    assert len(mine.records) == 2 * (3 + 2 * 2)
    assert {s.workload: s for s in mine.studies} == {w: study_of(r for r in own if r.workload == w) for w in WORKLOADS}
    assert (mine.info.ref, mine.info.scheduler, mine.info.ruleset) == ("mine.py:Mine", "mine", "tuned")
    assert mine.info.cost.tuning_updates == 2 * 3 * 2 * 6
    assert mine.info.cost.updates == 2 * (3 * 6 + 2 * 6 + 2 * 3)
    assert mine.info.cost.wall_seconds == pytest.approx(sum(r.cost.wall_seconds for r in own), abs=0.01)
    assert mine.info.versions == own[0].provenance.versions
    assert mine.info.search_space["sgd"]["kind"].model_dump() == {
        "distribution": "CategoricalDistribution", "choices": ("a", "b"), "default": "a"
    }  # fmt: skip
    assert (frozen.info.search_space, frozen.studies, frozen.info.cost.tuning_updates) == ({}, [], 0)
    assert sorted(path.name for path in world.frozen.iterdir()) == ["records.jsonl", "submission.toml"]


def test_it_is_scored_as_the_run_is(world: World) -> None:
    suite = world.suites.load("tiny").suite
    baselines = read_baselines("tiny", suite.hash, BaselineFolder(world.path / "baselines"))
    own = [r for r in read_records([world.path / "run"]) if r.scheduler == "mine"]
    expected = next(row for row in compare(own, baselines).standings().tables["tuned"] if row.entry == "mine")
    (mine,) = [one for one in read_submissions(world.root) if one.info.name == "my-entry"]
    rows = compare(mine.ranked_records, baselines).standings().tables["tuned"]
    there = next(row for row in rows if row.entry == "my-entry")
    assert there.iqm == pytest.approx(expected.iqm, abs=1e-9)
    verdict = next(v for v in check_leaderboard(world.root, world.suites).verdicts if v.name.endswith("my-entry"))
    assert verdict.summary == f"tuned, 6 report runs on 2 workloads, 0 diverged; score {expected.iqm:+.1f}"
    assert {study.scheduler for study in mine.ranked_studies} == {"my-entry"}


def test_a_single_submission_is_checked_by_its_folder(world: World) -> None:
    checked = check_leaderboard(world.mine, world.suites)
    assert [one.info.name for one in checked.submissions] == ["my-entry"]


def test_nothing_private_is_submitted(world: World) -> None:
    text = "".join(file.read_text() for file in world.mine.iterdir())
    assert str(world.path) not in text
    assert {record.provenance.host for one in read_submissions(world.root) for record in one.records} == {""}
    assert _public("./here/file.py:Name(lr=0.1)") == "file.py:Name(lr=0.1)"
    assert _public("default:/home/me/file.py:Name") == "default:file.py:Name"
    assert _public("policy:runs/train/mine/policy") == "policy:policy"
    assert _public("without:log-layers:/home/me/mine") == "without:log-layers:mine"
    assert _public("torch:ExponentialLR(gamma=0.99)") == "torch:ExponentialLR(gamma=0.99)"
    assert _public("cosine") == "cosine"


def test_a_policy_brings_its_card(copy: World) -> None:
    run_tiny(copy.path / "suites" / "tiny.toml", copy.path / "learned", schedulers=["policy:ganno-anchored"])
    copy.submit("learned", run="learned")
    assert copy.faults() == []
    (learned,) = [one for one in read_submissions(copy.root) if one.info.name == "learned"]
    assert learned.info.policy is not None
    assert learned.info.policy.name == "ganno-anchored"
    assert learned.info.policy.training.env_steps > 0
    assert learned.info.scheduler == "policy:ganno-anchored"
    edit(
        copy.root / "submissions" / "tiny" / "learned" / "submission.toml",
        '[policy]\nname = "ganno-anchored"',
        '[policy]\nname = "x"',
    )
    assert copy.faults() == [
        "submissions/tiny/learned/submission.toml: key 'policy.name': must be the name in 'policy:ganno-anchored' "
        "(value: 'x')"
    ]


def test_another_policy_with_a_shipped_name_may_be_submitted(copy: World) -> None:
    shipped = load_policy(find_policy("ganno-anchored"))
    own = Policy(shipped.card.model_copy(update={"interval": 20}), shipped.actor)
    own.save(copy.path / "policy")
    run_tiny(copy.path / "suites" / "tiny.toml", copy.path / "own", schedulers=[f"policy:{copy.path}/policy"])
    copy.submit("own", run="own")
    assert copy.faults() == []
    (submitted,) = [one for one in read_submissions(copy.root) if one.info.name == "own"]
    assert submitted.info.scheduler == f"policy:ganno-anchored@{own.hash[:8]}"


def test_an_open_optimizer_keeps_its_mark(copy: World) -> None:
    run_tiny(copy.path / "suites" / "tiny.toml", copy.path / "free", schedulers=["schedule-free"])
    copy.submit("free", run="free")
    assert copy.faults() == []
    (free,) = [one for one in read_submissions(copy.root) if one.info.name == "free"]
    marks = {"sgd": "schedulefree.SGDScheduleFree", "adam": "schedulefree.AdamWScheduleFree"}
    assert free.info.open_optimizer == marks
    toml = copy.root / "submissions" / "tiny" / "free" / "submission.toml"
    edit(toml, 'sgd = "schedulefree.SGDScheduleFree"\n', "")
    assert copy.faults()[0] == (
        "submissions/tiny/free/records.jsonl:8: key 'open_optimizer': must be None, as in submission.toml "
        "(value: 'schedulefree.SGDScheduleFree')"
    )


def test_two_studies_are_one_submission(copy: World) -> None:
    suite, both = copy.path / "suites" / "tiny.toml", [copy.path / "run", copy.path / "second"]
    run_tiny(suite, both[1], schedulers=[copy.plugin], study=1)
    submit(both, copy.root / "submissions", name="twice", description="Two.", scheduler="mine", suites=copy.suites)
    assert copy.faults() == []
    (twice,) = [one for one in read_submissions(copy.root) if one.info.name == "twice"]
    assert twice.info.studies == (0, 1)
    assert len(twice.studies) == 4


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "run: has several schedulers; choose one with --scheduler (mine, wsd@default)"),
        ({"scheduler": "min"}, "run: has no scheduler 'min'; did you mean 'mine'?"),
        ({"run": "nowhere"}, "nowhere: is not a run directory: it has no config.toml"),
        ({"name": "my-entry", "scheduler": "mine"},
         "my-entry: exists; remove it, or give another --name"),
        ({"name": "../x", "scheduler": "mine"},
         "submission.toml: key 'name': must have lower-case letters and digits, with single dots and hyphens "
         "between, at most 64 in all (value: '../x')"),
        ({"name": "cosine", "scheduler": "mine"},
         "cosine/submission.toml: key 'name': a committed baseline of the suite has this name; choose another (value: "
         "'cosine')"),
        ({"url": "javascript:alert(1)", "scheduler": "mine"}, "(value: 'javascript:alert(1)')"),
        ({"description": "a\x1b[31m", "scheduler": "mine"},
         "another/submission.toml: key 'description': has the character U+001B, which cannot be printed"),
    ],
)  # fmt: skip
def test_invalid_submissions_are_refused(copy: World, said: dict[str, str], message: str) -> None:
    before = snapshot(copy.root)
    with pytest.raises(SubmissionError) as refused:
        copy.submit(**said)
    assert str(refused.value).endswith(message)
    assert "\n" not in str(refused.value)
    assert snapshot(copy.root) == before
    assert not list(copy.root.rglob(".new*"))


def test_a_custom_run_is_refused(copy: World) -> None:
    run_tiny(copy.path / "suites" / "tiny.toml", copy.path / "custom", schedulers=["wsd"], **SMALL)
    with pytest.raises(SubmissionError, match="custom: custom runs cannot be submitted; run without --trials, --"):
        copy.submit(run="custom")


def test_an_incomplete_run_is_refused(copy: World) -> None:
    records = copy.path / "run" / "records.jsonl"
    lines = records.read_text().splitlines(keepends=True)
    gone = [line for line in lines if json.loads(line)["scheduler"] == "mine" and json.loads(line)["role"] == "report"]
    records.write_text("".join(line for line in lines if line != gone[-1]))
    with pytest.raises(RecordError, match=r"run/records.jsonl:\d+: was not written after the lines before it: "):
        copy.submit(scheduler="mine")
    reseal(records)  # as a run of an earlier version was, which had no checksums
    with pytest.raises(SubmissionError, match="run: is incomplete: 1 of 13 runs of 'mine' on 'adam-mlp' are missing; "):
        copy.submit(scheduler="mine")
    assert not (copy.mine.parent / "another").exists()


def test_an_unknown_or_changed_suite_is_refused(copy: World) -> None:
    edit(copy.path / "run" / "config.toml", 'suite = "tiny"', 'suite = "tny"')
    with pytest.raises(UserError, match="unknown suite 'tny'; did you mean 'tiny'"):
        copy.submit(scheduler="mine")
    edit(copy.path / "run" / "config.toml", 'suite = "tny"', 'suite = "tiny"')
    edit(copy.path / "run" / "config.toml", 'suite_hash = "', 'suite_hash = "0')
    with pytest.raises(SubmissionError, match=r"run: suite 'tiny' must have hash .*, as in the project \(value: 0"):
        copy.submit(scheduler="mine")


def test_code_that_has_changed_is_refused(copy: World) -> None:
    config = tomllib.loads((copy.path / "run" / "config.toml").read_text())
    ref = next(entry["ref"] for entry in config["entries"] if entry["name"] == "mine")
    edit(copy.path / "mine.py", "Keeps the", "Keeps its")
    edit(copy.path / "run" / "config.toml", ref, copy.plugin)
    with pytest.raises(SubmissionError, match="run: the code of scheduler 'mine' has changed since"):
        copy.submit(scheduler="mine")


def test_what_validate_refuses_is_not_written(copy: World) -> None:
    records = copy.path / "run" / "records.jsonl"
    text = records.read_text()
    error = json.loads(next(line for line in text.splitlines() if '"report"' in line))["metrics"]["test_error"]
    records.write_text(text.replace(f'"test_error":{error}', '"test_error":1.5'))
    reseal(records)
    before = snapshot(copy.root)
    with pytest.raises(SubmissionError, match=r"key 'metrics.test_error': must be in \[0, 1\] \(value: 1.5\)"):
        copy.submit(scheduler="mine")
    assert snapshot(copy.root) == before


def test_a_suite_that_varies_nothing_and_has_no_reference(tmp_path: Path) -> None:
    other = World(tmp_path)
    (tmp_path / "suites").mkdir()
    suite = write_suite(tmp_path / "suites", ("trials = 6", "trials = 3"))
    with project(tmp_path):
        run_tiny(suite, tmp_path / "run", schedulers=["wsd"])
        assert other.submit("mine").verdict.summary == (
            "tuned, 6 report runs on 2 workloads, 0 diverged; no score, because no reference is committed"
        )
        assert other.faults() == []
