"""Trains a population under schedulers, for the tuner and for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError, one_line
from ganno_bench.core.process_state import Process, undisturbed
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.decision import fault_of, owned, parted
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry
from ganno_bench.training.open_optimizer import MakeOptimizer
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["Contestant", "Trajectory", "drive", "spread"]

_TRACE_ROWS = 32


@dataclass(frozen=True)
class Contestant:
    """One configuration in a population.

    Attributes:
        scheduler: The scheduler.
        base_lr: Base learning rate.
        weight_decay: Weight decay.
        name: Name of the scheduler in messages; by default the name of its class.
    """

    scheduler: Scheduler
    base_lr: float
    weight_decay: float
    name: str | None = None

    @property
    def title(self) -> str:
        """The beginning of messages about it."""
        return f"scheduler {self.name or type(self.scheduler).__name__!r}"


@dataclass(frozen=True)
class Trajectory:
    """The results of P runs. The runs of one configuration are neighbours, one for each seed.

    Attributes:
        population: The runs after the last update.
        eval_updates: Number of updates done at each of E evaluations; the last is the horizon.
        train_loss: Mean training loss since the previous evaluation, nats, shape (E, P); NaN after divergence.
        val_loss: Validation loss, nats, shape (E, P); NaN after divergence.
        val_error: Share of wrong predictions on the validation split at the end, shape (P,).
        trace_updates: Indices of the K updates whose learning rates were kept, from 0.
        lr_trace: Their learning rates, shape (K, P, L); effective ones for an open optimizer; NaN after divergence.
    """

    population: Population
    eval_updates: tuple[int, ...]
    train_loss: Tensor
    val_loss: Tensor
    val_error: Tensor
    trace_updates: tuple[int, ...]
    lr_trace: Tensor


def drive(
    engine: Engine,
    contestants: Sequence[Contestant],
    seeds: Sequence[int],
    on_progress: Callable[[int], None] = lambda updates: None,
) -> Trajectory:
    """Train each contestant with each seed, to the horizon.

    Schedulers get copies of the signals, and their decisions are copied: a scheduler cannot change a run later. State
    that the whole process shares is restored after their code has run. The trajectory holds no object of a scheduler.

    Args:
        engine: The workload.
        contestants: C configurations of one scheduler. All decide at the same updates.
        seeds: S seeds. Run `c * S + s` is contestant c with seed s.
        on_progress: Called with the number of updates (of one run) since the last call.

    Raises:
        PluginError: A scheduler raised, made an invalid decision, or changed state that the whole process shares.
    """
    with undisturbed(contestants[0].title) as process:
        return _drive(engine, contestants, seeds, on_progress, process)


def _drive(
    engine: Engine,
    contestants: Sequence[Contestant],
    seeds: Sequence[int],
    on_progress: Callable[[int], None],
    process: Process,
) -> Trajectory:
    title = contestants[0].title
    total = engine.workload.spec.n_updates
    n_seeds = len(seeds)
    base_lr = torch.tensor([c.base_lr for c in contestants], dtype=torch.float64).repeat_interleave(n_seeds)
    weight_decay = torch.tensor([c.weight_decay for c in contestants], dtype=torch.float64).repeat_interleave(n_seeds)
    needs = frozenset().union(*(contestant.scheduler.needs for contestant in contestants))
    optimizers = _open_optimizers(engine, contestants, n_seeds)
    trains = (
        f"{title}: its optimizer" if optimizers else f"model {engine.workload.spec.model.get('family')!r}: training it"
    )
    population = engine.population(list(seeds) * len(contestants), weight_decay, needs, optimizers)
    process.check_all(trains)
    run = engine.run_info(base_lr, weight_decay)
    groups = [
        _Group(contestant, slice(index * n_seeds, (index + 1) * n_seeds), run)
        for index, contestant in enumerate(contestants)
    ]
    process.check_all(f"{title}: init")
    points = spread(total, engine.workload.spec.n_evaluations)
    trace_updates = tuple(update - 1 for update in spread(total, _TRACE_ROWS))
    if trace_updates[0] != 0:
        trace_updates = (0, *trace_updates)
    trace: list[Tensor] = []
    losses: list[tuple[Tensor, Tensor]] = []
    loss_sum, since = torch.zeros(population.n_runs, dtype=torch.float64, device=engine.device), 0
    signals = population.observe()
    for point in points:
        while population.n_updates < point:
            done = population.n_updates
            decide = groups[0].used_up
            if decide:
                for group in groups:
                    group.decide(signals)
                process.check(f"{title}: step")
                if len({group.remaining for group in groups}) > 1:
                    raise PluginError(
                        f"{title}: configurations decide for different numbers "
                        f"of updates ({sorted({group.remaining for group in groups})}) at update {done}"
                    )
            n_updates = min(groups[0].remaining, point - done)
            controls = _merge([group.take(n_updates) for group in groups])
            signals = population.advance(controls, n_updates, same_interval=not decide)
            process.check(trains)
            applied = population.applied_lr
            trace += [applied[update - done] for update in trace_updates if done <= update < done + n_updates]
            loss_sum += population.last_losses
            since += n_updates
            on_progress(n_updates)
        if signals.val_loss is None or point == total:
            validation = population.evaluate(engine.validation)
        val_loss = signals.val_loss if signals.val_loss is not None else validation.loss
        losses.append((torch.where(population.diverged, torch.nan, loss_sum / since), val_loss))
        loss_sum, since = torch.zeros_like(loss_sum), 0
        process.check_all(f"{title}: a step, or training under it,")
    population.conclude()
    process.check_all(trains)
    diverged_at = torch.where(population.diverged, population.diverged_at, total)
    gone = torch.tensor(trace_updates, device=engine.device)[:, None] > diverged_at
    return Trajectory(
        population=population,
        eval_updates=points,
        train_loss=torch.stack([train for train, _ in losses]),
        val_loss=torch.stack([val for _, val in losses]),
        val_error=validation.error,
        trace_updates=trace_updates,
        lr_trace=torch.where(gone[..., None], torch.nan, torch.stack(trace)),
    )


def _open_optimizers(engine: Engine, contestants: Sequence[Contestant], n_seeds: int) -> list[MakeOptimizer] | None:
    """Return a function for each run that makes its open optimizer, or None to keep the workload's optimizer."""
    spec = engine.workload.spec
    makers: list[MakeOptimizer] = []
    for contestant in contestants:
        if isinstance(contestant.scheduler, OptimizerEntry):
            makers += [partial(contestant.scheduler.optimizer, spec=spec)] * n_seeds
    return makers or None


