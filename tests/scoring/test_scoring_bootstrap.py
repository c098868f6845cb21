import numpy as np

from ganno_bench.scoring.bootstrap import interval, resample, resampled_iqm, workload_rng
from tests.helpers.effort import effort


def test_interval_is_the_percentiles_of_the_resamples():
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def test_resampled_mean_spreads_like_the_standard_error():
    scores = np.array([[1.0, 4.0, 2.0, 9.0, 7.0, 3.0]])
    means = resample(scores, 40_000, np.random.default_rng(0)).mean(axis=1)
    # A resample of n from n has the variance of the population, divided by n.
    np.testing.assert_allclose(means.std(), scores.std() / np.sqrt(6), rtol=0.02)
    np.testing.assert_allclose(means.mean(), scores.mean(), rtol=0.01)


def test_a_studys_luck_counts_once_however_many_seeds_it_has():
    scores = np.repeat([[0.0], [3.0], [6.0]], 50, axis=1)  # three studies that differ, 50 seeds that do not
    means = resample(scores, 20_000, np.random.default_rng(0)).mean(axis=1)
    # Three studies are drawn from three: population variance 6, divided by 3.
    np.testing.assert_allclose(means.std(), np.sqrt(6 / 3), rtol=0.02)


def test_seeds_are_drawn_alike_whatever_the_number_of_studies():
    one = np.arange(10.0)[None]
    three = np.repeat(one, 3, axis=0)
    first = resample(one, 100, workload_rng(0, "mlp")).mean(axis=1)
    second = resample(three, 100, workload_rng(0, "mlp")).mean(axis=1)
    np.testing.assert_allclose(first, second)


def test_streams_differ_by_workload_and_root_seed_and_repeat():
    draws = {(root, name): tuple(workload_rng(root, name).integers(1000, size=20)) for root in (0, 1) for name in "ab"}
    assert len(set(draws.values())) == 4
    assert draws[0, "a"] == tuple(workload_rng(0, "a").integers(1000, size=20))


def test_runs_are_resampled_within_workloads():
    # Two workloads of four equal scores each: every resample has four of each, and its middle half two of each.
    samples = resampled_iqm({"a": np.zeros((1, 4)), "b": np.full((1, 4), 8.0)}, 50, 0)
    np.testing.assert_array_equal(samples, np.full(50, 4.0))


def test_a_paired_difference_is_free_of_what_the_seeds_have_in_common():
    luck = np.random.default_rng(0).normal(0, 50, (1, 10))
    difference = resampled_iqm({"a": luck + 1}, 500, 0) - resampled_iqm({"a": luck}, 500, 0)
    np.testing.assert_allclose(difference, 1)


def test_resamples_are_drawn_together():
    scores = {f"workload-{i}": np.random.default_rng(i).normal(size=(1, 10)) for i in range(10)}
    with effort() as few:
        resampled_iqm(scores, 20, 0)
    with effort() as many:
        resampled_iqm(scores, 2000, 0)
    assert many.calls == few.calls
