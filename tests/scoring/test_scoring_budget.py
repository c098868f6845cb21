from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganno_bench.scoring.budget import budget_curves, budget_scores, expected_best, trials_to_match
from tests.helpers.fake_records import make_record


def _trial(trial, *losses, **changes):
    return [
        make_record(role="tuning", trial=trial, seed=seed, test_loss=None, val_loss=loss, **changes)
        for seed, loss in enumerate(losses)
    ]


def test_expected_best_of_three_trials():
    # Of 1: (1 + 2 + 6) / 3 = 3. Of 2: pairs (1, 2), (1, 6), (2, 6) -> (1 + 1 + 2) / 3. Of 3: 1.
    np.testing.assert_allclose(expected_best([6.0, 1.0, 2.0]), [3, 4 / 3, 1])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=7))
def test_expected_best_is_the_mean_over_all_subsets(objectives):
    brute_force = [
        np.mean([min(subset) for subset in combinations(objectives, n)]) for n in range(1, len(objectives) + 1)
    ]
    np.testing.assert_allclose(expected_best(objectives), brute_force, atol=1e-12)


def test_a_trial_counts_by_its_mean_over_tuning_seeds_and_divergence_as_chance():
    records = _trial(0, 1.0, 3.0, chance_loss=4.0) + _trial(1, 1.0, None, chance_loss=4.0)
    (curve,) = budget_curves(records)
    # Objectives 2 and (1 + 4) / 2 = 2.5; expected after one trial 2.25, after both 2.
    np.testing.assert_allclose(curve.loss, [2.25, 2.0])


def test_report_runs_and_unfinished_trials_are_no_part_of_a_budget_curve():
    records = [*_trial(0, 1.0, 1.0), *_trial(1, 0.1), make_record(test_loss=0.01)]
    (curve,) = budget_curves(records)
    np.testing.assert_allclose(curve.loss, [1.0])


def test_studies_are_averaged():
    records = _trial(0, 1.0) + _trial(1, 2.0) + _trial(0, 2.0, study=1) + _trial(1, 2.0, study=1)
    (curve,) = budget_curves(records)
    # Study 0: 1.5 then 1; study 1: 2 then 2.
    np.testing.assert_allclose(curve.loss, [1.75, 1.5])


def test_scores_are_relative_to_all_of_cosines_trials_and_zero_shot_is_one_level():
    records = _trial(0, 1.0) + _trial(1, 2.0)
    records += [make_record(scheduler="ganno", ruleset="zero-shot", seed=s, val_loss=x) for s, x in enumerate((1, 1.5))]
    scores = budget_scores(records)
    np.testing.assert_allclose(scores["tuned", "cosine"]["mlp"], [100 * np.log(1 / 1.5), 0])
    np.testing.assert_allclose(scores["zero-shot", "ganno"]["mlp"], [100 * np.log(1 / 1.25)])


@pytest.mark.parametrize(("level", "expected"), [(-50.0, 1), (-10.0, 3), (0.0, 4), (0.1, None)])
def test_trials_to_match_is_the_first_number_of_trials_that_gets_there(level, expected):
    assert trials_to_match(np.array([-40.0, -20, -10, 0]), level) == expected


def test_on_a_workload_that_tuned_cosine_solves_who_solves_it_ties():
    records = _trial(0, 0.5) + _trial(1, 1e-6) + _trial(0, 1e-9, scheduler="wsd") + _trial(1, 1e-9, scheduler="wsd")
    scores = budget_scores(records)
    assert scores["tuned", "wsd"]["mlp"].tolist() == [0, 0]
    assert scores["tuned", "cosine"]["mlp"][-1] == 0
    assert scores["tuned", "cosine"]["mlp"][0] < 0
