"""Between schedulers and a population: decisions are checked, applied unchanged, and recorded in a trace."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.drive import Contestant, Trajectory, drive
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, RunInfo, Signals
from ganno_bench.workloads.data import Dataset, Examples, TaskShape
from ganno_bench.workloads.suite import OptimizerSpec, WorkloadSpec
from ganno_bench.workloads.workload import Workload

N_LAYERS = 3
SEEDS = [5, 6]


@cache
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(120, 1, 4, 4, generator=generator), torch.arange(120) % 4
    inputs[torch.arange(120), 0, targets, targets] += 2.0
    parts = [Examples(inputs[a:b], targets[a:b]) for a, b in ((0, 60), (60, 90), (90, 120))]
    shape = TaskShape("image", (1, 4, 4), None, 4, False)
    return Dataset("images", "image-classification", "0" * 64, shape, *parts, math.log(4))


def make_engine(
    n_updates: int = 20, n_evaluations: int = 4, backend: str = "loop", data: Dataset | None = None
) -> Engine:
    spec = WorkloadSpec(
        id="small",
        dataset="images",
        model={"family": "mlp", "depth": N_LAYERS - 1, "width": 8},
        optimizer=OptimizerSpec(name="sgd"),
        batch_size=8,
        n_updates=n_updates,
        n_evaluations=n_evaluations,
    )
    return Engine(Workload(spec, data or dataset()), backend=backend)


@dataclass(frozen=True)
class Reacting(Scheduler):
    """Its learning rates depend on all signals, and its state contains them."""

    needs: ClassVar[frozenset[str]] = frozenset(OPTIONAL_SIGNALS)

    strength: float = 1.0
    seen: list[Signals] = field(default_factory=list)

    def init(self, run: RunInfo) -> State:
        return run.base_lr[:, None].expand(-1, run.n_layers)

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        self.seen.append(signals)
        assert signals.grad_norm is not None
        assert signals.val_loss is not None
        factor = 1.0 + self.strength * torch.tanh(signals.grad_norm.nan_to_num(0.5) - signals.val_loss[:, None])
        return Controls(state * factor.nan_to_num(0.0)), state


@dataclass(frozen=True)
class EveryTen(Reacting):
    interval: ClassVar[int | None] = 10


@dataclass(frozen=True)
class Ramp(Scheduler):
    """Returns blocks: update t and layer l get `base_lr * (1 + t) * (1 + l)`."""

    interval: ClassVar[int | None] = None
    block: int = 7

    def init(self, run: RunInfo) -> State:
        return run.base_lr[:, None] * (1.0 + torch.arange(run.n_layers))

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        updates = signals.n_updates + torch.arange(self.block, dtype=torch.float64)
        return Controls((1.0 + updates)[:, None, None] * state), state


@dataclass(frozen=True)
class Deciding(Scheduler):
    """Its decisions are a function of its learning rates, shape (P, L), and the number of updates."""

    interval: ClassVar[int | None] = 5
    decide: Callable[[Tensor, int], Any] = lambda lr, n_updates: (Controls(lr), None)

    def init(self, run: RunInfo) -> State:
        return run.base_lr[:, None].expand(-1, run.n_layers)

    def step(self, state: State, signals: Signals) -> Any:
        return self.decide(state, signals.n_updates)


def one(scheduler: Scheduler, base_lr: float = 0.02, weight_decay: float = 1e-3) -> Contestant:
    return Contestant(scheduler, base_lr, weight_decay)


def run_alone(engine: Engine, scheduler: Scheduler, base_lr: float = 0.02) -> Trajectory:
    return drive(engine, [one(scheduler, base_lr)], SEEDS)


def equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True)


def assert_same(a: Trajectory, b: Trajectory) -> None:
    assert (a.eval_updates, a.trace_updates) == (b.eval_updates, b.trace_updates)
    assert all(
        equal(getattr(a, name), getattr(b, name)) for name in ("train_loss", "val_loss", "val_error", "lr_trace")
    )
    assert equal(a.population.diverged_at, b.population.diverged_at)


# Invalid decisions.


def failing(error: Exception) -> Callable[[Any, int], Any]:
    def decide(lr: Tensor, n_updates: int) -> Any:
        raise error

    return decide


def later(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Any]:
    """Return a function whose decisions are valid for five updates, and then differ in one number."""

    def decide(lr: Tensor, n_updates: int) -> Any:
        changed = lr.clone()
        changed[1, 2] = change(changed[1, 2])
        return Controls(changed if n_updates == 5 else lr), lr

    return decide


LR, BAD = "update 0: expected float64 learning rates of shape (2, 3) or (n, 2, 3), got ", "update 5, run 1: expected a "
DECAY = "update 0: expected weight_decay float64 of shape (2,), got "
WRONG = {
    "raises": (failing(ValueError("no idea")), "step raised ValueError: no idea"),
    "ends-the-process": (failing(SystemExit(0)), "step raised SystemExit: 0"),  # type: ignore[arg-type]
    "nothing": (lambda lr, n: None, "step must return (Controls, state), but returned NoneType"),
    "no-state": (lambda lr, n: Controls(lr), "step must return (Controls, state), but returned Controls"),
    "no-controls": (lambda lr, n: (lr, lr), "update 0: expected Controls with a tensor `lr`, got Tensor"),
    "number": (lambda lr, n: (Controls(0.1), lr), "update 0: expected Controls with a tensor `lr`, got a float"),  # type: ignore[arg-type]
    "one-per-run": (lambda lr, n: (Controls(lr[:, 0]), lr), LR + "float64 of shape (2,)"),
    "scalar": (lambda lr, n: (Controls(lr[0, 0]), lr), LR + "float64 of shape ()"),
    "transposed": (lambda lr, n: (Controls(lr.T), lr), LR + "float64 of shape (3, 2)"),
    "wrong-block": (lambda lr, n: (Controls(lr.repeat(5, 1, 2)), lr), LR + "float64 of shape (5, 2, 6)"),
    "block-of-blocks": (lambda lr, n: (Controls(lr.repeat(1, 5, 1, 1)), lr), LR + "float64 of shape (1, 5, 2, 3)"),
    "empty-block": (lambda lr, n: (Controls(lr.repeat(0, 1, 1)), lr), LR + "float64 of shape (0, 2, 3)"),
    "float32": (lambda lr, n: (Controls(lr.float()), lr), LR + "float32 of shape (2, 3)"),
    "half": (lambda lr, n: (Controls(lr.half().repeat(5, 1, 1)), lr), LR + "float16 of shape (5, 2, 3)"),
    "integers": (lambda lr, n: (Controls(lr.long()), lr), LR + "int64 of shape (2, 3)"),
    "booleans": (lambda lr, n: (Controls(lr > 0), lr), LR + "bool of shape (2, 3)"),
    "complex": (lambda lr, n: (Controls(lr + 0j), lr), LR + "complex128 of shape (2, 3)"),
    "elsewhere": (lambda lr, n: (Controls(lr.to("meta")), lr), LR + "float64 of shape (2, 3) on meta instead of cpu"),
    "sparse": (lambda lr, n: (Controls(lr.to_sparse()), lr), LR + "float64 sparse_coo of shape (2, 3)"),
    "negative": (later(torch.neg), BAD + "finite learning rate >= 0, got -0.02 for layer 2"),
    "nan": (later(lambda value: value * torch.nan), BAD + "finite learning rate >= 0, got nan for layer 2"),
    "infinite": (later(lambda value: value * torch.inf), BAD + "finite learning rate >= 0, got inf for layer 2"),
    "decay-number": (lambda lr, n: (Controls(lr, 0.1), lr), DECAY + "a float"),  # type: ignore[arg-type]
    "decay-shape": (lambda lr, n: (Controls(lr, lr), lr), DECAY + "float64 of shape (2, 3)"),
    "decay-float32": (lambda lr, n: (Controls(lr, lr[:, 0].float()), lr), DECAY + "float32 of shape (2,)"),
    "decay-booleans": (lambda lr, n: (Controls(lr, lr[:, 0] > 9), lr), DECAY + "bool of shape (2,)"),
    "decay-nan": (lambda lr, n: (Controls(lr, lr[:, 0] * torch.nan), lr), "run 0: expected weight_decay in [0, inf)"),
    "momentum-integers": (
        lambda lr, n: (Controls(lr, None, lr[:, 0].long()), lr),
        "update 0: expected momentum float64 of shape (2,), got int64 of shape (2,)",
    ),
    "momentum": (
        lambda lr, n: (Controls(lr, None, lr[:, 0] * 0 + 1), lr),
        "update 0, run 0: expected momentum in [0, 1.0), got 1.0",
    ),
}


@pytest.mark.parametrize(("decide", "message"), WRONG.values(), ids=WRONG)
def test_a_scheduler_that_breaks_its_contract_is_named(decide: Callable[[Tensor, int], Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"^scheduler 'Deciding': .*{re.escape(message)}"):
        run_alone(make_engine(), Deciding(decide=decide))


def test_a_scheduler_whose_init_raises_is_named() -> None:
    class Unready(Deciding):
        def init(self, run: RunInfo) -> State:
            raise KeyError("lr")

    with pytest.raises(PluginError, match=r"^scheduler 'Unready': init raised KeyError: 'lr'"):
        run_alone(make_engine(), Unready())


def test_configurations_that_decide_for_different_numbers_of_updates_are_refused() -> None:
    message = r"^scheduler 'Ramp': configurations decide for different numbers of updates \(\[4, 7\]\) at update 0"
    with pytest.raises(PluginError, match=message):
        drive(make_engine(), [one(Ramp(block=7)), one(Ramp(block=4))], SEEDS)


def test_configurations_of_which_some_control_the_momentum_are_refused() -> None:
    controlling = Deciding(decide=lambda lr, n: (Controls(lr, momentum=torch.full((2,), 0.5, dtype=torch.float64)), lr))
    plain = Deciding(decide=lambda lr, n: (Controls(lr), lr))
    with pytest.raises(PluginError, match="some configurations of the scheduler control the momentum and some do not"):
        drive(make_engine(), [one(plain), one(controlling)], SEEDS)


def test_a_diverged_runs_rates_may_be_anything() -> None:
    def decide(lr: Tensor, n_updates: int) -> Any:
        lr = torch.tensor([[1e30], [0.01]], dtype=torch.float64).expand(lr.shape).clone()
        if n_updates >= 10:
            lr[0] = torch.tensor([torch.nan, -1.0, torch.inf])
        return Controls(lr), lr

    trajectory = run_alone(make_engine(), Deciding(decide=decide))
    assert trajectory.population.diverged.tolist() == [True, False]


# Applied learning rates, and the trace.


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Collect the learning rates of each update, shape (P, L), as the population gets them."""
    rows: list[Tensor] = []
    advance = Population.advance

    def spy(self: Population, controls: Controls, n_updates: int, **options: Any) -> Signals:
        rows.extend(controls.lr.expand(n_updates, *controls.lr.shape[-2:]).clone())
        return advance(self, controls, n_updates, **options)

    monkeypatch.setattr(Population, "advance", spy)
    return rows


