"""The schedulers of timm: `timm:TanhLRScheduler(warmup_t=50)`.

They count updates here (`t_in_epochs` is False): `step_update` is called after each update. By default, `t_initial` is
chosen so that the schedule ends with the run, as in timm's factory: all cycles, with a warmup before them, take the
whole run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from ganno_bench.core.errors import PluginError, UnknownNameError, did_you_mean
from ganno_bench.schedulers.library_schedule import LibrarySchedule, import_library, new_optimizer, schedule_class

__all__ = ["TimmSchedule", "timm_schedule"]

_REFUSED = ("PlateauLRScheduler",)


@dataclass(frozen=True)
class TimmSchedule(LibrarySchedule):
    """Base of the classes that `timm_schedule` makes."""

    revision: ClassVar[int | None] = 2
    package: ClassVar[str] = "timm"
    timm_class: ClassVar[type[Any]]

    def arguments(self, base_lr: float, total: int) -> dict[str, Any]:
        """Return the arguments. `t_initial` is the length of the first cycle, without a warmup before it."""
        values = super().arguments(base_lr, total)
        if getattr(self, "t_initial", total) is None:
            before = (
                values["warmup_t"] if values.get("warmup_prefix", True) else 0
            )  # classes without this argument have the warmup before
            cycles = range(values.get("cycle_limit", 1))
            lengths = sum(values.get("cycle_mul", 1.0) ** cycle for cycle in cycles)  # in units of the first cycle
            values["t_initial"] = max(1, int((total - before) / lengths))
        return values

    def rates(self, base_lr: float, total: int) -> Iterator[float]:
        """Step the schedule after each update, as timm's training script does."""
        optimizer = new_optimizer(base_lr)
        schedule = self.timm_class(optimizer, t_in_epochs=False, **self.arguments(base_lr, total))
        update = 0
        while True:
            yield float(optimizer.param_groups[0]["lr"])
            update += 1
            schedule.step_update(update)


@cache
def timm_schedule(name: str) -> type[TimmSchedule]:
    """Return the scheduler class of a class of `timm.scheduler`, whose arguments become its fields.

    Raises:
        UnknownNameError: timm has no such class.
        MissingPackageError: timm is not installed.
        PluginError: The schedule needs a metric at every step.
    """
    title = f"timm:{name}"
    if name in _REFUSED:
        raise PluginError(f"scheduler {title!r} needs a metric at every step; use the scheduler 'plateau'")
    library = import_library("timm.scheduler", "timm", title)
    ancestor = import_library("timm.scheduler.scheduler", "timm", title).Scheduler
    known = {
        key: value for key, value in vars(library).items() if isinstance(value, type) and issubclass(value, ancestor)
    }
    if name not in known:
        raise UnknownNameError(f"timm has no schedule {name!r}{did_you_mean(name, known.keys() - set(_REFUSED))}")
    return schedule_class(
        TimmSchedule,
        title,
        known[name],
        hidden=("optimizer", "t_in_epochs", "initialize"),
        defaults={},
        horizons=("t_initial",),
        learning_rates=("lr_min", "warmup_lr_init"),
        timm_class=known[name],
    )
