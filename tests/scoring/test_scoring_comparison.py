import math

import pytest

from ganno_bench.core.errors import RecordError
from ganno_bench.core.records import compact_record
from ganno_bench.core.studies import StudyRecord, TrialRecord
from ganno_bench.leaderboard.tables import footer, header, main_table
from ganno_bench.scoring.comparison import Baselines, Comparison, against_each_study, committed_alone, compare
from ganno_bench.scoring.metrics import speed_up, target_of
from ganno_bench.scoring.reference import is_reference, reference_values
from tests.helpers.fake_records import ENTRIES, fake_benchmark, make_record

WORKLOADS = ["mlp-depth-2", "char-transformer"]
NAMES = ("constant", "cosine", "wsd", "ganno")
ALL = fake_benchmark(WORKLOADS, {name: ENTRIES[name] for name in ("one-cycle", *NAMES)}, n_seeds=5, n_trials=4)
COMMITTED = [compact_record(r) for r in ALL if r.role == "report" and r.scheduler in NAMES]
NEW = [r for r in ALL if r.scheduler == "one-cycle"]
OPTIONS = {"n_resamples": 100}


def _studies():
    trials = {}
    for record in ALL:
        if record.role == "tuning" and record.scheduler in NAMES:
            trials.setdefault((record.scheduler, record.workload), []).append(record)
    return [
        StudyRecord(
            suite="ladder", suite_hash="5f1e", workload=workload, dataset_fingerprint=f"data-{workload}",
            scheduler=scheduler, code=f"code-{scheduler}", study=0,
            trials=tuple(
                TrialRecord(config=a.config, values=(a.objective, b.objective))
                for a, b in zip(runs[::2], runs[1::2], strict=True)
            ),
        )
        for (scheduler, workload), runs in trials.items()
    ]  # fmt: skip


def _reference(records):
    runs = {name: [r for r in records if is_reference(r) and r.workload == name] for name in WORKLOADS}
    return {name: reference_values(found) for name, found in runs.items() if found}


BASELINES = Baselines(COMMITTED, _studies(), _reference(COMMITTED))


def rows(comparison, ruleset="tuned"):
    return {row.entry: row for row in comparison.standings(**OPTIONS).tables[ruleset] if row.kind == "entry"}


def test_a_newcomer_is_ranked_among_the_committed_entries():
    found = rows(compare(NEW, BASELINES))
    assert {name: row.baseline for name, row in found.items()} == {
        "one-cycle": False, "constant": True, "cosine": True, "wsd": True,
    }  # fmt: skip
    assert all(row.rank is not None for row in found.values())
    assert {row.n_trials for row in found.values()} == {4}
    assert set(rows(compare(NEW, BASELINES), "zero-shot")) == {"ganno"}


def test_numbers_are_those_of_one_run_that_had_all_entries():
    alone = Comparison(ALL).standings(**OPTIONS)
    beside = compare(NEW, BASELINES).standings(**OPTIONS)
    assert dict(beside.cells) == dict(alone.cells)
    assert rows(compare(NEW, BASELINES))["one-cycle"] == rows(Comparison(ALL))["one-cycle"]


def test_own_runs_replace_the_committed_ones_of_that_name():
    own = [r.model_copy(update={"code": "mine"}) for r in ALL if r.scheduler == "wsd"]
    comparison = compare(own, BASELINES)
    assert [r for r in comparison.records if r.scheduler == "wsd"] == own
    assert not any(study.scheduler == "wsd" for study in comparison.studies)
    assert not rows(comparison)["wsd"].baseline
    assert rows(comparison)["cosine"].baseline


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_nobodys_numbers_depend_on_an_own_cosine(factor):
    def other_luck(record):
        metrics = record.metrics.model_copy(update={"test_loss": record.metrics.test_loss * factor})
        return record.model_copy(update={"metrics": metrics})

    cosine = [other_luck(r) for r in ALL if r.role == "report" and r.scheduler == "cosine"]
    without, beside = rows(compare(NEW, BASELINES)), rows(compare([*NEW, *cosine], BASELINES))
    assert not beside["cosine"].baseline
    assert beside["cosine"].iqm != without["cosine"].iqm
    for name in ("one-cycle", "wsd", "constant"):
        a, b = without[name], beside[name]
        assert (a.iqm, a.iqm_low, a.iqm_high, a.speed_up) == (b.iqm, b.iqm_low, b.iqm_high, b.speed_up)
        assert (a.improvement, a.improvement_low, a.improvement_high) == (
            b.improvement, b.improvement_low, b.improvement_high,
        )  # fmt: skip