@pytest.mark.parametrize("n_updates", [1, 2, 3, 20, 33, 100])
def test_the_trace_is_what_was_applied_from_the_first_update_to_the_last(applied: list[Tensor], n_updates: int) -> None:
    trajectory = drive(make_engine(n_updates), [one(Ramp(), 1e-5), one(Ramp(), 2e-5)], SEEDS)
    kept = trajectory.trace_updates
    assert (kept[0], kept[-1]) == (0, n_updates - 1)
    assert list(kept) == sorted(set(kept))
    assert min(n_updates, 32) <= len(kept) <= 33
    assert torch.equal(trajectory.lr_trace, torch.stack([applied[update] for update in kept]))


def test_a_decision_is_applied_update_by_update_whatever_is_evaluated_between(applied: list[Tensor]) -> None:
    drive(make_engine(20, n_evaluations=7), [one(Ramp(), 1e-4), one(Ramp(), 2e-4)], SEEDS)
    update, run, layer = torch.meshgrid(torch.arange(20), torch.arange(4), torch.arange(3), indexing="ij")
    base_lr = torch.tensor([1e-4, 2e-4], dtype=torch.float64)[run // len(SEEDS)]
    assert torch.equal(torch.stack(applied), (1.0 + update) * (base_lr * (1.0 + layer)))


@pytest.mark.parametrize(("n_updates", "asked"), [(1, [0]), (4, [0]), (20, [0, 5, 10, 15]), (11, [0, 5, 10])])
def test_a_scheduler_is_asked_once_for_each_interval(n_updates: int, asked: list[int]) -> None:
    calls: list[int] = []

    def decide(lr: Tensor, n: int) -> Any:
        calls.append(n)
        return Controls(lr), lr

    run_alone(make_engine(n_updates, n_evaluations=3), Deciding(decide=decide))
    assert calls == asked


def test_weight_decay_and_momentum_are_each_runs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Controls] = []
    advance = Population.advance

    def spy(self: Population, controls: Controls, n_updates: int, **options: Any) -> Signals:
        given.append(controls)
        return advance(self, controls, n_updates, **options)

    def full(value: float) -> Tensor:
        return torch.full((2,), value, dtype=torch.float64)

    monkeypatch.setattr(Population, "advance", spy)
    contestants = [
        one(Deciding(decide=lambda lr, n, v=value: (Controls(lr, full(v), full(v / 2)), lr))) for value in (0.25, 0.5)
    ]
    drive(make_engine(5, 1), contestants, SEEDS)
    (controls,) = given
    assert controls.weight_decay is not None
    assert controls.momentum is not None
    assert controls.weight_decay.tolist() == [0.25, 0.25, 0.5, 0.5]
    assert controls.momentum.tolist() == [0.125, 0.125, 0.25, 0.25]


