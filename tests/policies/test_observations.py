from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganno_bench.core.errors import UnknownNameError
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.controller import Controller
from ganno_bench.policies.observations import (
    LIMIT,
    OBSERVATIONS,
    Loss,
    Memory,
    NumberView,
    View,
    load_feature,
    load_features,
    observe,
    observe_numbers,
)
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.training.signals import LAYER_SIGNALS, OPTIONAL_SIGNALS, SAMPLED, RunInfo, Signals
from tests.helpers.policy_cases import make_run

NAMES = list(OBSERVATIONS.entries())
EVERY = pytest.mark.parametrize("name", NAMES)

KNOWN_BEFOREHAND = {
    "log-lr",
    "log-lr-to-default",
    "log-factor",
    "relative-depth",
    "log-layers",
    "progress",
    "log-horizon",
    "adaptive-optimizer",
}
"""Features that need no measurement. All others are 0 before the first update."""

UPDATES = (0, 10, 25, 60)


def watch(names: Sequence[str], runs: SyntheticRuns, needs: Collection[str] = OPTIONAL_SIGNALS) -> Tensor:
    """Return the observations of acting agents after 0, 10, 25 and 60 updates, shape (4, P, L, F)."""
    action_spec = ActionSpec(decay_multipliers=(0.5, 1.0, 2.0))
    controller, run = Controller(names, action_spec), runs.info()
    state, since, rows = controller.init(run), 0, []
    for decision, done in enumerate(UPDATES):
        lr = run.base_lr[:, None] * torch.linspace(0.1, 3.0, run.n_layers, dtype=torch.float64) * (1 + done)
        seen, state = controller.observe(state, run, runs.signals(done, since, lr, needs))
        action = (4 * (torch.arange(run.n_layers) + decision) % 15).expand(run.n_runs, -1)
        _, state = controller.act(state, run, action, done, 1)
        rows.append(seen)
        since = done
    return torch.stack(rows)


def make_signals(run: RunInfo, value: float, n_updates: int = 15, **fields: Any) -> Signals:
    """Return signals that have the same value, except the given ones."""
    layers = torch.full((run.n_runs, run.n_layers), value, dtype=torch.float64)
    same = dict.fromkeys(("lr", *LAYER_SIGNALS), layers) | dict.fromkeys(("train_loss", "val_loss"), layers[:, 0])
    given = {name: torch.tensor(field, dtype=torch.float64) for name, field in fields.items()}
    diverged = torch.zeros(run.n_runs, dtype=torch.bool)
    return Signals(n_updates=n_updates, total_updates=run.total_updates, diverged=diverged, **{**same, **given})


def look(names: Sequence[str], run: RunInfo, signals: Signals, memory: Memory | None = None) -> Tensor:
    """Return the observations of agents that have not acted yet, shape (P, L, F)."""
    log_factor = torch.zeros(run.n_runs, run.n_layers, dtype=torch.float64)
    view = View(signals, run, memory or Memory.blank(run), signals.lr, log_factor, log_factor[:, 0])
    return observe(load_features(names), view)


def is_within_the_limits(seen: Tensor) -> bool:
    return seen.dtype == torch.float64 and bool((seen.isfinite() & (seen.abs() <= 3.0)).all())


# Every feature


@EVERY
def test_every_feature_is_finite_and_limited_and_says_something(name: str) -> None:
    seen = watch([name], synthetic_runs(60))
    assert seen.shape == (4, 3, 4, 1)
    assert is_within_the_limits(seen)
    assert bool((seen != 0).any())


def test_features_come_in_the_order_of_their_names() -> None:
    together = watch(NAMES, synthetic_runs(60))
    assert together.shape == (4, 3, 4, len(NAMES))
    for index, name in enumerate(NAMES):
        assert torch.equal(together[..., [index]], watch([name], synthetic_runs(60)))


@EVERY
def test_what_has_not_been_measured_is_zero(name: str) -> None:
    run = make_run([0.3, 0.07], 3)
    signals = make_signals(run, math.nan, n_updates=0)
    seen, state = Controller([name], ActionSpec()).observe(Controller([name], ActionSpec()).init(run), run, signals)
    assert seen.shape == (2, 3, 1)
    assert is_within_the_limits(seen)
    if name not in KNOWN_BEFOREHAND:
        assert torch.equal(seen, torch.zeros_like(seen))
    assert all(bool(remembered.isnan().all()) for remembered in vars(state.memory).values())


