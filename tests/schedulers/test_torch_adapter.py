from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, UserError
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.playing import ContractError
from ganno_bench.testing.synthetic import synthetic_runs
from tests.helpers.scheduler_cases import learning_rates, torch_curve

TOTAL = 700  # more than a block

CASES: dict[str, Callable[[Optimizer, float], LRScheduler]] = {
    "torch:ConstantLR(factor=0.5, total_iters=20)": lambda o, b: lr_scheduler.ConstantLR(o, 0.5, 20),
    "torch:CosineAnnealingLR": lambda o, b: lr_scheduler.CosineAnnealingLR(o, TOTAL),
    "torch:CosineAnnealingLR(T_max=100, eta_min=0.1)": lambda o, b: lr_scheduler.CosineAnnealingLR(o, 100, 0.1 * b),
    "torch:CosineAnnealingWarmRestarts(T_0=50, T_mult=2)": lambda o, b: lr_scheduler.CosineAnnealingWarmRestarts(
        o, 50, 2
    ),
    "torch:CyclicLR(max_lr=3.0, step_size_up=40)": lambda o, b: lr_scheduler.CyclicLR(
        o, b, 3.0 * b, 40, cycle_momentum=False
    ),
    "torch:ExponentialLR(gamma=0.99)": lambda o, b: lr_scheduler.ExponentialLR(o, 0.99),
    "torch:LinearLR(start_factor=0.1, total_iters=30)": lambda o, b: lr_scheduler.LinearLR(o, 0.1, 1.0, 30),
    # Torch ends this one just below 0.
    "torch:LinearLR(end_factor=0, total_iters=70)": lambda o, b: lr_scheduler.LinearLR(o, 1 / 3, 0, 70),
    "torch:MultiStepLR(milestones=[10, 600])": lambda o, b: lr_scheduler.MultiStepLR(o, [10, 600]),
    "torch:OneCycleLR(max_lr=2.0)": lambda o, b: lr_scheduler.OneCycleLR(o, 2.0 * b, TOTAL, cycle_momentum=False),
    "torch:OneCycleLR(max_lr=1.0, epochs=10, steps_per_epoch=80)": lambda o, b: lr_scheduler.OneCycleLR(
        o, b, 800, cycle_momentum=False
    ),
    "torch:ConstantLR": lambda o, b: lr_scheduler.ConstantLR(o),
    "torch:LinearLR": lambda o, b: lr_scheduler.LinearLR(o),
    # A decay ends with the run: torch's default is 5 updates.
    "torch:LinearLR(start_factor=1, end_factor=0.1)": lambda o, b: lr_scheduler.LinearLR(o, 1.0, 0.1, TOTAL),
    "torch:PolynomialLR": lambda o, b: lr_scheduler.PolynomialLR(o, TOTAL),
    "torch:PolynomialLR(total_iters=500, power=2)": lambda o, b: lr_scheduler.PolynomialLR(o, 500, 2.0),
    "torch:StepLR(step_size=100, gamma=0.5)": lambda o, b: lr_scheduler.StepLR(o, 100, 0.5),
}


@pytest.mark.parametrize("ref", CASES)
def test_equals_the_torch_scheduler_for_every_base_learning_rate(ref: str) -> None:
    ours = learning_rates(ref, TOTAL)
    for run, base in enumerate(synthetic_runs(1).base_lr.tolist()):
        theirs = torch.tensor(torch_curve(lambda o, b=base: CASES[ref](o, b), base, TOTAL), dtype=torch.float64)
        assert ours[:, run].equal(theirs.clamp(min=0.0)[:, None].expand(-1, ours.shape[2]))


def test_every_torch_schedule_is_covered_or_refused() -> None:
    names = {name for name in lr_scheduler.__all__ if name != "LRScheduler"}
    covered = {ref.removeprefix("torch:").partition("(")[0] for ref in CASES}
    for name in names - covered:
        with pytest.raises(PluginError, match=r"write a ClosedForm|use the scheduler 'plateau'"):
            load_scheduler(f"torch:{name}")


