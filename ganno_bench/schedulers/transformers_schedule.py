"""The schedules of Hugging Face's transformers: `transformers:cosine_with_restarts(num_cycles=2)`.

NAME is a name that `transformers.get_scheduler` accepts. There is no warmup unless `num_warmup_steps` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from ganno_bench.core.errors import PluginError, UnknownNameError, did_you_mean
from ganno_bench.schedulers.library_schedule import LibrarySchedule, import_library, new_optimizer, schedule_class

__all__ = ["TransformersSchedule", "transformers_schedule"]

_REFUSED = ("greedy", "reduce_lr_on_plateau")


@dataclass(frozen=True)
class TransformersSchedule(LibrarySchedule):
    """Base of the classes that `transformers_schedule` makes."""

    revision: ClassVar[int | None] = 1
    package: ClassVar[str] = "transformers"
    function: ClassVar[Callable[..., Any]]

    def arguments(self, base_lr: float, total: int) -> dict[str, Any]:
        """Return the arguments. If the length of the plateau is given, it determines the whole length."""
        values = super().arguments(base_lr, total)
        if values.get("num_stable_steps") is not None:
            del values["num_training_steps"]
        return values

    def rates(self, base_lr: float, total: int) -> Iterator[float]:
        """Step the schedule after each update, as `transformers.Trainer` does."""
        optimizer = new_optimizer(base_lr)
        schedule = type(self).function(optimizer, **self.arguments(base_lr, total))
        while True:
            yield float(optimizer.param_groups[0]["lr"])
            optimizer.step()  # torch warns if the scheduler steps before the optimizer
            schedule.step()


@cache
def transformers_schedule(name: str) -> type[TransformersSchedule]:
    """Return the scheduler class of a schedule of transformers, whose arguments become its fields.

    Raises:
        UnknownNameError: transformers has no such schedule.
        MissingPackageError: transformers is not installed.
        PluginError: The schedule needs a metric at every step.
    """
    title = f"transformers:{name}"
    if name in _REFUSED:
        raise PluginError(f"scheduler {title!r} needs a metric at every step; use the scheduler 'plateau'")
    library = import_library("transformers.optimization", "transformers", title)
    known = {kind.value: function for kind, function in library.TYPE_TO_SCHEDULER_FUNCTION.items()}
    if name not in known:
        choices = known.keys() - set(_REFUSED)
        raise UnknownNameError(f"transformers has no schedule {name!r}{did_you_mean(name, choices)}")
    return schedule_class(
        TransformersSchedule,
        title,
        known[name],
        hidden=("optimizer", "last_epoch"),
        defaults={"num_warmup_steps": 0},
        horizons=("num_training_steps",),
        learning_rates=("lr_end", "min_lr"),
        function=staticmethod(known[name]),
    )
