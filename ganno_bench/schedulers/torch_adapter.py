"""Any schedule of `torch.optim.lr_scheduler` as an entrant: `torch:StepLR(step_size=100, gamma=0.5)`.

The real class is driven on an optimizer with one parameter group, `scheduler.step()` once per update, for each base
learning rate on its own. What follows from that:

- Arguments mean what they mean in torch, so lengths are updates. Unless given, `T_max` and `total_steps` are the
  horizon.
- Learning rates among the arguments (`max_lr`, `eta_min`) are multiples of the base learning rate, which is the
  harness's to choose: `torch:OneCycleLR(max_lr=1.0)` peaks at it. `CyclicLR`'s own `base_lr` is it.
- Only the learning rate is scheduled: `cycle_momentum` is False.
- Classes that need a metric, functions or other schedulers are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
from torch.optim import SGD, lr_scheduler

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, did_you_mean
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["TorchScheduler", "torch_scheduler"]

_REFUSED = {
    "ChainedScheduler": "takes other schedulers as arguments; write a ClosedForm instead",
    "LambdaLR": "takes a function as an argument; write a ClosedForm instead",
    "MultiplicativeLR": "takes a function as an argument; write a ClosedForm instead",
    "ReduceLROnPlateau": "needs a metric at every step; use the scheduler 'plateau'",
    "SequentialLR": "takes other schedulers as arguments; write a ClosedForm instead",
}
_NOT_FIELDS = {"optimizer", "last_epoch", "base_lr"}
_HORIZONS = {"T_max", "total_steps"}
_LEARNING_RATES = {"max_lr", "eta_min"}


@dataclass(frozen=True)
class TorchScheduler(Scheduler):
    """Base of the classes that `torch_scheduler` makes; their fields are the torch class's arguments."""

    interval: ClassVar[int | None] = None
    torch_class: ClassVar[type[lr_scheduler.LRScheduler]]
    required: ClassVar[frozenset[str]]
    """Arguments for which torch has no default; theirs is None here."""
    _BLOCK: ClassVar[int] = 512

    def __post_init__(self) -> None:
        """Check the arguments by making the torch scheduler and moving it once.

        Raises:
            ConfigError: An argument is missing, or torch refuses its value.
        """
        name = f"torch:{self.torch_class.__name__}"
        if missing := [key for key in sorted(self.required) if getattr(self, key) is None]:
            raise ConfigError(f"scheduler {name!r} needs a value for {', '.join(missing)}: {name}({missing[0]}=...)")
        if getattr(self, "cycle_momentum", False):
            raise ConfigError(f"scheduler {name!r}: cycle_momentum=True is not supported, only learning rates are set")
        try:
            scheduler = self._make(1.0, 997)
            scheduler.optimizer.step()  # torch warns if its scheduler moves first
            scheduler.step()
        except Exception as error:
            raise ConfigError(f"scheduler {name!r}: torch refuses its arguments: {error}") from error

    def init(self, run: RunInfo) -> State:
        """Return the learning rates of the whole horizon, shape (total_updates, P).

        Raises:
            PluginError: The torch class fails on the way, or its learning rates are negative or not finite.
        """
        base_lrs = run.base_lr.tolist()
        curves = {base_lr: self._curve(base_lr, run.total_updates) for base_lr in dict.fromkeys(base_lrs)}
        return torch.tensor([curves[lr] for lr in base_lrs], dtype=torch.float64, device=run.base_lr.device).T.clone()

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Return the learning rates of the next updates in one block."""
        first = min(signals.n_updates, len(state) - 1)
        return Controls(state[first : first + self._BLOCK, :, None].repeat(1, 1, signals.lr.shape[1])), state

    def _curve(self, base_lr: float, total: int) -> list[float]:
        lrs: list[float] = []
        try:
            scheduler = self._make(base_lr, total)
            scheduler.optimizer.step()
            for update in range(total):
                if update > 0:
                    scheduler.step()
                lrs.append(float(scheduler.get_last_lr()[0]))
        except Exception as error:
            raise PluginError(
                f"torch:{self.torch_class.__name__} fails at update {len(lrs)} of {total}: "
                f"{type(error).__name__}: {error}"
            ) from error
        # Torch multiplies from update to update, which may miss a 0 by a rounding error.
        if bad := [lr for lr in lrs if not -1e-9 * base_lr <= lr < float("inf")]:
            raise PluginError(f"torch:{self.torch_class.__name__} gives the learning rate {bad[0]!r}")
        return [max(0.0, lr) for lr in lrs]

    def _make(self, base_lr: float, total: int) -> lr_scheduler.LRScheduler:
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        for key in _HORIZONS & arguments.keys():
            if arguments[key] is None and arguments.get("epochs") is None:
                arguments[key] = total
        for key in _LEARNING_RATES & arguments.keys():
            arguments[key] *= base_lr
        if "base_lr" in signature(self.torch_class).parameters:
            arguments["base_lr"] = base_lr
        return self.torch_class(SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr), **arguments)


@cache
def torch_scheduler(name: str) -> type[TorchScheduler]:
    """Return a scheduler class for a class of `torch.optim.lr_scheduler`, whose arguments become its fields.

    Raises:
        UnknownNameError: Torch has no such class.
        PluginError: It cannot be a benchmark entrant; the message says what to use instead.
    """
    classes = {
        key: value
        for key, value in vars(lr_scheduler).items()
        if isinstance(value, type) and issubclass(value, lr_scheduler.LRScheduler) and key in lr_scheduler.__all__
    }
    del classes["LRScheduler"]
    if name in _REFUSED:
        raise PluginError(f"scheduler 'torch:{name}' {_REFUSED[name]}")
    if name not in classes:
        choices = classes.keys() - _REFUSED.keys()
        raise UnknownNameError(f"torch.optim.lr_scheduler has no schedule {name!r}{did_you_mean(name, choices)}")
    parameters = [
        parameter for parameter in signature(classes[name]).parameters.values() if parameter.name not in _NOT_FIELDS
    ]
    required = {parameter.name for parameter in parameters if parameter.default is Parameter.empty} - _HORIZONS
    made = make_dataclass(
        name,
        [(parameter.name, Any, field(default=_default(parameter))) for parameter in parameters],
        bases=(TorchScheduler,),
        frozen=True,
        namespace={
            "__doc__": f"`torch.optim.lr_scheduler.{name}`.",
            "__module__": __name__,
            "torch_class": classes[name],
            "required": frozenset(required),
        },
    )
    assert issubclass(made, TorchScheduler)
    return made


def _default(parameter: Parameter) -> Any:
    if parameter.name == "cycle_momentum":
        return False
    return None if parameter.default is Parameter.empty else parameter.default
