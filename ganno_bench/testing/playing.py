"""Lets a scheduler decide on synthetic runs, and checks the form of its decisions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError, plugin_line
from ganno_bench.core.process_state import DisturbanceError, Process, undisturbed
from ganno_bench.schedulers.base import State
from ganno_bench.schedulers.decision import fault_of, parted
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.testing.synthetic import SyntheticRuns
from ganno_bench.training.signals import OPTIONAL_SIGNALS, Controls, RunInfo, Signals

__all__ = ["ContractError", "Played", "first_line", "play", "within"]


class ContractError(AssertionError):
    """A plugin breaks its contract. One line has what was expected, what was found, and the update and run."""


@dataclass(frozen=True)
class Played:
    """The decisions of a scheduler in T updates.

    Attributes:
        controls: Shape (T, P, L + 2): the layers' learning rates, weight decay and momentum; NaN if not controlled.
        decided_at: Number of updates done at each decision.
    """

    controls: Tensor
    decided_at: tuple[int, ...]


def play(
    entry: SchedulerEntry,
    runs: SyntheticRuns,
    config: Mapping[str, Any] | None = None,
    *,
    needs: Collection[str] = OPTIONAL_SIGNALS,
    any_block: bool = False,
    init: Callable[[RunInfo], State] | None = None,
    step: Callable[[State, Signals], tuple[Controls, State]] | None = None,
) -> Played:
    """Let a scheduler decide until the horizon.

    Args:
        entry: The scheduler.
        runs: The runs that it sees.
        config: Values of some hyperparameters; the others keep their value.
        needs: Optional signals that are not None.
        any_block: Whether to accept a block of any length.
        init: Called instead of the scheduler's `init`.
        step: Called instead of the scheduler's `step`.

    Raises:
        ContractError: The scheduler raised, or returned invalid controls.
        DisturbanceError: It changed state that the whole process shares.
    """
    with undisturbed("init or step") as process:
        return _play(entry, runs, config or {}, needs, any_block, init, step, process)


def _play(
    entry: SchedulerEntry,
    runs: SyntheticRuns,
    config: Mapping[str, Any],
    needs: Collection[str],
    any_block: bool,
    init: Callable[[RunInfo], State] | None,
    step: Callable[[State, Signals], tuple[Controls, State]] | None,
    process: Process,
) -> Played:
    scheduler = entry.build(config)
    info, interval, total = runs.info(), entry.cls.interval, runs.total
    state = within("init", partial(init or scheduler.init, info))
    process.check("init")
    rows: list[Tensor] = []
    decided_at: list[int] = []
    lr = torch.full((info.n_runs, info.n_layers), torch.nan, dtype=torch.float64)
    while (done := len(rows)) < total:
        signals = runs.signals(done, decided_at[-1] if decided_at else 0, lr, needs)
        diverged = signals.diverged.clone()
        decision = within(f"update {done}", partial(step or scheduler.step, state, signals))
        process.check(f"update {done}: step")
        try:
            controls, state = parted(decision)
        except PluginError as error:
            raise ContractError(f"update {done}: {error}") from None
        if fault := fault_of(controls, (info.n_runs, info.n_layers), diverged, done):
            raise ContractError(fault)
        left, block = total - done, controls.lr.dim() == 3
        n = min(left, len(controls.lr) if block else interval or left)
        if not any_block:
            _check_block(controls.lr, interval, left, done)
        extra = [
            torch.full((info.n_runs, 1), torch.nan) if value is None else value[:, None]
            for value in (controls.weight_decay, controls.momentum)
        ]
        block_lr = controls.lr[:n] if block else controls.lr.expand(n, -1, -1)
        rows += [torch.cat([row, *extra], dim=1) for row in block_lr]
        decided_at.append(done)
        lr = block_lr[-1]
    return Played(torch.stack(rows), tuple(decided_at))


def _check_block(lr: Tensor, interval: int | None, left: int, done: int) -> None:
    if interval is None and (lr.dim() != 3 or len(lr) > left):
        raise ContractError(
            f"update {done}: expected a block (n, P, L) with n <= {left}, the number of updates left, because interval "
            f"is None; got shape {tuple(lr.shape)}"
        )
    if interval is not None and lr.dim() == 3 and len(lr) != min(interval, left):
        raise ContractError(
            f"update {done}: expected a block of {min(interval, left)} updates until the next decision, got {len(lr)}"
        )


def within(where: str, function: Callable[[], Any]) -> Any:
    """Call `function`. Put `where` in front of the message if it fails."""
    try:
        return function()
    except KeyboardInterrupt:
        raise
    except (ContractError, DisturbanceError) as error:
        raise type(error)(f"{where}: {error}") from error
    except BaseException as error:
        raise ContractError(f"{where}: raised {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return type and first line of an error's message, and the plugin's line that raised it."""
    return ": ".join(filter(None, [type(error).__name__, str(error).strip().partition("\n")[0]])) + plugin_line(error)