# Results.


@pytest.mark.parametrize("n_evaluations", [1, 2, 5, 16])
@pytest.mark.parametrize("n_updates", [1, 2, 3, 17, 40])
def test_evaluations_are_evenly_spaced_and_end_at_the_horizon(n_updates: int, n_evaluations: int) -> None:
    progress: list[int] = []
    trajectory = drive(make_engine(n_updates, n_evaluations), [one(Ramp(), 1e-5)], SEEDS, progress.append)
    points = trajectory.eval_updates
    assert points[-1] == n_updates == trajectory.population.n_updates == sum(progress)
    gaps = [b - a for a, b in zip((0, *points), points, strict=False)]
    assert min(gaps) >= 1
    assert max(gaps) - min(gaps) <= 1
    assert len(points) == min(n_updates, n_evaluations)
    assert trajectory.train_loss.shape == trajectory.val_loss.shape == (len(points), 2)
    assert trajectory.val_loss.isfinite().all()
    assert trajectory.train_loss.isfinite().all()
    assert trajectory.val_error.shape == (2,)


def test_losses_are_those_of_the_population_between_and_at_the_evaluations() -> None:
    engine = make_engine(20, n_evaluations=3)
    trajectory = run_alone(engine, Ramp(), 1e-3)
    assert trajectory.eval_updates == (7, 13, 20)
    population = engine.population(SEEDS, 1e-3)
    rates = 1e-3 * (1.0 + torch.arange(20.0, dtype=torch.float64))[:, None, None] * (1.0 + torch.arange(3.0))
    lr = rates.expand(20, 2, 3)
    for row, (first, end) in enumerate([(0, 7), (7, 13), (13, 20)]):
        signals = population.advance(Controls(lr[first:end]), end - first)
        evaluation = population.evaluate(engine.validation)
        torch.testing.assert_close(trajectory.train_loss[row], signals.train_loss, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(trajectory.val_loss[row], evaluation.loss, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(trajectory.val_error, evaluation.error, rtol=1e-6, atol=0.0)


def test_from_divergence_on_all_is_nan() -> None:
    contestants = [one(Ramp(), 1e-4), one(Ramp(), 1e4)]
    trajectory = drive(make_engine(40, n_evaluations=8), contestants, SEEDS)
    (_, _, at, also_at) = diverged_at = trajectory.population.diverged_at.tolist()
    assert diverged_at[:2] == [-1, -1]
    assert 0 < at < 30
    assert 0 < also_at < 30
    for run in (2, 3):
        seen = torch.tensor([update > diverged_at[run] for update in trajectory.eval_updates])
        assert trajectory.val_loss[:, run].isnan().tolist() == seen.tolist()
        assert trajectory.train_loss[:, run].isnan().tolist() == seen.tolist()
        kept = torch.tensor([update > diverged_at[run] for update in trajectory.trace_updates])
        assert trajectory.lr_trace[:, run].isnan().all(1).tolist() == kept.tolist()
        assert trajectory.val_error[run].isnan()
    for values in (trajectory.val_loss, trajectory.train_loss, trajectory.lr_trace, trajectory.val_error[None]):
        assert values[:, :2].isfinite().all()


def test_a_run_that_its_last_update_ruins_ends_in_a_loss_that_is_not_finite() -> None:
    last = Deciding(decide=lambda lr, n: (Controls(lr * (1e35 if n == 10 else 1.0)), lr))
    trajectory = run_alone(make_engine(11, n_evaluations=2), last)
    assert trajectory.train_loss.isfinite().all()
    assert trajectory.val_loss.isfinite().tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_a_contestants_result_is_the_same_alone_and_among_seven_others(backend: str) -> None:
    engine = make_engine(backend=backend)
    settings: Sequence[tuple[float, float, float]] = [
        (0.5, 0.01, 0.0),
        (0.1, 1e30, 0.0),  # diverges
        (0.9, 0.1, 1e-2),
        (0.0, 0.05, 0.0),
        (0.3, 0.002, 1e-3),
        (0.7, 0.03, 0.3),
        (0.2, 0.02, 1e-4),
        (0.6, 0.01, 0.0),
    ]
    together = drive(engine, [one(Reacting(s), lr, decay) for s, lr, decay in settings], SEEDS)
    for index in (0, 2, 7):
        strength, lr, decay = settings[index]
        scheduler = Reacting(strength)
        alone = drive(engine, [one(scheduler, lr, decay)], SEEDS)
        own = slice(index * len(SEEDS), (index + 1) * len(SEEDS))
        for name in ("train_loss", "val_loss", "lr_trace"):
            assert torch.equal(getattr(alone, name), getattr(together, name)[:, own])
        assert torch.equal(alone.val_error, together.val_error[own])
        assert not torch.equal(alone.lr_trace[0], alone.lr_trace[-1])  # it reacted


def test_runs_with_the_same_seed_are_paired_and_lie_side_by_side_for_each_contestant() -> None:
    trajectory = drive(make_engine(), [one(Ramp(), 1e-4), one(Ramp(), 1e-4)], SEEDS)
    assert trajectory.population.seeds == (5, 6, 5, 6)
    assert torch.equal(trajectory.val_loss[:, :2], trajectory.val_loss[:, 2:])
    assert not torch.equal(trajectory.val_loss[:, 0], trajectory.val_loss[:, 1])


# Signals.


def same_signals(a: Signals, b: Signals) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)]
    return all(equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def test_evaluations_within_an_interval_change_nothing_that_is_seen() -> None:
    spies = {n_evaluations: EveryTen() for n_evaluations in (1, 7, 45)}
    trajectories = [run_alone(make_engine(45, n), spy) for n, spy in spies.items()]
    expected = spies[1].seen
    assert [signals.n_updates for signals in expected] == [0, 10, 20, 30, 40]
    for spy in spies.values():
        assert len(spy.seen) == 5
        assert all(same_signals(a, b) for a, b in zip(spy.seen, expected, strict=True))
    assert all(equal(t.val_loss[-1], trajectories[0].val_loss[-1]) for t in trajectories)


def test_a_scheduler_sees_its_own_runs_only() -> None:
    contestants = [one(EveryTen(), lr) for lr in (0.01, 0.02, 0.03)]
    drive(make_engine(), contestants, SEEDS)
    alone = EveryTen()
    run_alone(make_engine(), alone)
    among = contestants[1].scheduler
    assert isinstance(among, EveryTen)
    assert all(same_signals(a, b) for a, b in zip(among.seen, alone.seen, strict=True))


def test_what_nobody_needs_is_not_measured() -> None:
    seen: list[Signals] = []

    @dataclass(frozen=True)
    class Modest(Deciding):
        needs: ClassVar[frozenset[str]] = frozenset({"param_norm"})

        def step(self, state: State, signals: Signals) -> Any:
            seen.append(signals)
            return Controls(state), state

    run_alone(make_engine(), Modest())
    known = [[name for name in OPTIONAL_SIGNALS if getattr(s, name) is not None] for s in seen]
    assert known == [["param_norm"]] * 4


@pytest.mark.parametrize(
    "test",
    [Examples(torch.full((9, 1, 4, 4), torch.nan), torch.full((9,), 10**9)), object()],
    ids=["nan", "none-at-all"],
)
def test_test_data_reach_neither_schedulers_nor_trajectories(test: Any) -> None:
    clean, poisoned = EveryTen(), EveryTen()
    expected = run_alone(make_engine(), clean)
    assert_same(run_alone(make_engine(data=replace(dataset(), test=test)), poisoned), expected)
    assert all(same_signals(a, b) for a, b in zip(poisoned.seen, clean.seen, strict=True))


def test_an_error_of_a_file_says_in_which_line_it_was_raised(tmp_path: Path) -> None:
    source = """from dataclasses import dataclass
from ganno_bench.schedulers import ClosedForm

@dataclass(frozen=True)
class Mine(ClosedForm):
    def factor(self, update, total):
        return 1 / update
"""
    (tmp_path / "mine.py").write_text(source)
    broken = load_scheduler(f"{tmp_path / 'mine.py'}:Mine").build({})
    with pytest.raises(PluginError, match=r"step raised ZeroDivisionError: division by zero \(mine\.py:7\)$"):
        drive(make_engine(), [Contestant(broken, 0.1, 0.0)], [1])
