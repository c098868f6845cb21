import math
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganno_bench.core.errors import RecordError
from ganno_bench.leaderboard.formats import to_latex, to_markdown
from ganno_bench.scoring.pairwise import duels
from ganno_bench.scoring.standings import standings
from tests.helpers.effort import effort
from tests.helpers.fake_records import ENTRIES, fake_benchmark, make_record

WORKLOADS = ["mlp-depth-2", "mlp-depth-16"]
RECORDS = fake_benchmark(WORKLOADS, n_seeds=5, n_trials=4)


def runs(entry, losses, workload="mlp", ruleset="tuned", **changes):
    """Return report runs, one for each loss; the seed is the position."""
    return [
        make_record(scheduler=entry, ruleset=ruleset, workload=workload, seed=seed, test_loss=loss, **changes)
        for seed, loss in enumerate(losses)
    ]


def row_of(result, entry, ruleset="tuned"):
    return next(row for row in result.tables[ruleset] if row.entry == entry)


LUCK = (0.9, 0.96, 1.0, 1.04, 1.12)


def test_scores_of_hand_made_runs():
    # Cosine's median loss is 0.5; the other entry is at half of it whatever the seed: 100 ln 2.
    result = standings(runs("cosine", [0.5 * x for x in LUCK]) + runs("wsd", [0.25] * 5))
    row = row_of(result, "wsd")
    assert row.iqm == row.iqm_low == row.iqm_high == pytest.approx(100 * math.log(2))
    assert row.improvement == row.improvement_low == 1
    assert (row.rank, row_of(result, "cosine").rank) == (1, 2)
    assert (row.mean_rank, row_of(result, "cosine").mean_rank) == (1, 2)
    assert result.reference == {"mlp": 0.5}


def test_rank_counts_who_is_significantly_better_and_ties_share_it():
    noisy = [0.5 * x for x in (1.02, 0.95, 1.0, 1.06, 0.99)]
    records = runs("cosine", [0.5 * x for x in LUCK]) + runs("noisy", noisy)
    records += runs("worse", [0.6 * x for x in LUCK]) + runs("worst", [0.7 * x for x in LUCK])
    ranks = {row.entry: row.rank for row in standings(records).tables["tuned"]}
    assert ranks == {"cosine": 1, "noisy": 1, "worse": 3, "worst": 4, "oracle": None}


def test_a_small_gap_on_every_seed_is_significant_because_seeds_are_paired():
    luck = np.exp(np.linspace(-1, 1, 10))
    result = standings(runs("cosine", 0.2 * luck) + runs("wsd", 0.198 * luck))
    better, worse = row_of(result, "wsd"), row_of(result, "cosine")
    assert better.iqm_low < worse.iqm_high  # the intervals overlap
    assert (better.rank, worse.rank) == (1, 2)


def test_divergence_counts_and_costs_chance():
    result = standings(runs("cosine", [0.5] * 4) + runs("wsd", [0.5, 0.5, None, 0.5], chance_loss=2.0))
    row, cell = row_of(result, "wsd"), result.cells["tuned", "wsd", "mlp"]
    assert (row.diverged, row.n_runs, cell.diverged) == (1, 4, 1)
    assert cell.score == pytest.approx(100 * math.log(0.5 / 2.0) / 4)
    assert row.improvement == pytest.approx((3 * 0.5 + 0) / 4)


def test_error_rates_stand_beside_the_losses():
    records = runs("cosine", [0.5, 0.4, 0.3], test_error=0.2) + runs("cosine", [1.5], "text", task="language-modelling")
    cells = standings(records).cells
    assert cells["tuned", "cosine", "mlp"].test_error == 0.2
    assert cells["tuned", "cosine", "mlp"].test_loss == 0.4
    assert cells["tuned", "cosine", "text"].test_error is None


def test_improvement_is_averaged_over_workloads_not_runs():
    records = runs("cosine", [0.5] * 4) + runs("wsd", [0.4] * 4)
    records += runs("cosine", [0.5] * 2, "other") + runs("wsd", [0.6] * 2, "other")
    assert row_of(standings(records), "wsd").improvement == 0.5