EXTREMES = (0.0, 5e-324, 1e-30, 1e30, math.inf)


@pytest.mark.parametrize(("before", "now"), list(product(EXTREMES, EXTREMES)))
def test_extreme_values_stay_within_the_limits(before: float, now: float) -> None:
    run = make_run([0.3, 0.07], 3)
    memory = Memory.blank(run).updated(make_signals(run, before))
    assert is_within_the_limits(look(NAMES, run, make_signals(run, now), memory))
    # Some signals very large while others are very small.
    mixed = make_signals(run, now, param_norm=[[before] * 3] * 2, train_loss=[before] * 2)
    assert is_within_the_limits(look(NAMES, run, mixed, memory))


@pytest.mark.parametrize("name", [name for name in NAMES if load_feature(name).of_run is not None])
def test_plain_numbers_show_what_tensors_do(name: str) -> None:
    values = (*EXTREMES, 1e-13, 0.02, 1.0, 40.0, math.nan)
    (feature,) = load_features([name])
    for before, now in product(values, values):
        run = make_run([0.3], 3)
        memory = Memory.blank(run).updated(make_signals(run, before))
        losses: dict[Loss, float] = {"train": now, "val": now, "first": before, "last": before, "best": before}
        losses |= {"last_val": before, "best_val": before}
        assert feature.of_run is not None
        signals, zeros = make_signals(run, now), np.zeros(3)
        layers = {signal: getattr(signals, signal)[0].numpy() for signal in LAYER_SIGNALS}
        expected = look([name], run, signals, memory)[0]
        for lr, factor in ((now, 0.0), (zeros + now, zeros)):
            with np.errstate(all="ignore"):
                view = NumberView(run, 15 / 60, lr, factor, losses, layers)
                seen = observe_numbers([feature.of_run], view, np.ones((1, 3)), np.ones(1))
            np.testing.assert_allclose(np.broadcast_to(seen.T, (3, 1)), expected, rtol=0.0, atol=1e-14)


def test_values_are_cut_off_at_the_limit() -> None:
    run = make_run([0.3], 2)
    huge = look(["log-grad-norm", "log-train-loss"], run, make_signals(run, math.inf))
    tiny = look(["log-grad-norm", "log-train-loss"], run, make_signals(run, 0.0))
    assert huge.unique().tolist() == [LIMIT]
    assert tiny.unique().tolist() == [-LIMIT]
    assert LIMIT == 3.0


@pytest.mark.parametrize(("n_runs", "n_layers"), [(1, 1), (1, 4), (5, 1)])
def test_every_number_of_runs_and_layers_will_do(n_runs: int, n_layers: int) -> None:
    run = make_run([0.1] * n_runs, n_layers)
    seen = look(NAMES, run, make_signals(run, 0.5))
    assert seen.shape == (n_runs, n_layers, len(NAMES))
    assert is_within_the_limits(seen)


def test_a_diverged_run_shows_zeros_and_changes_nothing_for_the_others() -> None:
    expected, seen = watch(NAMES, synthetic_runs(60)), watch(NAMES, synthetic_runs(60).diverging(1, n_updates=25))
    assert torch.equal(seen[2:, 1], torch.zeros(2, 4, len(NAMES), dtype=torch.float64))
    assert torch.equal(seen[:2], expected[:2])
    assert torch.equal(seen[:, [0, 2]], expected[:, [0, 2]])


def test_a_diverged_run_shows_zeros_whatever_its_signals_are() -> None:
    run = make_run([0.3, 0.07], 3)
    memory = Memory.blank(run).updated(make_signals(run, 2.0))
    for value in (0.5, 1e30, math.inf, math.nan):
        signals = replace(make_signals(run, value), diverged=torch.tensor([True, True]))
        assert not look(NAMES, run, signals, memory).any()


@EVERY
def test_needs_suffice(name: str) -> None:
    (feature,) = load_features([name])
    assert feature.needs <= set(OPTIONAL_SIGNALS)
    assert Controller([name], ActionSpec()).needs - {SAMPLED} == feature.needs
    assert torch.equal(watch([name], synthetic_runs(60), feature.needs), watch([name], synthetic_runs(60)))


