"""Committed baselines through the real code: written, merged, refused, compared with, verified."""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganno_bench import api
from ganno_bench.baselines import write
from ganno_bench.baselines.files import BaselineFolder, compare_with, read_baselines, slug, unslug
from ganno_bench.baselines.retrain import draw, retrain
from ganno_bench.baselines.verify import BaselineSuites, check_files
from ganno_bench.baselines.write import BaselineWriter
from ganno_bench.bench.runner import Settings
from ganno_bench.core.errors import BaselineError
from ganno_bench.core.files import read_file, replace_file
from ganno_bench.core.records import RunRecord, read_records
from ganno_bench.scoring.budget import budget_curves
from ganno_bench.scoring.reference import read_reference
from ganno_bench.workloads.suite import load_suite
from tests.helpers.resealed import resealed
from tests.helpers.tiny_suite import SUITE, WORKLOADS, run_tiny, snapshot, write_suite

pytestmark = pytest.mark.usefixtures("undrawn")

ENTRIES = ("cosine", "wsd", "default:cosine")
NAMES = ("cosine", "wsd", "cosine@default")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny suite, a finished run directory `out` and its `baselines`; read-only."""
    folder = tmp_path_factory.mktemp("made")
    suite = write_suite(folder)
    writer = BaselineWriter(BaselineFolder(folder / "baselines"))
    run_tiny(suite, folder / "out", schedulers=ENTRIES, on_finished=writer.write)
    assert writer.n_written == len(ENTRIES) * len(WORKLOADS)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """A copy of the folder that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def again(folder: Path, replace: bool = False, **settings: Any) -> BaselineWriter:
    """Resume the finished run and write its results."""
    writer = BaselineWriter(BaselineFolder(folder / "baselines"), replace=replace)
    run_tiny(folder / "tiny.toml", folder / "out", on_finished=writer.write, **{"schedulers": ENTRIES} | settings)
    return writer


def edit(file: Path, *edits: tuple[str, str]) -> None:
    """Replace the first occurrence of each text."""
    text = read_file(file).decode()
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new, 1)
    replace_file(file, resealed(text) if ".jsonl" in file.name else text)


def faults(folder: Path) -> list[str]:
    found = check_files(BaselineFolder(folder / "baselines"), BaselineSuites(str(folder / "tiny.toml")))
    return [fault.replace(f"{folder / 'baselines'}/", "").replace(load_suite(str(folder / "tiny.toml")).hash, "HASH")
            for fault in found]  # fmt: skip


def records_of(folder: Path, name: str) -> list[RunRecord]:
    return read_records([BaselineFolder(folder / "baselines").records("tiny", name)])


def test_names_of_files_lead_back_to_the_names_of_entries() -> None:
    names = [
        "cosine",
        "policy:ganno-anchored",
        "cosine@default",
        "untrained:policy:x",
        "torch:StepLR(gamma=0.5)",
        "a+b",
    ]
    slugs = [slug(name) for name in names]
    assert slugs[:3] == ["cosine", "policy+ganno-anchored", "cosine@default"]
    assert [unslug(stem) for stem in slugs] == names
    assert len(set(slugs)) == len(names)
    assert not any(set("/:\\()=' ") & set(stem) for stem in slugs)