def test_rulesets_are_ranked_apart_and_tuned_rows_are_carried_unranked():
    result = standings(RECORDS, n_resamples=200)
    tuned, zero_shot = result.tables["tuned"], result.tables["zero-shot"]
    assert {row.ruleset for row in tuned} == {"tuned"}
    ranked = [row for row in zero_shot if row.rank is not None]
    assert [row.entry for row in ranked] == ["ganno", "schedule-free", "cosine-default"]
    assert ranked[0].rank == 1
    carried = [row for row in zero_shot if row.kind == "reference"]
    assert {row.entry for row in carried} == {"cosine", "step", "constant"}
    for row in carried:
        assert replace(row, kind="entry", rank=1, mean_rank=1.0) == replace(
            row_of(result, row.entry), rank=1, mean_rank=1.0
        )


def test_an_entry_that_lacks_workloads_is_shown_but_neither_ranked_nor_ranked_against():
    records = runs("cosine", [0.5] * 3) + runs("cosine", [0.5] * 3, "other") + runs("wsd", [0.1] * 3)
    result = standings(records)
    row = row_of(result, "wsd")
    assert (row.rank, row.mean_rank, row.n_workloads, len(result.workloads)) == (None, None, 1, 2)
    assert row_of(result, "cosine").rank == 1


def test_workloads_can_be_chosen():
    records = runs("cosine", [0.5] * 3) + runs("wsd", [0.1] * 3) + runs("wsd", [0.1] * 3, "no-reference")
    assert row_of(standings(records, workloads=["mlp"]), "wsd").rank == 1


def test_workloads_are_in_natural_order():
    records = [run for name in ("mlp-16", "cnn", "mlp-4") for run in runs("cosine", [0.5] * 2, name)]
    assert standings(records).workloads == ("cnn", "mlp-4", "mlp-16")


def test_a_given_reference_needs_no_cosine():
    result = standings(runs("wsd", [0.25] * 3), reference={"mlp": 0.5})
    row = row_of(result, "wsd")
    assert row.iqm == pytest.approx(100 * math.log(2))
    assert (row.improvement, row.speed_up, result.committed) == (None, None, frozenset({"mlp"}))
    assert "so P(better) and speed-up have no values" in result.notes[0]


def test_oracle_is_the_best_entry_of_each_workload_by_median_score():
    records = runs("cosine", [0.5] * 3) + runs("cosine", [0.5] * 3, "other")
    records += runs("wsd", [0.25, 0.25, 9.0]) + runs("wsd", [1.0] * 3, "other")
    oracle = row_of(standings(records), "oracle")
    # wsd's runs on "mlp", whose median is better, and cosine's on "other": of the six scores the lowest and the highest
    # are cut, which leaves 100 ln 2 once and 0 three times.
    assert oracle.iqm == pytest.approx(100 * math.log(2) / 4)
    assert (oracle.rank, oracle.iqm_low) == (None, None)


def test_only_common_seeds_are_compared_and_a_note_says_so():
    cosine = runs("cosine", [0.5, 0.5, 0.5, 0.1])
    result = standings(cosine + runs("wsd", [0.4] * 3), reference={"mlp": 0.5})
    assert row_of(result, "wsd").improvement == 1  # seed 3, where cosine is far better, has no counterpart
    assert row_of(result, "cosine").n_runs == 4
    assert result.notes == ("mlp: report seeds differ between entries, so comparisons use only common seeds.",)
    assert result.n_seeds == (3, 4)


def test_studies_widen_the_interval_and_zero_shot_entries_pair_with_each():
    def study(index, loss):
        return [make_record(study=index, seed=seed, test_loss=loss * x) for seed, x in enumerate(LUCK)]

    one = standings(study(0, 0.5), reference={"mlp": 0.5})
    three = standings(
        study(0, 0.4) + study(1, 0.5) + study(2, 0.6) + runs("ganno", [0.49 * x for x in LUCK], ruleset="zero-shot"),
        reference={"mlp": 0.5},
    )
    widths = [row.iqm_high - row.iqm_low for row in (row_of(one, "cosine"), row_of(three, "cosine"))]
    assert widths[1] > 2 * widths[0]
    assert (one.studies, three.studies, row_of(three, "cosine").n_runs) == ({"cosine": 1}, {"cosine": 3}, 15)
    # On every seed it beats studies 1 and 2 and loses to study 0.
    assert row_of(three, "ganno", "zero-shot").improvement == pytest.approx(2 / 3)