class Reads:
    """Signals that record which of them are read."""

    def __init__(self, signals: Signals) -> None:
        self.signals = signals
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.signals, name)


@EVERY
def test_nothing_is_needed_that_is_not_read(name: str) -> None:
    run = make_run([0.3, 0.07], 3)
    (feature,) = load_features([name])
    reads: Any = Reads(make_signals(run, 0.5))
    zeros = torch.zeros(2, 3, dtype=torch.float64)
    feature.compute(View(reads, run, Memory.blank(run), reads.signals.lr, zeros, zeros[:, 0]))
    assert reads.names & set(OPTIONAL_SIGNALS) == feature.needs


def test_a_controller_needs_what_any_of_its_features_needs() -> None:
    assert Controller(["log-lr", "progress"], ActionSpec()).needs == frozenset()
    needs = Controller(["log-update-ratio", "progress", "val-gap"], ActionSpec()).needs
    assert needs == {"update_norm", "param_norm", "val_loss", SAMPLED}


@pytest.mark.parametrize("others", [[2, 0, 1], [0], [1], [2]])
def test_what_a_run_shows_does_not_depend_on_the_other_runs(others: list[int]) -> None:
    together, alone = watch(NAMES, synthetic_runs(60)), watch(NAMES, synthetic_runs(60).select(others))
    # Vectorised and scalar functions may differ in the last digit.
    torch.testing.assert_close(alone, together[:, others], rtol=1e-12, atol=1e-14)


@EVERY
def test_every_feature_says_in_a_line_what_it_is(name: str) -> None:
    (feature,) = load_features([name])
    assert feature.summary.endswith(".")
    assert feature.summary[0].isupper() or feature.summary[0].isdigit()


def test_an_unknown_feature_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="unknown observation 'progres'; did you mean 'progress'"):
        Controller(["log-lr", "progres"], ActionSpec())


# Values


LN2 = math.log(2.0)


@pytest.mark.parametrize(
    ("name", "signals", "expected"),
    [
        ("log-lr", {"lr": [[0.01, 1.0, 1e-4]]}, [0.0, 1.0, -1.0]),
        ("log-lr-to-default", {"lr": [[0.01, 0.1, 1e-4]]}, [0.0, 0.5, -1.0]),
        ("log-grad-norm", {"grad_norm": [[1.0, 100.0, 1e-3]]}, [0.0, 1.0, -1.5]),
        ("log-param-norm", {"param_norm": [[1.0, 10.0, 1e-5]]}, [0.0, 0.5, -2.5]),
        ("log-update-ratio", {"update_norm": [[0.1, 1e-2, 1e-5]], "param_norm": [[10.0, 10.0, 1.0]]}, [0.5, 0, -1]),
        ("log-grad-ratio", {"grad_norm": [[10.0, 0.1, 1e-4]], "param_norm": [[1.0, 10.0, 1.0]]}, [1.5, 0, -1]),
        ("grad-cosine", {"grad_cosine": [[-1.0, 0.25, 0.5]]}, [-1.0, 0.25, 0.5]),
        ("grad-snr", {"grad_snr": [[0.0, 0.5, 1.0]]}, [0.0, 0.5, 1.0]),
        ("relative-depth", {}, [-1.0, 0.0, 1.0]),
        ("log-layers", {}, [math.log(3.0) / 2] * 3),
        ("progress", {}, [-0.5] * 3),
        ("log-train-loss", {"train_loss": [math.e**2]}, [1.0] * 3),
        ("log-val-loss", {"val_loss": [1 / math.e]}, [-0.5] * 3),
        ("val-gap", {"train_loss": [0.5], "val_loss": [1.0]}, [LN2] * 3),
    ],
)
def test_values_of_one_interval(name: str, signals: dict[str, Any], expected: list[float]) -> None:
    run = make_run([0.3], 3)  # after 15 of 60 updates
    assert look([name], run, make_signals(run, 0.7, **signals))[0, :, 0].tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n_updates", "expected"), [(0, -1.0), (30, 0.0), (54, 0.8)])
def test_progress_goes_from_minus_one_to_one(n_updates: int, expected: float) -> None:
    run = make_run([0.3], 2)
    seen = look(["progress"], run, make_signals(run, 0.7, n_updates=n_updates))
    assert seen.flatten().tolist() == pytest.approx([expected] * 2)