def test_what_is_written(made: Path) -> None:
    assert {name for name in snapshot(made / "baselines") if not name.startswith(".")} == {
        "reference.json",
        *(f"{name}.toml" for name in NAMES),
        *(f"records/tiny/{name}.jsonl.gz" for name in NAMES),
        "studies/tiny/cosine.jsonl",
        "studies/tiny/wsd.jsonl",
    }
    own = read_records([made / "out"])
    for name in NAMES:
        reports = sorted((r for r in own if (r.scheduler, r.role) == (name, "report")), key=lambda r: r.workload)
        committed = records_of(made, name)
        assert [r.metrics for r in committed] == [r.metrics for r in reports]  # every digit
        assert [(r.workload, r.seed, r.config) for r in committed] == [(r.workload, r.seed, r.config) for r in reports]
        assert {r.provenance.host for r in committed} == {""}
        assert all(r.provenance.cpu for r in committed)
        assert {r.seed for r in committed if r.lr_trace.lr} == {0}
        assert all(
            len(f"{x:.15g}".lstrip("0.").replace(".", "")) <= 6 for r in committed for x in r.curve.val_loss if x
        )
    lines = [
        line for file in (made / "baselines" / "records").rglob("*.jsonl.gz") for line in read_file(file).splitlines()
    ]
    assert max(map(len, lines)) < 1500


def test_tuned_values_say_where_they_come_from(made: Path) -> None:
    content = tomllib.loads((made / "baselines" / "wsd.toml").read_text())
    assert (
        (made / "baselines" / "wsd.toml").read_text().startswith("# Generated, never edited by hand: ganno-bench tune ")
    )
    own = [r for r in read_records([made / "out"]) if (r.scheduler, r.workload) == ("wsd", "sgd-mlp")]
    (value,) = [value for value in content["value"] if value["workload"] == "sgd-mlp"]
    report = next(r for r in own if r.role == "report")
    winner = [r.objective for r in own if (r.role, r.trial) == ("tuning", report.trial)]
    assert value["config"] == report.config
    assert value["val_loss"] == sum(winner) / 2
    assert (value["winner"], value["trials"], value["tuning_seeds"], value["report_seeds"]) == (report.trial, 6, 2, 3)
    assert "TPE" in value["sampler"]
    assert value["versions"] == report.provenance.versions
    assert set(content["search_space"]) == {"sgd", "adam"}
    assert content["search_space"]["sgd"]["base_lr"] == {
        "distribution": "FloatDistribution", "low": 1e-4, "high": 10.0, "log": True, "default": 0.01,
    }  # fmt: skip
    frozen = tomllib.loads((made / "baselines" / "cosine@default.toml").read_text())
    assert [(v["trials"], v["sampler"], v["study"]) for v in frozen["value"]] == [(0, "", 0)] * 2
    assert "val_loss" not in frozen["value"][0]


def test_the_reference_is_the_median_of_cosine(made: Path) -> None:
    suite = load_suite(str(made / "tiny.toml"))
    reference = read_reference(suite.hash, made / "baselines" / "reference.json")
    for workload in WORKLOADS:
        runs = [r for r in records_of(made, "cosine") if r.workload == workload]
        assert reference[workload].loss == sorted(r.clipped(r.metrics.test_loss) for r in runs)[1]
        assert reference[workload].target == sorted(r.objective for r in runs)[1]
        assert reference[workload].fingerprint == runs[0].dataset_fingerprint


def test_budget_curves_need_no_tuning_records(made: Path) -> None:
    own = [r for r in read_records([made / "out"]) if r.role == "tuning"]
    folder = BaselineFolder(made / "baselines")
    committed = read_baselines("tiny", own[0].suite_hash, folder)
    assert not [r for r in committed.records if r.role == "tuning"]
    for from_records, from_studies in zip(budget_curves(own), budget_curves([], committed.studies), strict=True):
        assert (from_records.entry, from_records.workload) == (from_studies.entry, from_studies.workload)
        assert from_records.loss.tolist() == from_studies.loss.tolist()


def test_only_the_suite_at_hand_is_read(copy: Path) -> None:
    suite = load_suite(str(copy / "tiny.toml"))
    folder = BaselineFolder(copy / "baselines")
    (copy / "baselines" / "records" / "other").mkdir()
    replace_file(copy / "baselines" / "records" / "other" / "cosine.jsonl.gz", "rubbish")
    assert len(read_baselines("tiny", suite.hash, folder).records) == 18
    assert read_baselines("tiny", "beef", folder).records == []