def test_runs_of_a_seed_that_not_every_study_has_are_left_out_with_a_note():
    records = [make_record(study=study, seed=seed) for study, seed in ((0, 0), (0, 1), (1, 0))]
    result = standings(records)
    assert row_of(result, "cosine").n_runs == 2
    assert (
        result.notes[0] == "cosine (tuned) on mlp: 1 runs do not count, because not every tuning study has their seeds."
    )
    with pytest.raises(RecordError, match=r"its studies \[0, 1\] have no report seed in common"):
        standings([make_record(study=0, seed=0), make_record(study=1, seed=1)])


def test_budget_of_tuning_is_counted_and_unequal_ones_are_noted():
    tuning = [make_record(role="tuning", trial=trial, test_loss=None, val_loss=1.0) for trial in range(3)]
    other = [r.model_copy(update={"scheduler": "wsd"}) for r in tuning[:2]]
    result = standings(tuning + other + runs("cosine", [0.5]) + runs("wsd", [0.5]))
    assert result.n_trials == (2, 3)
    assert row_of(result, "wsd").n_trials == 2
    assert "Entries were tuned with different numbers of trials: cosine 3, wsd 2." in result.notes


def test_no_report_runs_is_an_error():
    with pytest.raises(RecordError, match=r"^the records have no report runs, so there is nothing to score$"):
        standings([make_record(role="tuning", test_loss=None, val_loss=1.0)])


def _own(result):
    """Return the values that must not depend on other entries."""
    rows = {
        (ruleset, row.ruleset, row.entry): replace(row, rank=None, mean_rank=None)
        for ruleset, table in result.tables.items()
        for row in table
        if row.kind != "oracle"
    }
    return rows, dict(result.cells)


FULL = _own(standings(RECORDS, n_resamples=100))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.sampled_from([name for name in ENTRIES if name != "cosine"])))
def test_removing_entries_changes_no_other_entrys_score_or_interval(removed):
    left = standings([record for record in RECORDS if record.scheduler not in removed], n_resamples=100)
    for kept, full in zip(_own(left), FULL, strict=True):
        for key, value in kept.items():
            assert value == full[key]


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(rng):
    shuffled = rng.sample(RECORDS, len(RECORDS))
    assert standings(shuffled, n_resamples=100) == standings(RECORDS, n_resamples=100)


def test_the_same_seed_rebuilds_the_same_table_and_another_one_other_intervals():
    first, again = standings(RECORDS, n_resamples=100), standings(list(RECORDS), n_resamples=100)
    other = standings(RECORDS, n_resamples=100, rng_seed=1)
    assert first == again
    assert row_of(first, "wsd").iqm == row_of(other, "wsd").iqm
    assert row_of(first, "wsd").iqm_low != row_of(other, "wsd").iqm_low


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Cosine's true score is 0 by construction; ten seeds of a percentile interval cover a little less than 95 %."""
    rng = random.Random(0)
    covered = 0
    for root in range(200):
        losses = [0.5 * math.exp(rng.gauss(0, 0.1)) for _ in range(20)]
        records = runs("wsd", losses[:10], "a") + runs("wsd", losses[10:], "b")
        row = row_of(standings(records, reference={"a": 0.5, "b": 0.5}, n_resamples=300, rng_seed=root), "wsd")
        covered += row.iqm_low <= 0 <= row.iqm_high
    assert 0.85 <= covered / 200 <= 0.98


def test_a_large_benchmark_takes_no_call_for_each_resample():
    entries = {"cosine": ("tuned", 0.0)} | {f"entry-{i}": ("tuned", float(i)) for i in range(14)}
    records = fake_benchmark(["mlp-depth-2", "mlp-depth-8"], entries, n_trials=1)
    records = [
        r.model_copy(update={"workload": f"{r.workload}-{i}", "dataset_fingerprint": f"{i}"})
        for r in records
        for i in range(5)
    ]
    with effort() as needed:
        result = standings(records)
    assert len(result.cells) == 15 * 10
    assert needed.calls < 1_000_000  # 270,000 now; with a call for each resample 3 million more