def test_the_reference_is_study_0_however_many_there_are():
    more = [r.model_copy(update={"study": 1, "trial": 1}) for r in COMMITTED if r.scheduler == "cosine"]
    comparison = compare(NEW, Baselines([*COMMITTED, *more], BASELINES.studies, BASELINES.reference))
    assert {run.study for run in comparison.reference_runs} == {0}
    assert rows(comparison)["one-cycle"] == rows(compare(NEW, BASELINES))["one-cycle"]


def test_a_workload_on_other_data_is_left_out_and_a_line_says_so():
    own = [r.model_copy(update={"dataset_fingerprint": "0dd"}) if r.workload == "char-transformer" else r for r in NEW]
    comparison = compare(own, BASELINES)
    assert comparison.standings(**OPTIONS).workloads == ("mlp-depth-2",)
    assert {r.workload for r in comparison.records} == {"mlp-depth-2"}
    assert comparison.notes[0] == (
        "Not compared with the baselines: char-transformer (other data than the baselines'). For a reference of your "
        "own: ganno-bench run ladder --scheduler cosine --no-baselines, into the same --out."
    )


def test_a_workload_without_a_committed_reference_is_left_out_too():
    reference = {"mlp-depth-2": BASELINES.reference["mlp-depth-2"]}
    comparison = compare(NEW, Baselines(COMMITTED, BASELINES.studies, reference))
    assert comparison.standings(**OPTIONS).workloads == ("mlp-depth-2",)
    assert "char-transformer (no committed reference)" in comparison.notes[0]


def test_such_a_workload_is_compared_with_an_own_cosine_if_there_is_one():
    reference = {"mlp-depth-2": BASELINES.reference["mlp-depth-2"]}
    cosine = [r for r in ALL if r.scheduler == "cosine" and r.workload == "char-transformer"]
    comparison = compare([*NEW, *cosine], Baselines(COMMITTED, BASELINES.studies, reference))
    assert comparison.notes[0] == (
        "Compared only with the cosine of these runs: char-transformer (no committed reference)."
    )
    result = comparison.standings(**OPTIONS)
    assert result.workloads == ("char-transformer", "mlp-depth-2")
    assert result.committed == {"mlp-depth-2"}
    own = [r for r in NEW if r.workload == "char-transformer"]
    alone = compare([*own, *cosine], Baselines()).standings(**OPTIONS)
    assert (
        result.cells["tuned", "one-cycle", "char-transformer"] == alone.cells["tuned", "one-cycle", "char-transformer"]
    )
    (row,) = [row for row in result.tables["tuned"] if row.entry == "one-cycle"]
    assert row.rank == 1
    # No entry that is committed can have runs on it: their means would be over fewer workloads.
    assert not [row for row in result.tables["tuned"] if row.baseline]
    assert comparison.notes[1] == "The committed entries are left out: they have no runs on char-transformer."


def test_on_data_other_than_the_reference_s_committed_entries_stand_beside_an_own_cosine_unranked():
    runs = [r for r in ALL if r.scheduler == "cosine" and r.workload == "char-transformer"]
    own = [
        r.model_copy(update={"dataset_fingerprint": "0dd"}) if r.workload == "char-transformer" else r
        for r in [*NEW, *runs]
    ]
    result = compare(own, BASELINES).standings(**OPTIONS)
    committed = [row for row in result.tables["tuned"] if row.baseline]
    assert committed
    assert all((row.rank, row.n_workloads) == (None, 1) for row in committed)