def test_the_same_again_changes_nothing(copy: Path) -> None:
    before = snapshot(copy / "baselines")
    assert again(copy).n_written == 0
    assert snapshot(copy / "baselines") == before


def test_what_is_missing_is_added_and_the_order_of_writing_does_not_matter(copy: Path) -> None:
    before = snapshot(copy / "baselines")
    (copy / "baselines" / "wsd.toml").unlink()  # as a crash between two files would leave it
    records = copy / "baselines" / "records" / "tiny" / "cosine.jsonl.gz"
    lines = read_file(records).decode().splitlines(keepends=True)
    replace_file(records, "".join(line for line in lines if '"adam-mlp"' not in line))
    assert again(copy, schedulers=ENTRIES[::-1]).n_written == 3  # cosine on one workload, wsd on two
    after = snapshot(copy / "baselines")
    for name in before:
        assert after[name] == before[name], name


def test_another_result_is_refused_or_replaced(copy: Path) -> None:
    before = snapshot(copy / "baselines")
    changes = {
        "records/tiny/wsd.jsonl.gz": ('"test_loss":2', '"test_loss":1'),
        "studies/tiny/wsd.jsonl": ('"values":[2', '"values":[1'),
        "wsd.toml": ("val_loss = 2", "val_loss = 1"),
    }
    for name, change in changes.items():
        edit(copy / "baselines" / name, change)
        edited = snapshot(copy / "baselines")
        with pytest.raises(BaselineError) as caught:
            again(copy)
        assert "wsd.toml: wsd on 'adam-mlp' of tiny@" in str(caught.value)
        assert str(caught.value).endswith(", study 0: the committed result differs; use --replace to overwrite it")
        assert snapshot(copy / "baselines") == edited
        assert again(copy, replace=True).n_written == 1
        assert snapshot(copy / "baselines") == before


def test_results_of_other_code_are_refused_or_dropped(copy: Path) -> None:
    code = tomllib.loads((copy / "baselines" / "wsd.toml").read_text())["code"]
    for file in (copy / "baselines").rglob("wsd.*"):
        replace_file(file, read_file(file).decode().replace(code, "0" * 16))
    with pytest.raises(BaselineError, match=r"wsd\.toml: the code of scheduler 'wsd' has changed since \(0000"):
        again(copy)
    again(copy, replace=True)
    assert faults(copy) == []
    assert "0" * 16 not in (copy / "baselines" / "wsd.toml").read_text()


def test_a_name_with_dots_leads_back_to_its_file(copy: Path) -> None:
    for kind, ending in (("records", "jsonl.gz"), ("studies", "jsonl")):
        folder = copy / "baselines" / kind / "tiny"
        stray = folder / f"{slug('torch:StepLR(gamma=0.5)')}.{ending}"
        replace_file(stray, read_file(folder / f"wsd.{ending}").decode())
    found = [fault for fault in faults(copy) if ", which is missing" in fault]
    assert len(found) == 2
    assert all("belongs to torch+StepLR%28gamma%3D0.5%29.toml, which is missing" in fault for fault in found)


def test_a_second_study_is_added(copy: Path) -> None:
    before = snapshot(copy / "baselines")
    writer = BaselineWriter(BaselineFolder(copy / "baselines"))
    edited = write_suite(copy)
    run_tiny(edited, copy / "out-1", schedulers=["wsd", "default:cosine"], study=1, on_finished=writer.write)
    assert writer.n_written == 2  # what is not tuned has no second study
    after = snapshot(copy / "baselines")
    assert {name for name in before if before[name] != after[name]} == {
        "wsd.toml", "records/tiny/wsd.jsonl.gz", "studies/tiny/wsd.jsonl"
    }  # fmt: skip
    assert {r.study for r in records_of(copy, "wsd")} == {0, 1}
    assert faults(copy) == []