AT_CHANCE = "tuned cosine ends at chance, so scores on this workload compare with guessing."
NO_SPEED_UP = "tuned cosine ends at chance, or its first measured validation loss is as low as its final one."
SOLVES = "tuned cosine solves it (loss: 1e-05 nats), so all losses below a thousandth of chance count as equal."


def test_a_reference_at_chance_is_no_target_and_a_sentence_says_so():
    records = runs("cosine", [9.0, 2.3, None]) + runs("wsd", [0.5] * 3) + runs("step", [9.0] * 3)
    records += runs("cosine", [0.5] * 3, "b") + runs("wsd", [0.4] * 3, "b") + runs("step", [0.6] * 3, "b")
    result = standings(records, n_resamples=50)
    assert {key[1]: cell.speed_up for key, cell in result.cells.items() if key[2] == "mlp"} == {
        "cosine": None,
        "wsd": None,
        "step": None,
    }
    assert row_of(result, "wsd").speed_up == result.cells["tuned", "wsd", "b"].speed_up > 0
    assert result.notes == (f"mlp: {AT_CHANCE}", f"No speed-up on mlp: {NO_SPEED_UP}")
    for text in (to_markdown(result), to_latex(result)):
        assert f"mlp: {AT_CHANCE}" in text
        assert f"No speed-up on mlp: {NO_SPEED_UP}" in text


def test_a_reference_that_got_no_lower_is_no_target_either():
    still = {"updates": (50, 100), "curve": (0.5, 0.5)}
    records = runs("cosine", [0.5] * 3, **still) + runs("wsd", [0.4] * 3)
    result = standings(records, n_resamples=50)
    assert [cell.speed_up for cell in result.cells.values()] == [None, None]
    assert result.notes == (f"No speed-up on mlp: {NO_SPEED_UP}",)
    assert row_of(result, "wsd").iqm == pytest.approx(100 * math.log(0.5 / 0.4))


def test_on_a_solved_workload_who_solves_it_too_ties_and_who_does_not_loses():
    records = runs("cosine", [1.1e-5, 1e-5, 9e-6, 1e-5]) + runs("wsd", [6.8e-7] * 4) + runs("step", [0.5] * 4)
    for entry in ("cosine", "wsd", "step"):
        records += runs(entry, [0.5, 0.52, 0.48, 0.5], "other")
    result = standings(records, n_resamples=200)
    assert [result.cells["tuned", entry, "mlp"].score for entry in ("cosine", "wsd")] == [0, 0]
    assert row_of(result, "wsd").iqm == pytest.approx(row_of(result, "cosine").iqm, abs=1e-9)
    assert row_of(result, "wsd").improvement == 0.5
    assert (row_of(result, "wsd").rank, row_of(result, "cosine").rank, row_of(result, "step").rank) == (1, 1, 3)
    assert row_of(result, "wsd").mean_rank == row_of(result, "cosine").mean_rank
    assert result.cells["tuned", "step", "mlp"].score == pytest.approx(100 * math.log(1e-3 * math.log(10) / 0.5))
    assert result.cells["tuned", "wsd", "mlp"].test_loss == 6.8e-7  # the loss itself is shown as it is
    assert duels(records, result, "tuned")["wsd", "cosine"].probability == 0.5
    assert result.notes == (f"mlp: {SOLVES}", f"No speed-up on mlp: {NO_SPEED_UP}")


def test_nothing_is_said_where_scores_are_what_they_seem():
    assert not [note for note in standings(RECORDS, n_resamples=10).notes if "cosine" in note]


def test_a_workload_on_which_there_is_nothing_to_learn_is_refused():
    records = runs("cosine", [0.0] * 3, chance_loss=0.0) + runs("wsd", [0.0] * 3, chance_loss=0.0)
    with pytest.raises(
        RecordError, match=r"^workload 'mlp' of ladder@5f1e cannot be scored: its chance loss is 0, because"
    ):
        standings(records)
