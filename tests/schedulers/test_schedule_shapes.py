"""The shape of each closed-form schedule, by its registered name."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from ganno_bench.schedulers.base import ClosedForm
from ganno_bench.schedulers.registry import SCHEDULERS, load_scheduler
from tests.helpers.scheduler_cases import factors, learning_rates

CLOSED_FORMS = [
    name
    for name, entry in SCHEDULERS.entries().items()
    if entry.source == "built-in" and issubclass(load_scheduler(name).cls, ClosedForm)
]


def decays(curve: list[float]) -> bool:
    return curve[-1] < 0.5 * max(curve)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_all_but_a_constant_decay(name: str) -> None:
    assert decays(factors(name, 400)) == (name not in ("constant", "prodigy", "schedule-free"))


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_base_learning_rate_is_the_peak(name: str) -> None:
    curve = factors(name, 400)
    assert max(curve) == pytest.approx(1.0, abs=1e-4)
    assert all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in curve)


@pytest.mark.parametrize("name", ["step", "cosine", "linear", "polynomial", "exponential", "rex"])
def test_decays_never_rise(name: str) -> None:
    assert all(after <= before for before, after in pairwise(factors(name, 400)))


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_the_shape_does_not_depend_on_the_horizon(name: str) -> None:
    short, long = factors(name, 400), factors(name, 4000)
    for update in range(400):
        nearby = long[max(0, 10 * update - 15) : 10 * update + 16]
        assert min(nearby) - 0.03 <= short[update] <= max(nearby) + 0.03


def test_a_block_ends_where_the_next_begins() -> None:
    total = 1300  # more than two blocks
    assert factors("linear", total) == pytest.approx([1.0 - update / total for update in range(total)])


def test_step_drops_as_often_as_it_says() -> None:
    curve = factors("step(n_drops=3, gamma=0.5)", 100)
    assert [update for update in range(1, 100) if curve[update] < curve[update - 1]] == [25, 50, 75]
    assert curve[-1] == pytest.approx(0.5**3)


def test_warmup_rises_in_a_straight_line_to_the_peak() -> None:
    curve = factors("warmup-cosine(warmup=0.1)", 100)
    assert curve[:11] == pytest.approx([(update + 1) / 11 for update in range(11)])
    assert curve.index(max(curve)) == 10


def test_wsd_is_flat_between_warmup_and_cooldown() -> None:
    curve = factors("wsd(warmup=0.1, cooldown=0.2)", 200)
    assert curve[20:161] == [1.0] * 141
    assert curve[19] < 1.0
    assert curve[161] < 1.0


def test_wsd_cooldowns() -> None:
    linear = factors("wsd(warmup=0, cooldown=0.5, shape='linear')", 200)
    sqrt = factors("wsd(warmup=0, cooldown=0.5, shape='1-sqrt')", 200)
    assert linear[125] == pytest.approx(0.75)
    assert sqrt[125] == pytest.approx(0.5)


def test_wsd_with_overlapping_phases_is_a_product() -> None:
    curve = factors("wsd(warmup=1.0, cooldown=1.0, shape='linear')", 9)
    assert curve == pytest.approx([(update + 1) / 10 * (1 - update / 9) for update in range(9)])


def test_cosine_restarts_begin_at_the_peak_and_end_with_the_horizon() -> None:
    curve = factors("cosine-restarts(n_cycles=3, multiplier=2)", 700)
    assert [update for update in range(700) if curve[update] == 1.0] == [0, 100, 300]
    assert curve[699] < 1e-3


def test_cosine_restarts_with_broken_lengths_still_end_with_the_horizon() -> None:
    curve = factors("cosine-restarts(n_cycles=3, multiplier=2)", 1000)
    assert sum(after > before for before, after in pairwise(curve)) == 2
    assert curve[-1] < 1e-3


@pytest.mark.parametrize("peak", [0.1, 0.3, 0.5])
def test_one_cycle_peaks_where_it_should(peak: float) -> None:
    curve = factors(f"one-cycle(peak={peak}, start_factor=0.1)", 400)
    assert curve.index(max(curve)) == 400 * peak - 1
    assert curve[0] == pytest.approx(0.1)
    assert curve[-1] == pytest.approx(4e-6)


@pytest.mark.parametrize(("ref", "total"), [("one-cycle(peak=0.5)", 2), ("one-cycle(peak=1.0)", 1)])
def test_one_cycle_survives_where_torch_divides_by_zero(ref: str, total: int) -> None:
    assert factors(ref, total)[0] == 1.0


def test_exponential_keeps_its_ratio() -> None:
    curve = factors("exponential(final_factor=0.01)", 100)
    assert {round(after / before, 12) for before, after in pairwise(curve)} == {round(0.01 ** (1 / 100), 12)}


def test_rex_is_the_published_formula() -> None:
    assert factors("rex", 4) == pytest.approx([1.0, 0.75 / 0.875, 0.5 / 0.75, 0.25 / 0.625])
    assert factors("rex(beta=0.0)", 50) == pytest.approx(factors("linear", 50))


def test_depth_factor_is_geometric_over_the_layers_and_a_cosine_on_average() -> None:
    rates = learning_rates("depth-factor(ratio=1.5)", 50)
    ratios = rates[..., 1:] / rates[..., :-1]
    assert ratios.allclose(ratios.new_tensor(1.5))
    geometric_mean = rates.log().mean(-1).exp()
    assert geometric_mean.allclose(learning_rates("cosine", 50)[..., 0])


def test_depth_factor_one_is_a_cosine() -> None:
    assert learning_rates("depth-factor", 50).equal(learning_rates("cosine", 50))