def test_where_no_workload_can_be_compared_the_run_stands_alone():
    own = [r.model_copy(update={"dataset_fingerprint": "0dd"}) for r in ALL]
    comparison = compare(own, BASELINES)
    assert comparison.records == own
    assert comparison.reference == {}
    assert comparison.notes[0].startswith("Not compared with the baselines: mlp-depth-2, char-transformer (")
    assert header(comparison.standings(**OPTIONS))[1] == "Reference (score 0): tuned cosine of these records."


def test_a_custom_run_is_not_mixed_with_baselines():
    own = [r.model_copy(update={"custom": True}) for r in ALL]
    comparison = compare(own, BASELINES)
    assert (comparison.records, comparison.reference) == (own, {})
    assert "Custom settings: not compared with the committed baselines." in footer(comparison.standings(**OPTIONS))
    assert compare(own, Baselines()).notes == ()  # where there are none, nothing is said


def test_records_of_two_suites_are_refused_beside_baselines_too():
    other = [make_record(suite_hash="beef", workload="other")]
    with pytest.raises(RecordError, match="records of two suites cannot be compared"):
        compare([*NEW, *other], BASELINES)


def test_the_table_says_which_rows_are_committed_and_how_they_differ():
    standings = compare(NEW, BASELINES).standings(**OPTIONS)
    entries = {row[1] for row in main_table(standings, "tuned").rows}
    assert {"one-cycle", "cosine*", "wsd*", "constant*"} <= entries
    assert header(standings)[1] == "Reference (score 0): tuned cosine, committed results."
    assert "*: committed baseline, of 2026-01-01." in footer(standings)
    newer = [
        r.model_copy(update={"provenance": r.provenance.model_copy(update={"versions": {"torch": "3.0"}})}) for r in NEW
    ]
    assert "*: committed baseline, of 2026-01-01; made with torch 2.9.0 (these runs: 3.0)." in footer(
        compare(newer, BASELINES).standings(**OPTIONS)
    )


def test_the_table_says_which_backends_trained_its_rows():
    def on(backend: str) -> list[str]:
        own = [
            run.model_copy(update={"provenance": run.provenance.model_copy(update={"backend": backend})}) for run in NEW
        ]
        return [line for line in footer(compare(own, BASELINES).standings(**OPTIONS)) if "committed baseline" in line]

    same = NEW[0].provenance.backend
    assert on(same) == ["*: committed baseline, of 2026-01-01."]
    assert on("other") == [f"*: committed baseline, of 2026-01-01; made with backend {same} (these runs: other)."]


def test_a_rounded_curve_meets_the_target_that_the_exact_one_meets():
    exact = [make_record(val_loss=0.123456789, curve=(0.3, 0.123456789))]
    rounded = [compact_record(record) for record in exact]
    assert speed_up(exact, target_of(exact)) == 1.0
    assert speed_up(exact, target_of(rounded)) == speed_up(rounded, target_of(exact)) == 1.0


def test_the_reference_as_each_of_its_studies_found_it():
    worse = [r for r in COMMITTED if is_reference(r)]
    for change in (1, 2):
        worse += [
            r.model_copy(
                update={
                    "study": change,
                    "metrics": r.metrics.model_copy(update={"test_loss": r.metrics.test_loss * 1.2**change}),
                }
            )
            for r in COMMITTED
            if is_reference(r) and (change == 1 or r.workload == WORKLOADS[0])
        ]
    others = [r for r in COMMITTED if not is_reference(r)]
    alone = committed_alone(Baselines([*others, *worse], (), BASELINES.reference), WORKLOADS)
    found = against_each_study(alone)
    assert list(found) == [0, 1]  # the third lacks a workload
    assert found[0].standings(**OPTIONS).cells == alone.standings(**OPTIONS).cells
    before, after = rows(found[0])["wsd"], rows(found[1])["wsd"]
    assert after.iqm - before.iqm == pytest.approx(100 * math.log(1.2))
    assert after.improvement > before.improvement