class _Group:
    """The runs of one configuration, the state of their scheduler, and the rest of its last decision."""

    def __init__(self, contestant: Contestant, runs: slice, run: RunInfo) -> None:
        self.scheduler = scheduler = contestant.scheduler
        self._name = contestant.title
        self.runs = runs
        self.remaining = 0
        self._used = 0
        own = replace(run, base_lr=run.base_lr[runs].clone(), weight_decay=run.weight_decay[runs].clone())
        self._shape = (own.n_runs, own.n_layers)
        self._controls: Controls
        self._state: State = self._call(lambda: scheduler.init(own), "init")

    @property
    def used_up(self) -> bool:
        return self.remaining == 0

    def decide(self, signals: Signals) -> None:
        own = signals.runs(self.runs)
        decision = self._call(lambda: self.scheduler.step(self._state, own), "step")
        try:
            controls, self._state = parted(decision)
        except PluginError as error:
            raise PluginError(f"{self._name}: {error}") from None
        diverged = signals.diverged[self.runs]  # not the copy, which the scheduler may have changed
        if fault := self._call(lambda: fault_of(controls, self._shape, diverged, signals.n_updates), "its decision"):
            raise PluginError(f"{self._name}: {fault}")
        self._controls = owned(controls)
        lr = self._controls.lr
        left = signals.total_updates - signals.n_updates
        self.remaining = min(left, len(lr) if lr.dim() == 3 else self.scheduler.interval or left)
        self._used = 0

    def take(self, n_updates: int) -> Controls:
        """Return the next part of the decision, its learning rates of shape (n_updates, P, L)."""
        lr = self._controls.lr
        part = lr[self._used : self._used + n_updates] if lr.dim() == 3 else lr.expand(n_updates, *self._shape)
        self._used += n_updates
        self.remaining -= n_updates
        return Controls(part, self._controls.weight_decay, self._controls.momentum)

    def _call(self, function: Callable[[], Any], what: str) -> Any:
        try:
            return function()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise PluginError(f"{self._name}: {what} raised {one_line(error)}") from error


def _merge(parts: Sequence[Controls]) -> Controls:
    def joined(name: str) -> Tensor | None:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        if values and len(values) < len(parts):
            raise PluginError(f"some configurations of the scheduler control the {name} and some do not")
        return torch.cat(values) if values else None

    return Controls(torch.cat([part.lr for part in parts], dim=1), joined("weight_decay"), joined("momentum"))


def spread(total: int, n: int) -> tuple[int, ...]:
    """Return at most n evenly spaced numbers from 1 to `total`, the last of which is `total`."""
    return tuple(sorted({max(1, round(total * (index + 1) / n)) for index in range(n)}))
