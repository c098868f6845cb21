"""The contract of a scheduler, as tests that the author of a plugin can run.

In pytest, derive a class and name the scheduler:

    from ganno_bench.testing.scheduler_contract import SchedulerContract

    class TestMine(SchedulerContract):
        ref = "./mine.py:Mine"

`check_scheduler` runs the same checks without pytest.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import optuna
import torch
from torch import Tensor

from ganno_bench.schedulers.base import ClosedForm, State
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler
from ganno_bench.testing.contract import Check, CheckResult, Contract, check_all, unchanged
from ganno_bench.testing.open_optimizer import check_training
from ganno_bench.testing.playing import ContractError, first_line, play, within
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.training.signals import Controls, RunInfo, Signals
from ganno_bench.workloads.suite import OptimizerSpec

__all__ = ["CHECKS", "CheckResult", "ContractError", "SchedulerContract", "check_scheduler"]


def check_learning_rates(entry: SchedulerEntry) -> None:
    """Learning rates are float64, of shape (P, L) or (n, P, L), finite and at least 0."""
    play(entry, _ordinary(entry), any_block=True)


def check_block_length(entry: SchedulerEntry) -> None:
    """A block of learning rates has one row for each update of the decision."""
    play(entry, _ordinary(entry))


def check_deterministic(entry: SchedulerEntry) -> None:
    """The same runs get the same learning rates again, bit by bit."""
    runs = _ordinary(entry)
    _compare(play(entry, runs).controls, play(entry, runs).controls, "as the first time")


def check_resumable(entry: SchedulerEntry) -> None:
    """A new instance decides the same from a state that was saved and read back before each decision."""

    def step(state: State, signals: Signals) -> tuple[Controls, State]:
        file = io.BytesIO()
        try:
            torch.save(state, file)
            file.seek(0)
            state = torch.load(file, weights_only=True)
        except Exception as error:
            raise ContractError(
                f"expected a state of tensors and plain values that torch.load("
                f"weights_only=True) reads back, got {first_line(error)}"
            ) from error
        return entry.build({}).step(state, signals)

    runs = _ordinary(entry)
    _compare(play(entry, runs).controls, play(entry, runs, step=step).controls, "as without saving and resuming")


def check_short_horizons(entry: SchedulerEntry) -> None:
    """Horizons of 1 and 2 updates work."""
    for total in (1, 2):
        within(f"horizon {total}", partial(play, entry, synthetic_runs(total)))


def check_divergence(entry: SchedulerEntry) -> None:
    """A run that diverges, and so shows NaN, does not change the decisions for the other runs."""
    runs = _ordinary(entry)
    expected, got = play(entry, runs), play(entry, runs.diverging(1, n_updates=1))
    _compare(expected.controls, got.controls, "as if run 1 had not diverged", ignored=1)


def check_inputs_unchanged(entry: SchedulerEntry) -> None:
    """`init` and `step` do not change RunInfo, state or signals in place."""
    scheduler = entry.build({})

    def init(run: RunInfo) -> State:
        before = copy.deepcopy(run)
        state = scheduler.init(run)
        unchanged(before, run, "init changed run")
        return state

    def step(state: State, signals: Signals) -> tuple[Controls, State]:
        before = copy.deepcopy((state, signals))
        result = scheduler.step(state, signals)
        unchanged(before[0], state, "step changed state")
        unchanged(before[1], signals, "step changed signals")
        return result

    play(entry, _ordinary(entry), init=init, step=step)


def check_needs(entry: SchedulerEntry) -> None:
    """The scheduler decides the same if the signals that `needs` does not name are None."""
    runs = _ordinary(entry)
    reduced = within(
        f"with needs = {sorted(entry.cls.needs)} and the other signals None",
        partial(play, entry, runs, needs=entry.cls.needs),
    )
    _compare(play(entry, runs).controls, reduced.controls, "as with all signals")


def check_independent_runs(entry: SchedulerEntry) -> None:
    """A run gets the same learning rates at any place among the runs, and alone."""
    runs = _ordinary(entry)
    together = play(entry, runs).controls
    for others in ([2, 0, 1], [0], [1], [2]):
        expected = f"for runs {others} as for the same ones of [0, 1, 2]"
        # Vectorised and scalar functions may differ in the last digit.
        _compare(together[:, others], play(entry, runs.select(others)).controls, expected, rtol=1e-12)


def check_search_space(entry: SchedulerEntry) -> None:
    """Every configuration of the search space works, also at short horizons, and all decide after the same updates."""
    for runs in (_ordinary(entry), synthetic_runs(1), synthetic_runs(2)):
        decided_at = None
        for config in _sample(entry):
            got = within(f"{config}, horizon {runs.total}", partial(play, entry, runs, config)).decided_at
            decided_at = decided_at or got
            if got != decided_at:
                raise ContractError(f"{config}: expected decisions after {decided_at} updates, got {got}")


def check_scale(entry: SchedulerEntry) -> None:
    """Learning rates of a closed-form schedule are proportional to the base learning rate. Others pass."""
    if not issubclass(entry.cls, ClosedForm):
        return
    runs = _ordinary(entry)
    doubled = SyntheticRuns(**{**vars(runs), "base_lr": 2.0 * runs.base_lr})
    expected = play(entry, runs).controls
    expected[..., :-2] *= 2.0
    _compare(expected, play(entry, doubled).controls, "with the base learning rate doubled")


def check_open_optimizer(entry: SchedulerEntry) -> None:
    """An open optimizer trains, with the same result if repeated, alone, or evaluated in between. Others pass."""
    scheduler = entry.build({})
    if isinstance(scheduler, OptimizerEntry):
        for name in scheduler.replaces:
            spec = OptimizerSpec.model_validate({"name": name})
            within(f"in place of {name!r}", partial(check_training, scheduler, spec))


_GATES = (check_learning_rates, check_block_length, check_deterministic)
CHECKS: tuple[Callable[[SchedulerEntry], None], ...] = (
    *_GATES,
    check_resumable,
    check_short_horizons,
    check_divergence,
    check_inputs_unchanged,
    check_needs,
    check_independent_runs,
    check_search_space,
    check_scale,
    check_open_optimizer,
)
"""Each check takes an entry, and raises `ContractError` if the scheduler fails it."""


def check_scheduler(ref: str) -> list[CheckResult]:
    """Check a scheduler against the whole contract.

    The first result, `loads`, comes from `load_scheduler`: the class is a frozen dataclass, its defaults lie inside the
    search space, and so on. If `loads`, `learning_rates`, `block_length` or `deterministic` fails, the remaining checks
    are skipped, because their results would mean nothing.

    Args:
        ref: Name of the scheduler, as on the command line: `cosine` or `./file.py:Name`; see `load_scheduler`.

    Raises:
        UnknownNameError: No such scheduler.
        ConfigError: The name is malformed.
    """
    return check_all(lambda: load_scheduler(ref), CHECKS, _GATES)


class SchedulerContract(Contract):
    """The contract as pytest tests, one for each check. Derive a class `Test...` and set `ref`."""

    checks: ClassVar[Sequence[Check]] = CHECKS
    load = staticmethod(load_scheduler)


def _compare(expected: Tensor, got: Tensor, what: str, *, rtol: float = 0.0, ignored: int | None = None) -> None:
    """Raise at the first difference between two `Played.controls`, except in the run `ignored`."""
    different = ~torch.isclose(got, expected, rtol=rtol, atol=0.0, equal_nan=True)
    if ignored is not None:
        different[:, ignored] = False
    if different.any():
        update, run, column = different.nonzero()[0].tolist()
        names = [f"learning rate of layer {layer}" for layer in range(expected.shape[2] - 2)]
        name = [*names, "weight decay", "momentum"][column]
        raise ContractError(
            f"update {update}, run {run}: expected {name} {expected[update, run, column].item()!r} {what}, "
            f"got {got[update, run, column].item()!r}"
        )


def _ordinary(entry: SchedulerEntry) -> SyntheticRuns:
    """Return runs with several decisions, the last of which covers less than a decision interval."""
    return synthetic_runs(max(61, 4 * (entry.cls.interval or 1) + 1))


def _sample(entry: SchedulerEntry) -> list[dict[str, Any]]:
    """Return 10 random configurations, the same at each call; none if nothing is tuned."""
    if not entry.search_space:
        return []
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        return [study.ask(dict(entry.search_space)).params for _ in range(10)]
    finally:
        optuna.logging.set_verbosity(verbosity)