def test_arguments_are_pinned_and_nothing_is_tuned() -> None:
    entry = load_scheduler("torch:StepLR(step_size=100, gamma=1)")
    assert entry.name == "torch:StepLR(gamma=1.0, step_size=100)"
    assert entry.pinned == {"step_size": 100, "gamma": 1.0}
    assert entry.search_space == {}
    assert load_scheduler("torch:StepLR(step_size=100, gamma=1)") == entry


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("torch:StepLr(step_size=3)", UnknownNameError, "did you mean 'StepLR'?"),
        ("torch:StepLR", ConfigError, r"'torch:StepLR': needs a value for step_size: torch:StepLR\(step_size=...\)"),
        ("torch:StepLR(stepsize=3)", UnknownNameError, "no hyperparameter 'stepsize'; did you mean 'step_size'?"),
        ("torch:StepLR(step_size='a')", ConfigError, r"'step_size' must be a whole number \(value: 'a'\)"),
        ("torch:StepLR(step_size=0)", ConfigError, r"step_size must be a whole number of at least 1 \(value: 0\)"),
        (
            "torch:ConstantLR(total_iters=0)",
            ConfigError,
            r"total_iters must be a whole number of at least 1",
        ),
        (
            "torch:LinearLR(total_iters=0)",
            ConfigError,
            r"total_iters must be a whole number of at least 1",
        ),
        ("torch:CosineAnnealingLR(T_max=-5)", ConfigError, r"T_max must be a whole number of at least 1 \(value: -5\)"),
        ("torch:CosineAnnealingWarmRestarts(T_0=9, T_mult=0)", ConfigError, "torch refuses its arguments"),
        ("torch:OneCycleLR(max_lr=1.0, steps_per_epoch=9)", ConfigError, "must define either total_steps OR"),
        ("torch:ConstantLR(last_epoch=9)", UnknownNameError, "no hyperparameter 'last_epoch'"),
        ("torch:CyclicLR(base_lr=0.1, max_lr=1.0)", UnknownNameError, "no hyperparameter 'base_lr'"),
        ("torch:OneCycleLR(max_lr=1.0, cycle_momentum=True)", ConfigError, "cycle_momentum=True is not supported"),
        ("torch:OneCycleLR(max_lr=1.0, pct_start=7)", ConfigError, "Expected float between 0 and 1 pct_start"),
        ("torch:ReduceLROnPlateau", PluginError, "needs a metric at every step; use the scheduler 'plateau'"),
        ("torch:LambdaLR", PluginError, "takes a function as an argument; write a ClosedForm instead"),
        ("torch:SequentialLR", PluginError, "takes other schedulers as arguments; write a ClosedForm instead"),
    ],
)
def test_errors_say_what_to_do(ref: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message):
        load_scheduler(ref)


def test_a_schedule_shorter_than_the_horizon_says_where_it_ends() -> None:
    with pytest.raises(ContractError, match="torch:OneCycleLR fails at update 101 of 200: ValueError: Tried to step"):
        learning_rates("torch:OneCycleLR(max_lr=1.0, total_steps=100)", 200)


def test_negative_learning_rates_are_refused() -> None:
    with pytest.raises(ContractError, match=r"torch:StepLR gives the learning rate -0\.005"):
        learning_rates("torch:StepLR(step_size=1, gamma=-0.5)", 5)


@pytest.mark.parametrize("ref", ["torch:StepLR(step_size=2)", "cosine"])
def test_a_decision_beyond_the_horizon_is_still_one(ref: str) -> None:
    """A training loop may step its scheduler once more after the last update."""
    scheduler, runs = load_scheduler(ref).build({}), synthetic_runs(5)
    state, lr = scheduler.init(runs.info()), torch.zeros(3, 4, dtype=torch.float64)
    controls, _ = scheduler.step(state, runs.signals(5, 0, lr))
    assert controls.lr.shape == (1, 3, 4)
