"""The base of schedules from other libraries. It steps the library's own object and uses its learning rates.

This has consequences for `torch:CLASS(key=value)`, `transformers:NAME(key=value)` and `timm:CLASS(key=value)`:

- Arguments have the same meaning as in the library, so lengths are numbers of updates. If no length is given, the
  schedule ends with the run.
- Arguments that are learning rates (`min_lr`, `lr_end`, `lr_min`, `warmup_lr_init`) are multiples of the base learning
  rate, which the harness chooses.
- Only base learning rate and weight decay are tuned. Another release of the library counts as other code.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from importlib import import_module
from importlib.metadata import version
from inspect import Parameter, signature, unwrap
from itertools import islice
from typing import Any, ClassVar, TypeVar

import torch

from ganno_bench.core.errors import ConfigError, MissingPackageError, PluginError, one_line
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.values import resolve
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["LibrarySchedule", "argument_type", "import_library", "new_optimizer", "schedule_class"]

S = TypeVar("S", bound="LibrarySchedule")

_LENGTHS = {
    **dict.fromkeys(("T_0", "T_max", "step_size", "step_size_down", "step_size_up", "total_iters", "total_steps"), 1),
    **dict.fromkeys(("milestones", "epochs", "steps_per_epoch"), 1),
    **dict.fromkeys(("num_training_steps", "timescale", "t_initial", "decay_t", "cycle_limit"), 1),
    **dict.fromkeys(("num_warmup_steps", "num_stable_steps", "num_decay_steps", "warmup_t"), 0),
}
"""Argument that is a number of updates or cycles, in any of the libraries -> smallest valid value. Below it schedules
silently stay at their first factor, jump, or end before they begin."""


@dataclass(frozen=True)
class LibrarySchedule(Scheduler):
    """Base of the classes that `schedule_class` makes. Their fields are the arguments of the library's schedule."""

    interval: ClassVar[int | None] = None
    package: ClassVar[str]
    """Distribution that contains the schedule. Its version is recorded, and another version counts as other code."""
    title: ClassVar[str]
    """Name of the schedule, such as `timm:TanhLRScheduler`."""
    required: ClassVar[frozenset[str]]
    """Arguments without a default in the library; here their default is None."""
    horizons: ClassVar[frozenset[str]]
    """Arguments that are the horizon by default."""
    learning_rates: ClassVar[frozenset[str]]
    """Arguments that are learning rates in the library, and multiples of the base learning rate here."""
    _BLOCK: ClassVar[int] = 512
    _LONG: ClassVar[int] = 10**6
    """A horizon that is longer than any length in the arguments."""

    def __post_init__(self) -> None:
        """Check the arguments, by making the library's schedule and stepping it once.

        Raises:
            ConfigError: An argument is missing, a length is invalid, or the library refuses a value.
        """
        name = self.title
        for key, least in _LENGTHS.items():
            given = getattr(self, key, None)
            for length in given if isinstance(given, list | tuple) else () if given is None else (given,):
                if not isinstance(length, int | float) or length < least or length != int(length):
                    raise ConfigError(f"{key} must be a whole number of at least {least} (value: {length!r})")
        if missing := [key for key in sorted(self.required) if getattr(self, key) is None]:
            raise ConfigError(f"needs a value for {', '.join(missing)}: {name}({missing[0]}=...)")
        try:
            list(islice(self.rates(1.0, self._LONG), 2))
        except Exception as error:
            raise ConfigError(f"{self.package} refuses its arguments: {one_line(error)}") from error

    @classmethod
    def release(cls) -> str:
        """Return the package and its version."""
        return f"{cls.package} {version(cls.package)}"

    @abstractmethod
    def rates(self, base_lr: float, total: int) -> Iterator[float]:
        """Yield the learning rate of each update, as in a training loop of the library."""

    def arguments(self, base_lr: float, total: int) -> dict[str, Any]:
        """Return the arguments of the library's schedule for a run."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for key in self.learning_rates & values.keys():
            values[key] = None if values[key] is None else values[key] * base_lr
        return values | {key: total for key in self.horizons if values[key] is None}

    def init(self, run: RunInfo) -> State:
        """Return the learning rates of the whole horizon, shape (total_updates, P).

        Raises:
            PluginError: The library fails at an update, or a learning rate is negative or not finite.
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
            for lr in islice(self.rates(base_lr, total), total):
                lrs.append(float(lr))
        except Exception as error:
            raise PluginError(f"{self.title} fails at update {len(lrs)} of {total}: {one_line(error)}") from error
        # Rounding errors may give a learning rate just below 0.
        if bad := [lr for lr in lrs if not (math.isfinite(lr) and lr >= -1e-9 * base_lr)]:
            raise PluginError(f"{self.title} gives the learning rate {bad[0]!r}; it must be finite and at least 0")
        return [max(0.0, lr) for lr in lrs]