@pytest.mark.parametrize(("total", "expected"), [(300, 0.0), (3000, 1.0), (30, -1.0)])
def test_the_horizon(total: int, expected: float) -> None:
    run = make_run([0.3], 1, total)
    assert look(["log-horizon"], run, make_signals(run, 0.7)).item() == pytest.approx(expected)


@pytest.mark.parametrize(("optimizer", "adaptive", "of_tenth"), [("sgd", -1, 0.5), ("adam", 1, 1), ("adamw", 1, 1)])
def test_what_depends_on_the_optimizer(optimizer: str, adaptive: float, of_tenth: float) -> None:
    run = make_run([0.3], 1, optimizer=optimizer)
    seen = look(["adaptive-optimizer", "log-lr-to-default"], run, make_signals(run, 0.1))
    assert seen.flatten().tolist() == pytest.approx([adaptive, of_tenth])  # defaults: 0.01 for SGD, 0.001 for Adam


def test_before_the_first_update_the_learning_rate_is_the_base_one() -> None:
    controller, run = Controller(["log-lr", "log-lr-to-default"], ActionSpec()), make_run([1.0, 1e-3], 2)
    seen, _ = controller.observe(controller.init(run), run, make_signals(run, math.nan, n_updates=0))
    assert seen[:, 0].flatten().tolist() == pytest.approx([1.0, 1.0, -0.5, -0.5])
    seen, _ = controller.observe(controller.init(run), run, make_signals(run, 0.5, lr=[[0.1, 0.1], [0.01, 1.0]]))
    assert seen[:, :, 0].flatten().tolist() == pytest.approx([0.5, 0.5, 0.0, 1.0])


def test_agents_see_their_own_factors() -> None:
    controller, run = Controller(["log-factor"], ActionSpec(multipliers=(0.5, 1.0, 4.0))), make_run([0.3], 3)
    _, state = controller.act(controller.init(run), run, torch.tensor([[0, 1, 2]]), 0, 10)
    seen, _ = controller.observe(state, run, make_signals(run, 0.5))
    assert seen.flatten().tolist() == pytest.approx([-LN2 / 2, 0.0, LN2])


# Memory

TRAIN = (math.nan, 2.0, 1.6, 1.8)
VAL = (2.5, 2.0, 2.2, 1.9)


def intervals(names: Sequence[str], *, val: bool = True) -> Iterator[tuple[list[float], Memory]]:
    """Yield an agent's observations of these losses and its memory, before the first update and after 3 decisions."""
    controller, run = Controller(names, ActionSpec()), make_run([0.3], 1)
    state = controller.init(run)
    for index, (train_loss, val_loss) in enumerate(zip(TRAIN, VAL, strict=True)):
        signals = make_signals(run, 0.5, 15 * index, train_loss=[train_loss], val_loss=[val_loss])
        seen, state = controller.observe(state, run, signals if val else replace(signals, val_loss=None))
        yield seen.flatten().tolist(), state.memory


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log-train-loss", [0.0, math.log(2.0) / 2, math.log(1.6) / 2, math.log(1.8) / 2]),
        ("loss-to-first", [0.0, 0.0, math.log(1.6 / 2.0) / 2, math.log(1.8 / 2.0) / 2]),
        ("loss-change", [0.0, 0.0, 3 * math.log(1.6 / 2.0), 3 * math.log(1.8 / 1.6)]),
        ("loss-to-best", [0.0, 0.0, 3 * math.log(1.6 / 2.0), 3 * math.log(1.8 / 1.6)]),
        ("val-gap", [0.0, 0.0, math.log(2.2 / 1.6), math.log(1.9 / 1.8)]),
        ("val-change", [0.0, 3 * math.log(2.0 / 2.5), 3 * math.log(2.2 / 2.0), 3 * math.log(1.9 / 2.2)]),
        ("val-to-best", [0.0, 3 * math.log(2.0 / 2.5), 3 * math.log(2.2 / 2.0), 3 * math.log(1.9 / 2.0)]),
    ],
)
def test_values_of_three_intervals(name: str, expected: list[float]) -> None:
    assert [seen[0] for seen, _ in intervals([name])] == pytest.approx(expected)