def test_other_data_than_the_references_are_refused(copy: Path) -> None:
    reference = copy / "baselines" / "reference.json"
    reference.write_text(reference.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(BaselineError, match="the data of 'sgd-mlp' of tiny differ from the committed reference's"):
        again(copy, replace=True, schedulers=["wsd"])


def test_custom_runs_are_not_written_as_baselines(copy: Path) -> None:
    message = "a custom run cannot be written as baselines; leave out --trials, --tuning-seeds and --report-seeds"
    with pytest.raises(BaselineError, match=message):
        api.tune(str(copy / "tiny.toml"), trials=2, out=copy / "new", baselines=copy / "b", write_baselines=True)
    assert not (copy / "new").exists()
    writer = BaselineWriter(BaselineFolder(copy / "b"))
    with pytest.raises(BaselineError, match=message):
        run_tiny(copy / "tiny.toml", copy / "new", trials=2, schedulers=["wsd"], on_finished=writer.write)
    assert not (copy / "b").exists()


def test_what_is_committed_is_not_run_again(copy: Path) -> None:
    suite = str(copy / "tiny.toml")
    common = {"baselines": copy / "baselines", "write_baselines": True, "threads": 1}
    before = snapshot(copy / "baselines")
    report = api.tune(suite, schedulers=ENTRIES, out=copy / "elsewhere", **common)
    assert report.records == []
    assert report.note == "nothing to run: all results are committed; use --replace to rerun"
    assert snapshot(copy / "baselines") == before
    # One workload of one entry is missing, and another entry is new.
    folder = BaselineFolder(copy / "baselines")
    value = folder.read_toml(folder.toml("wsd")).value[0].model_dump_json()
    content = folder.read_toml(folder.toml("wsd"))
    folder.toml("wsd").write_text(content.model_copy(update={"value": content.value[1:]}).text())
    report = api.tune(suite, schedulers=[*ENTRIES, "default:constant"], out=copy / "elsewhere", **common)
    assert {(r.workload, r.scheduler) for r in report.records} == {
        (content.value[0].workload, "wsd"),
        *((workload, "constant@default") for workload in WORKLOADS),
    }
    assert not faults(copy)
    assert folder.read_toml(folder.toml("wsd")).value[0].val_loss == json.loads(value)["val_loss"]


def test_an_interrupt_leaves_what_was_finished(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    writer = BaselineWriter(BaselineFolder(tmp_path / "baselines"))

    def interrupted(done: Any) -> None:
        writer.write(done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tiny(suite, tmp_path / "out", schedulers=["cosine"], on_finished=interrupted)
    assert {r.workload for r in records_of(tmp_path, "cosine")} == {"sgd-mlp"}
    assert faults(tmp_path) == []


def test_a_newcomer_stands_in_a_full_table_at_once(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = api.run(str(made / "tiny.toml"), schedulers=["step"], out=tmp_path / "out", baselines=made / "baselines")
    table = report.standings
    assert table is not None
    rows = {(row.ruleset, row.entry): row for row in table.tables["tuned"] if row.kind == "entry"}
    assert {entry for _, entry in rows} == {"cosine", "wsd", "step"}
    assert {entry for (_, entry), row in rows.items() if row.baseline} == {"cosine", "wsd"}
    newcomer = rows["tuned", "step"]
    assert newcomer.rank is not None
    assert newcomer.improvement is not None
    assert newcomer.speed_up is not None
    assert newcomer.n_trials == rows["tuned", "cosine"].n_trials == 6
    assert table.committed == frozenset(WORKLOADS)
    # The same records with cosine's own ones beside them, and no baselines: the same numbers.
    own = read_records([tmp_path / "out", made / "out"])
    alone = compare_with(None, own).standings()
    assert {**table.cells} == {**alone.cells}
    (same,) = [row for row in alone.tables["tuned"] if row.entry == "step"]
    assert same == newcomer
    text = (tmp_path / "out" / "standings.md").read_text()
    assert r"wsd\*" in text
    assert r"step\*" not in text
    assert r"- \*: committed baseline, of 20" in text
    assert (tmp_path / "out" / "plots" / "budget.png").exists()


Tamper = Callable[[Path], None]


def _in(name: str, *edits: tuple[str, str]) -> Tamper:
    return lambda baselines: edit(baselines / name, *edits)


def _drop_line(name: str) -> Tamper:
    def drop(baselines: Path) -> None:
        lines = read_file(baselines / name).decode().splitlines(keepends=True)
        replace_file(baselines / name, "".join(lines[1:]))

    return drop


def _scale_reference(baselines: Path) -> None:
    content = json.loads((baselines / "reference.json").read_text())
    for workloads in content.values():
        workloads["adam-mlp"]["loss"] *= 1.1
    (baselines / "reference.json").write_text(json.dumps(content))


TAMPERED: dict[str, tuple[Tamper, str]] = {
    "a config of a record": (
        _in("records/tiny/wsd.jsonl.gz", ('"base_lr":0.', '"base_lr":1.')),
        "records/tiny/wsd.jsonl.gz: adam-mlp of HASH, study 0: seed 0: key 'config': ",
    ),
    "a config of the TOML file": (
        _in("wsd.toml", ("base_lr = 0.0", "base_lr = 0.1")),
        "records/tiny/wsd.jsonl.gz: adam-mlp of HASH, study 0: seed 0: key 'config': ",
    ),
    "a seed": (
        _drop_line("records/tiny/wsd.jsonl.gz"),
        "records/tiny/wsd.jsonl.gz: adam-mlp of HASH, study 0: has records of seeds [1, 2], expected [0, 1, 2]",
    ),
    "a trial": (
        _in("studies/tiny/wsd.jsonl", ('"values":[2', '"values":[1')),
        "studies/tiny/wsd.jsonl: adam-mlp of HASH, study 0: ",
    ),
    "a study": (
        _drop_line("studies/tiny/wsd.jsonl"),
        "studies/tiny/wsd.jsonl: adam-mlp of HASH, study 0: has 0 studies, expected 1",
    ),
    "the reference": (_scale_reference, "reference.json: key 'HASH.adam-mlp': must be ReferenceValues(loss="),
    "a test loss of cosine": (
        _in("records/tiny/cosine.jsonl.gz", *[('"test_loss":2', '"test_loss":1')] * 2),
        "reference.json: key 'HASH.adam-mlp': must be ReferenceValues(loss=",
    ),
    "the search space": (
        _in("wsd.toml", ("high = 0.1", "high = 0.2")),
        "wsd.toml: key 'search_space.adam': differs from the code in 'base_lr'",
    ),
    "the code": (_in("wsd.toml", ('code = "', 'code = "0')), "wsd.toml: key 'code': the code has chan"),
    "a missing TOML file": (
        lambda baselines: (baselines / "wsd.toml").unlink(),
        "records/tiny/wsd.jsonl.gz: belongs to wsd.toml, which is missing",
    ),
    "a corrupt file": (_in("records/tiny/wsd.jsonl.gz", ("{", "")), "records/tiny/wsd.jsonl.gz:1: is not valid JSON: "),
}


@pytest.mark.parametrize(("tamper", "message"), TAMPERED.values(), ids=TAMPERED)
def test_files_that_contradict_one_another_are_found(copy: Path, tamper: Tamper, message: str) -> None:
    assert faults(copy) == []
    tamper(copy / "baselines")
    found = faults(copy)
    assert any(fault.startswith(message) for fault in found), found


def test_another_suite_file_is_found(copy: Path) -> None:
    (copy / "tiny.toml").write_text(SUITE.replace("n_updates = 6", "n_updates = 7"))
    before = records_of(copy, "wsd")[0].suite_hash
    expected = f"key 'suite_hash': must be 'HASH', the hash of suite 'tiny' (value: {before!r})"
    assert any(fault.endswith(expected) for fault in faults(copy))


def test_a_sample_is_trained_again_bit_by_bit(copy: Path) -> None:
    folder, suites = BaselineFolder(copy / "baselines"), BaselineSuites(str(copy / "tiny.toml"))
    outcomes = list(retrain(folder, suites, 3, 0))
    assert [(outcome.ok, outcome.text) for outcome in outcomes] == [(True, "bit-equal")] * 3
    first = outcomes[0].record
    file = folder.records("tiny", first.scheduler)
    loss = first.metrics.test_loss
    assert loss is not None
    edit(file, (f'"test_loss":{loss!r}', f'"test_loss":{math.nextafter(loss, 9)!r}'))  # the last bit
    (tampered,) = retrain(folder, suites, 1, 0)
    assert tampered.ok is False
    assert tampered.text.endswith("; expected bit-equal")


def test_on_another_machine_a_run_agrees_within_the_range_of_its_seeds(copy: Path) -> None:
    folder, suites = BaselineFolder(copy / "baselines"), BaselineSuites(str(copy / "tiny.toml"))
    for file in (copy / "baselines" / "records").rglob("*.jsonl.gz"):
        replace_file(file, resealed(read_file(file).decode().replace('"torch":"', '"torch":"0.')))
    (outcome,) = retrain(folder, suites, 1, 0)
    assert outcome.ok
    assert "; within the range of its seeds, " in outcome.text
    assert outcome.text.endswith("(different here: torch)")
    file = folder.records("tiny", outcome.record.scheduler)
    loss = outcome.record.metrics.test_loss
    replace_file(file, resealed(read_file(file).decode().replace(f'"test_loss":{loss!r}', '"test_loss":0.001')))
    for run in records_of(copy, outcome.record.scheduler):  # all other seeds agree, and the changed one differs
        other = f'"test_loss":{run.metrics.test_loss!r}'
        replace_file(file, resealed(read_file(file).decode().replace(other, '"test_loss":0.001')))
    (changed,) = retrain(folder, suites, 1, 0)
    assert changed.ok is False


def test_runs_on_different_data_are_skipped(copy: Path) -> None:
    folder, suites = BaselineFolder(copy / "baselines"), BaselineSuites(str(copy / "tiny.toml"))
    for file in (copy / "baselines" / "records").rglob("*.jsonl.gz"):
        text = read_file(file).decode().replace('"dataset_fingerprint":"', '"dataset_fingerprint":"0')
        replace_file(file, resealed(text))
    outcomes = list(retrain(folder, suites, 2, 0))
    assert len(outcomes) == 18
    assert {(outcome.ok, outcome.text) for outcome in outcomes} == {(None, "its data differ on this machine")}


def test_workloads_and_entries_take_turns_in_a_draw(made: Path) -> None:
    records = [run for name in NAMES for run in records_of(made, name)]
    drawn = draw(records, 1)
    assert sorted(map(repr, drawn)) == sorted(map(repr, records))
    assert len({run.workload for run in drawn[:2]}) == 2
    assert len({(run.workload, run.scheduler) for run in drawn[:6]}) == 6
    assert draw(records, 1) == drawn != draw(records, 2)


def test_the_commit_is_left_out_where_there_is_no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "checkout", lambda: None)
    write._git_commit.cache_clear()
    assert write._git_commit() == ""
    write._git_commit.cache_clear()


def test_tune_has_a_folder_of_its_own_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    suite = write_suite(tmp_path)
    report = api.tune_with_settings(
        Settings(str(suite), schedulers=["default:cosine"]), baselines="b", write_baselines=True
    )
    assert report.path == Path("runs/tune/tiny/study-0")
    assert report.files["baselines"] == Path("b")
    assert report.standings is None  # there is no tuned cosine yet
    assert [path.name for path in Path("b").glob("*.toml")] == ["cosine@default.toml"]
