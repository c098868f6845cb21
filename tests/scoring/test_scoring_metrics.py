import math

import numpy as np
import pytest
from scipy.stats import trim_mean

from ganno_bench.scoring.metrics import (
    clipped_error,
    clipped_loss,
    counted,
    improvements,
    interquartile_mean,
    mean_ranks,
    median_speed_up,
    performance_profile,
    score,
    speed_up,
    target_of,
    updates_to_target,
    validation_curves,
)
from tests.helpers.fake_records import make_record


@pytest.mark.parametrize(
    ("test_loss", "status", "expected"),
    [(0.5, "completed", 0.5), (9.0, "completed", 2.0), (None, "diverged", 2.0), (0.5, "diverged", 2.0)],
)
def test_every_run_is_scored_at_chance_at_worst(test_loss, status, expected):
    assert clipped_loss(make_record(chance_loss=2.0, test_loss=test_loss, status=status)) == expected


def test_diverged_classifier_errs_like_a_guess_and_language_models_have_no_error_rate():
    assert clipped_error(make_record(chance_loss=math.log(4), test_loss=None)) == pytest.approx(3 / 4)
    assert clipped_error(make_record(test_error=0.25)) == 0.25
    assert clipped_error(make_record(task="language-modelling")) is None


def test_score_is_zero_for_the_reference_and_about_the_percentage_of_a_lower_loss():
    assert score(0.4, 0.4) == 0
    assert score(0.9, 1.0) == pytest.approx(10.536, abs=1e-3)  # 100 * -ln(0.9)
    assert score(math.e, 1.0) == pytest.approx(-100)
    assert np.isfinite(score(0.0, 1.0))


def test_interquartile_mean_drops_a_quarter_at_each_end():
    # 8 values: the two smallest and the two largest go, (3 + 4 + 5 + 6) / 4 = 4.5 stays.
    assert interquartile_mean(np.array([5.0, 1, -900, 3, 4, 6, 7, 900])) == 4.5
    # 5 values: 5 // 4 = 1 at each end, (2 + 3 + 4) / 3 = 3.
    assert interquartile_mean(np.array([100.0, 2, 3, 4, 1])) == 3
    # Fewer than 4: the mean.
    assert interquartile_mean(np.array([1.0, 2, 6])) == 3


def test_interquartile_mean_is_scipys_trimmed_mean():
    values = np.random.default_rng(0).normal(size=(5, 37))
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=1), rtol=1e-12)


def test_probability_of_improvement_pairs_by_seed_and_halves_ties():
    # Seeds 0..3: win, tie, loss, win -> (1 + 0.5 + 0 + 1) / 4.
    wins = improvements(np.array([[2.0, 1.0, 0.0, 9.0]]), np.array([[1.0, 1.0, 5.0, -9.0]]))
    np.testing.assert_array_equal(wins, [[[1, 0.5, 0, 1]]])
    assert wins.mean() == 0.625


def test_probability_of_improvement_compares_every_pair_of_studies_on_the_same_seed():
    wins = improvements(np.array([[1.0, 5.0]]), np.array([[0.0, 6.0], [2.0, 4.0]]))
    np.testing.assert_array_equal(wins, [[[1, 0], [0, 1]]])


def test_tied_entries_share_the_middle_rank():
    # Workload 1: ranks 1, 2.5, 2.5; workload 2: ranks 3, 2, 1.
    losses = np.array([[0.1, 0.9], [0.5, 0.5], [0.5, 0.4]])
    np.testing.assert_allclose(mean_ranks(losses), [2.0, 2.25, 1.75])


def test_performance_profile_counts_problems_within_a_ratio_of_the_best():
    # Best losses are 1 and 2; the first entry is at ratios 1 and 2, the second at 1.5 and 1.
    losses = np.array([[1.0, 4.0], [1.5, 2.0]])
    expected = [[0.5, 0.5, 1.0], [0.5, 1.0, 1.0]]
    np.testing.assert_array_equal(performance_profile(losses, np.array([1.0, 1.6, 2.0])), expected)


def test_a_diverged_run_stays_at_chance_on_the_validation_curve():
    record = make_record(chance_loss=2.0, updates=(10, 20, 30), curve=(3.0, 1.5, None), test_loss=None)
    updates, losses = validation_curves([record])
    np.testing.assert_array_equal(updates, [10, 20, 30])
    np.testing.assert_array_equal(losses, [[2.0, 1.5, 2.0]])


def _runs(*curves):
    return [make_record(updates=(0, 50, 100, 200), curve=curve, val_loss=curve[-1]) for curve in curves]


def test_time_to_target_is_where_the_median_curve_gets_there():
    runs = _runs((2.0, 1.0, 0.4, 0.4), (2.0, 0.8, 0.6, 0.2), (2.0, 1.2, 0.9, 0.9))
    # Medians: 2.0, 1.0, 0.6, 0.4.
    assert updates_to_target(runs, 1.0) == 50
    assert updates_to_target(runs, 0.5) == 200
    assert updates_to_target(runs, 0.3) == math.inf


def test_speed_up_is_the_references_horizon_over_the_entrys_updates_and_zero_for_a_miss():
    reference = _runs((2.0, 1.0, 0.7, 0.5), (2.0, 1.0, 0.7, 0.7))  # median final loss 0.6, horizon 200
    target = target_of(reference)
    assert speed_up(_runs((2.0, 0.6, 0.5, 0.5)), target) == 4  # 200 / 50
    assert speed_up(_runs((2.0, 1.0, 1.0, 0.61)), target) == 0
    assert speed_up(reference, target) == 1  # although one of its own two runs ends above the target


def test_a_loss_counts_as_itself_unless_the_reference_solves_the_workload():
    losses = np.array([1e-7, 5e-4, 2e-3, 0.5])
    assert counted(losses, 3e-3, 2.0).tolist() == losses.tolist()
    assert counted(losses, 2e-3, 2.0).tolist() == [2e-3, 2e-3, 2e-3, 0.5]
    assert counted(1e-9, 1e-8, 2.0) == 2e-3
    assert counted(0.0, 0.5, 2.0) > 0  # its score is finite


@pytest.mark.parametrize(
    "curve",
    [
        (2.4, 2.4, 2.4, 2.4),  # at chance
        (2.3, 2.295, 2.29, 2.285),  # as good as chance, which is ln 10
        (0.7, 0.7, 0.7, 0.7),  # it never moved
        (0.5, 0.4, 0.6, 0.7),  # it got worse
    ],
)
def test_a_reference_that_never_got_lower_is_no_target(curve):
    assert target_of(_runs(curve)) is None


def test_the_target_on_a_solved_workload_is_what_counts_as_solved():
    target = target_of(_runs((1.0, 1e-2, 1e-4, 1e-6)))
    assert target == (200, pytest.approx(1e-3 * math.log(10)))
    assert speed_up(_runs((1.0, 1e-2, 2e-3, 2e-3)), target) == 2


@pytest.mark.parametrize(
    ("speed_ups", "median"),
    [((0, 1.0), 0), ((0, 0, 1.0, 1.2), 0), ((0, 1.0, 1.2), 1.0), ((0, 1.0, 1.2, 1.4), 1.1), ((2.0,), 2.0)],
)
def test_a_miss_is_no_small_speed_up(speed_ups: tuple[float, ...], median: float) -> None:
    assert median_speed_up(speed_ups) == pytest.approx(median)
