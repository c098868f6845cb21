"""The schedules of `torch.optim.lr_scheduler`: `torch:StepLR(step_size=100, gamma=0.5)`.

The torch class itself sets the learning rate of an optimizer with one parameter group, once for each base learning
rate. `scheduler.step()` is called once per update. This has consequences:

- Arguments have the same meaning as in torch, so lengths are numbers of updates. By default, `T_max`, `total_steps` and
  the `total_iters` of a decay are the horizon. The `total_iters` of a warmup (`ConstantLR`, a rising `LinearLR`) are 5,
  as in torch. Lengths are at least 1: below, torch stays at the first factor for ever, or behaves unexpectedly.
- Arguments that are learning rates (`max_lr`, `eta_min`) are multiples of the base learning rate, which the harness
  chooses: `torch:OneCycleLR(max_lr=1.0)` peaks at the base learning rate. It is also the `base_lr` of `CyclicLR`.
- Only the learning rate is scheduled: `cycle_momentum` is False.
- Classes that need a metric, functions or other schedulers are refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from inspect import signature
from typing import Any, ClassVar

from torch.optim import lr_scheduler

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, did_you_mean
from ganno_bench.schedulers.library_schedule import LibrarySchedule, new_optimizer, schedule_class

__all__ = ["TorchScheduler", "torch_scheduler"]

_REFUSED = {
    "ChainedScheduler": "takes other schedulers as arguments; write a ClosedForm instead",
    "LambdaLR": "takes a function as an argument; write a ClosedForm instead",
    "MultiplicativeLR": "takes a function as an argument; write a ClosedForm instead",
    "ReduceLROnPlateau": "needs a metric at every step; use the scheduler 'plateau'",
    "SequentialLR": "takes other schedulers as arguments; write a ClosedForm instead",
}


@dataclass(frozen=True)
class TorchScheduler(LibrarySchedule):
    """Base of the classes that `torch_scheduler` makes. Their fields are the arguments of the torch class."""

    revision: ClassVar[int | None] = 2
    package: ClassVar[str] = "torch"
    torch_class: ClassVar[type[lr_scheduler.LRScheduler]]

    def __post_init__(self) -> None:
        """Check the arguments; see `LibrarySchedule`.

        Raises:
            ConfigError: An argument is missing, a length is invalid, or torch refuses a value.
        """
        if getattr(self, "cycle_momentum", False):
            raise ConfigError("cycle_momentum=True is not supported: only learning rates are set; leave it out")
        super().__post_init__()

    def arguments(self, base_lr: float, total: int) -> dict[str, Any]:
        """Return the arguments. If epochs are given, they determine the whole length."""
        values = super().arguments(base_lr, total)
        if values.get("epochs") is not None or values.get("steps_per_epoch") is not None:
            values |= {key: getattr(self, key) for key in self.horizons}
        if "total_iters" in values and values["total_iters"] is None:
            decays = "power" in values or values.get("end_factor", 1.0) < values.get("start_factor", 0.0)
            values["total_iters"] = total if decays else signature(self.torch_class).parameters["total_iters"].default
        if "base_lr" in signature(self.torch_class).parameters:
            values["base_lr"] = base_lr
        return values

    def rates(self, base_lr: float, total: int) -> Iterator[float]:
        """Step the schedule after each update."""
        optimizer = new_optimizer(base_lr)
        schedule = self.torch_class(optimizer, **self.arguments(base_lr, total))
        optimizer.step()  # torch warns if the scheduler steps before the optimizer
        while True:
            yield float(schedule.get_last_lr()[0])
            schedule.step()


@cache
def torch_scheduler(name: str) -> type[TorchScheduler]:
    """Return the scheduler class of a class of `torch.optim.lr_scheduler`, whose arguments become its fields.

    Raises:
        UnknownNameError: torch has no such class.
        PluginError: The class is not supported; the message names a replacement.
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
    return schedule_class(
        TorchScheduler,
        f"torch:{name}",
        classes[name],
        hidden=("optimizer", "last_epoch", "base_lr"),
        defaults={"cycle_momentum": False, "total_iters": None},
        horizons=("T_max", "total_steps"),
        learning_rates=("max_lr", "eta_min"),
        torch_class=classes[name],
        __doc__=f"`torch.optim.lr_scheduler.{name}`.",
    )