def schedule_class(
    base: type[S],
    title: str,
    make: Callable[..., Any],
    *,
    hidden: Collection[str],
    defaults: Mapping[str, Any],
    horizons: Collection[str],
    learning_rates: Collection[str],
    **attributes: Any,
) -> type[S]:
    """Return a scheduler class whose fields are the arguments of a function or class of a library.

    Args:
        base: Its base class.
        title: Its name; the part after the colon names the class.
        make: The function or class.
        hidden: Arguments of `make` that do not become fields.
        defaults: Defaults that replace the library's.
        horizons: See `LibrarySchedule.horizons`. Names that are not arguments of `make` are ignored.
        learning_rates: See `LibrarySchedule.learning_rates`.
        attributes: Further class attributes.
    """
    known = {name: parameter for name, parameter in signature(make).parameters.items() if name not in hidden}
    values = {
        name: defaults.get(name, None if parameter.default is Parameter.empty else parameter.default)
        for name, parameter in known.items()
    }
    own_horizons = frozenset(horizons) & known.keys()
    required = {
        name for name, parameter in known.items() if parameter.default is Parameter.empty and name not in defaults
    }
    made = make_dataclass(
        title.partition(":")[2],
        [(name, argument_type(make, known[name]), field(default=value)) for name, value in values.items()],
        bases=(base,),
        frozen=True,
        namespace={
            "__doc__": f"`{make.__name__}` of the package `{base.package}`.",
            "__module__": base.__module__,
            "title": title,
            "required": frozenset(required - own_horizons),
            "horizons": own_horizons,
            "learning_rates": frozenset(learning_rates),
            **attributes,
        },
    )
    assert issubclass(made, base)
    return made


def argument_type(make: Callable[..., Any], parameter: Parameter) -> Any:
    """Return the type that a function or class of a library declares for an argument; `Any` if it declares none."""
    if parameter.annotation is Parameter.empty:
        return Any
    function = unwrap(make.__init__ if isinstance(make, type) else make)  # type: ignore[misc]
    return resolve(parameter.annotation, getattr(function, "__globals__", {}))


def import_library(module: str, package: str, title: str) -> Any:
    """Import and return a module of an optional library.

    Args:
        module: Name of the module.
        package: Name of the distribution, for messages.
        title: Name of the scheduler that needs it, for messages.

    Raises:
        MissingPackageError: The library is not installed.
        PluginError: The library cannot be imported.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise PluginError(f"scheduler {title!r}: {package} cannot be imported: {one_line(error)}") from error
        raise MissingPackageError(
            f"scheduler {title!r} needs the package {package!r}, which is not installed: "
            "pip install 'ganno-bench[ecosystem]'"
        ) from None
    except Exception as error:
        raise PluginError(f"scheduler {title!r}: {package} cannot be imported: {one_line(error)}") from error


def new_optimizer(base_lr: float) -> torch.optim.Optimizer:
    """Return an optimizer with one parameter, whose learning rate a library's schedule sets."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
