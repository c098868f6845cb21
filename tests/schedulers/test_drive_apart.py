"""A scheduler can change a run only by its decisions: changing its arguments or results later has no effect."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import PluginError
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry, Released
from ganno_bench.training.open_optimizer import OpenOptimizer
from ganno_bench.training.population import Population
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, RunInfo, Signals
from ganno_bench.workloads.suite import WorkloadSpec
from tests.schedulers.test_drive import SEEDS, assert_same, make_engine, one, run_alone


@dataclass(frozen=True)
class Steady(Scheduler):
    """Keeps the base learning rate, and calls a function."""

    needs: ClassVar[frozenset[str]] = frozenset(OPTIONAL_SIGNALS)
    interval: ClassVar[int | None] = 5
    doing: Callable[[Any], object] = lambda given: None

    def init(self, run: RunInfo) -> State:
        rates = run.base_lr[:, None].repeat(1, run.n_layers)
        self.doing(run)
        return rates

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        self.doing(signals)
        return Controls(state), state


def overwrite(given: RunInfo | Signals) -> None:
    """Overwrite all arguments, and all of their memory."""
    for value in vars(given).values():
        if isinstance(value, Tensor):
            value.fill_(1)
            size = value.untyped_storage().nbytes() // value.itemsize
            value.as_strided((size,), (1,), 0).fill_(1)


def test_what_is_written_into_signals_changes_no_record() -> None:
    engine = make_engine()
    assert_same(run_alone(engine, Steady(doing=overwrite)), run_alone(engine, Steady()))


def test_nor_does_what_is_written_later() -> None:
    kept: list[Any] = []

    def keep_and_overwrite(given: Any) -> None:
        for earlier in kept:
            overwrite(earlier)
        kept.append(given)

    engine = make_engine()
    assert_same(run_alone(engine, Steady(doing=keep_and_overwrite)), run_alone(engine, Steady()))


def test_a_neighbour_is_not_reached_through_what_is_given() -> None:
    engine = make_engine()
    alone = run_alone(engine, Steady(), 0.05)
    among = drive(engine, [one(Steady(doing=overwrite), 0.02), one(Steady(), 0.05)], SEEDS)
    for name in ("train_loss", "val_loss", "lr_trace"):
        assert torch.equal(getattr(among, name)[:, 2:], getattr(alone, name))


def test_a_decision_that_is_changed_after_it_was_made_stays_as_it_was() -> None:
    returned: list[Tensor] = []

    @dataclass(frozen=True)
    class Changing(Steady):
        def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
            for earlier in returned:
                earlier.fill_(1e6)
            values = [state.clone(), state[:, 0] * 0.1, state[:, 0] * 0.2]
            returned.extend(values)
            return Controls(*values), state

    @dataclass(frozen=True)
    class Unchanging(Steady):
        def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
            return Controls(state.clone(), state[:, 0] * 0.1, state[:, 0] * 0.2), state

    engine = make_engine()
    changed, unchanged = (
        drive(engine, [one(kind(), 0.01), one(kind(), 0.02)], SEEDS) for kind in (Changing, Unchanging)
    )
    assert_same(changed, unchanged)


def test_a_decision_with_a_gradient_is_a_decision() -> None:
    @dataclass(frozen=True)
    class Attached(Steady):
        def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
            return Controls(state.clone().requires_grad_() * 1.0), state

    engine = make_engine()
    trajectory = run_alone(engine, Attached())
    assert_same(trajectory, run_alone(engine, Steady()))
    assert not trajectory.lr_trace.requires_grad


# State that the whole process shares.

DISTURBING: dict[str, tuple[Callable[[], object], str]] = {
    "dtype": (
        lambda: torch.set_default_dtype(torch.float64),
        "changed PyTorch's default dtype from torch.float32 to torch.float64",
    ),
    "threads": (lambda: torch.set_num_threads(3), "changed PyTorch's number of threads from 1 to 3"),
    "seed": (lambda: torch.manual_seed(0), "drew from or seeded the global random numbers of PyTorch"),
    "numpy": (np.random.rand, "drew from or seeded the global random numbers of NumPy"),
    "python": (random.random, "drew from or seeded the global random numbers of Python"),
}


def shared() -> tuple[Any, ...]:
    numbers = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())  # type: ignore[index,union-attr]
    return torch.get_default_dtype(), torch.get_num_threads(), numbers


@pytest.mark.parametrize(("disturb", "named"), DISTURBING.values(), ids=DISTURBING)
@pytest.mark.parametrize(("place", "given"), [("init", RunInfo), ("step", Signals)])
def test_a_scheduler_that_disturbs_the_process_is_named(
    disturb: Callable[[], object], named: str, place: str, given: type
) -> None:
    before = shared()
    guilty = Steady(doing=lambda value: disturb() if isinstance(value, given) else None)
    with pytest.raises(
        PluginError, match=f"^scheduler 'Steady': (a )?{place}.* {named}, shared by the whole process(; use .*)?$"
    ):
        run_alone(make_engine(), guilty)
    assert shared() == before


def test_what_is_left_behind_by_one_that_raises_is_put_back() -> None:
    def fail(given: Any) -> None:
        torch.set_default_dtype(torch.float64)
        raise ValueError("no")

    before = shared()
    with pytest.raises(PluginError, match="init raised ValueError: no"):
        run_alone(make_engine(), Steady(doing=fail))
    assert shared() == before


# Open optimizers.


class Run(OpenOptimizer):
    """SGD that calls a function at each update and evaluation."""

    doing: ClassVar[Callable[[str], object]] = lambda place: None
    alive: ClassVar[weakref.WeakSet[Any]] = weakref.WeakSet()

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.alive.add(self)

    def step(self, lr: float) -> float:
        type(self).doing("step")
        return super().step(lr)

    def eval(self) -> None:
        type(self).doing("eval")


@dataclass(frozen=True)
class Replacing(OptimizerEntry):
    """Replaces SGD by itself."""

    replaces = {"sgd": Released("SGD", 0.01)}  # noqa: RUF012

    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        return Run(torch.optim.SGD(parameters, weight_decay=weight_decay))


@pytest.mark.parametrize("place", ["step", "eval"])
@pytest.mark.parametrize(("disturb", "named"), DISTURBING.values(), ids=DISTURBING)
def test_so_is_an_optimizer(
    disturb: Callable[[], object], named: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shared()
    monkeypatch.setattr(Run, "doing", lambda where: disturb() if where == place else None)
    with pytest.raises(
        PluginError, match=rf"^scheduler 'Replacing': .* {named}, shared by the whole process(; use .*)?$"
    ):
        run_alone(make_engine(), Replacing())
    assert shared() == before


def test_an_optimizer_cannot_end_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "doing", lambda where: exit(0))
    with pytest.raises(PluginError, match=r"^scheduler 'Replacing' raised SystemExit: 0 \(test_drive_apart\.py:\d+\)$"):
        run_alone(make_engine(), Replacing())


def test_when_all_updates_are_made_nothing_of_a_scheduler_is_left() -> None:
    engine, scheduler = make_engine(), Replacing()
    contestants = [replace(one(scheduler), scheduler=scheduler)]
    trajectory = drive(engine, contestants, SEEDS)
    gc.collect()
    assert list(Run.alive) == []
    population: Population = trajectory.population
    evaluated = population.evaluate(engine.validation)
    assert torch.equal(evaluated.loss, trajectory.val_loss[-1])
    assert torch.equal(evaluated.error, trajectory.val_error)