def remembered(memory: Memory) -> dict[str, float]:
    return {name: value.item() for name, value in vars(memory).items()}


def test_what_is_remembered_of_three_intervals() -> None:
    expected = [
        {"first": math.nan, "last": math.nan, "best": math.nan, "last_val": 2.5, "best_val": 2.5},
        {"first": 2.0, "last": 2.0, "best": 2.0, "last_val": 2.0, "best_val": 2.0},
        {"first": 2.0, "last": 1.6, "best": 1.6, "last_val": 2.2, "best_val": 2.0},
        {"first": 2.0, "last": 1.8, "best": 1.6, "last_val": 1.9, "best_val": 1.9},
    ]
    found = [remembered(memory) for _, memory in intervals(["loss-change"])]
    assert found == [pytest.approx(memory, nan_ok=True) for memory in expected]


def test_nothing_is_remembered_of_a_validation_loss_that_is_not_measured() -> None:
    for _, memory in intervals(["loss-change"], val=False):
        assert memory.last_val.isnan().all()
        assert memory.best_val.isnan().all()


def test_change_and_best_part_ways_when_the_best_is_further_back() -> None:
    run = make_run([0.3], 1)
    memory = Memory.blank(run)
    for loss in (1.0, 1.5):
        memory = memory.updated(make_signals(run, loss))
    seen = look(["loss-change", "loss-to-best", "loss-to-first"], run, make_signals(run, 1.2), memory)
    change, to_best, to_first = 3 * math.log(1.2 / 1.5), 3 * math.log(1.2), math.log(1.2) / 2
    assert seen.flatten().tolist() == pytest.approx([change, to_best, to_first])


def test_a_missing_loss_leaves_first_and_best_alone() -> None:
    run = make_run([0.3], 1)
    memory = Memory.blank(run)
    for loss in (1.0, 1.5, math.nan):
        memory = memory.updated(make_signals(run, loss))
    expected = {"first": 1.0, "last": math.nan, "best": 1.0, "last_val": math.nan, "best_val": 1.0}
    assert remembered(memory) == pytest.approx(expected, nan_ok=True)
    expected = {"first": 1.0, "last": 2.0, "best": 1.0, "last_val": 2.0, "best_val": 1.0}
    assert remembered(memory.updated(make_signals(run, 2.0))) == expected


@pytest.mark.parametrize("loss", [0.0, 1e-30, 1.5])
def test_the_same_loss_again_is_no_change(loss: float) -> None:
    names, run = (
        ["loss-to-first", "loss-change", "loss-to-best", "val-gap", "val-change", "val-to-best"],
        make_run([0.3], 2),
    )
    memory = Memory.blank(run).updated(make_signals(run, loss))
    assert not look(names, run, make_signals(run, loss), memory).any()


def test_observing_changes_nothing_in_place() -> None:
    run = make_run([0.3, 0.1], 2)
    controller = Controller(NAMES, ActionSpec())
    state, signals = controller.init(run), make_signals(run, 0.5)
    before = {name: value.clone() for name, value in vars(signals).items() if isinstance(value, Tensor)}
    _, after = controller.observe(state, run, signals)
    assert all(torch.equal(getattr(signals, name), value) for name, value in before.items())
    assert state.memory.first.isnan().all()
    assert after.memory.first.tolist() == [0.5, 0.5]


def test_without_layerwise_observation_agents_differ_by_their_places_alone() -> None:
    runs, names = synthetic_runs(60), ("log-grad-norm", "relative-depth", "progress")
    run, layers = runs.info(), torch.ones(runs.info().n_runs, runs.info().n_layers, dtype=torch.float64)
    signals = runs.signals(10, 0, layers, frozenset({"grad_norm"}))
    own, pooled = (
        controller.observe(controller.init(run), run, signals)[0]
        for controller in (Controller(names, ActionSpec(), layerwise=layerwise) for layerwise in (True, False))
    )
    assert not torch.equal(own[:, 0, 0], own[:, 1, 0])
    torch.testing.assert_close(pooled[..., 0], own[..., 0].mean(1, keepdim=True).expand(own.shape[:2]))
    assert torch.equal(pooled[..., 1], own[..., 1])
    torch.testing.assert_close(pooled[..., 2], own[..., 2])
