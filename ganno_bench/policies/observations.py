"""What an agent sees: small pure functions of the signals, all of them scale-free and within [-3, 3].

Each layer of each run has an agent. A feature is a function of a `View` that returns a value for each agent, shape
(P, L), or one for all agents of a run, shape (P, 1). What has not been measured yet, and whatever a diverged run shows,
is 0. Nothing here comes from test data, which `Signals` doesn't have.

One that is arithmetic is better a function of a `RunView`: that has tensors, for P runs, or a single run's numbers and
arrays of its layers' values, since operations on tensors so small take far more time than there is to compute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.core.process_state import apart
from ganno_bench.core.registry import Registry
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.signals import RunInfo, Signals

__all__ = [
    "LIMIT",
    "OBSERVATIONS",
    "Feature",
    "Loss",
    "Memory",
    "NumberView",
    "RunView",
    "View",
    "before_it_begins",
    "feature",
    "load_feature",
    "load_features",
    "observe",
    "observe_numbers",
    "run_feature",
]

LIMIT = 3.0
"""Features are cut off at +-LIMIT."""

_TINY = 1e-12

Array = npt.NDArray[np.float64]
Number = float | Array
"""A number that all layers of a run have in common, or one for each, shape (L,)."""
Value = TypeVar("Value", Tensor, Number)
Loss = Literal["train", "first", "last", "best", "val", "last_val", "best_val"]
"""The training loss of the interval, the validation loss after it, and what `Memory` has."""


class RunView(Protocol[Value]):
    """What a feature may be computed from, in tensors of P runs or in one run's numbers.

    Attributes:
        run: What was known before the first update.
        progress: Share of the horizon that is done, in [0, 1].
        lr: Learning rates of the last update, shape (P, L), the base learning rate before the first; of one run shape
            (L,), or a number if all layers have the same.
        log_factor: ln of what the agents multiply the reference schedule by; likewise.
        depth: Places of the layers, from -1 at the input to 1 at the output, shape (P, L) or (L,).
    """

    @property
    def run(self) -> RunInfo: ...  # noqa: D102
    @property
    def progress(self) -> float: ...  # noqa: D102
    @property
    def lr(self) -> Value: ...  # noqa: D102
    @property
    def log_factor(self) -> Value: ...  # noqa: D102
    @property
    def depth(self) -> Value: ...  # noqa: D102

    def layer(self, name: str) -> Value:
        """Return a signal per layer, shape (P, L) or (L,)."""
        ...

    def everywhere(self, value: float) -> Value:
        """Return a number that all agents of all runs see, shape (P, 1)."""
        ...

    def at_least(self, value: Value, least: float) -> Value:
        """Return the greater one; what is no number stays so."""
        ...

    def log10(self, value: Value) -> Value:
        """Return the decimal logarithm of something not negative, at least of 1e-12."""
        ...

    def log_loss(self, which: Loss) -> Value:
        """Return the natural logarithm of a loss, shape (P, 1)."""
        ...


@dataclass(frozen=True)
class Memory:
    """What is remembered of a run's losses; each of shape (P,), NaN where there was none yet.

    Attributes:
        first: The first training loss.
        last: The training loss of the interval before.
        best: The lowest one before this interval.
        last_val: The validation loss of the interval before.
        best_val: The lowest one before this interval.
    """

    first: Tensor
    last: Tensor
    best: Tensor
    last_val: Tensor
    best_val: Tensor

    @classmethod
    def blank(cls, run: RunInfo) -> Memory:
        """Return the memory of runs that have not begun."""
        return cls(*(torch.full_like(run.base_lr, torch.nan) for _ in range(5)))

    def updated(self, signals: Signals) -> Memory:
        """Return the memory after an interval."""
        loss = signals.train_loss
        first, best = torch.where(self.first.isnan(), loss, self.first), torch.fmin(self.best, loss)
        val = signals.val_loss
        if val is None:
            return replace(self, first=first, last=loss, best=best)
        return Memory(first, loss, best, val, torch.fmin(self.best_val, val))


@dataclass(frozen=True)
class View:
    """All that a feature may be computed from.

    Attributes:
        signals: The runs after the interval that has just ended.
        run: What was known before the first update.
        memory: Their losses before this interval.
        lr: Learning rates of the last update, shape (P, L); the base learning rate before the first.
        log_factor: The agents' own state, ln of what they multiply the reference schedule by, shape (P, L).
        log_decay: ln of what they multiply the weight decay by, shape (P,).
    """

    signals: Signals
    run: RunInfo
    memory: Memory
    lr: Tensor
    log_factor: Tensor
    log_decay: Tensor

    def layer(self, name: str) -> Tensor:
        """Return a signal per layer, shape (P, L)."""
        value: Tensor = getattr(self.signals, name)
        return value

    def everywhere(self, value: float) -> Tensor:
        """Return a number that all agents of all runs see, shape (P, 1)."""
        return self.lr.new_full((len(self.lr), 1), value)

    @property
    def depth(self) -> Tensor:
        """Places of the layers, from -1 at the input to 1 at the output, shape (P, L)."""
        places = torch.linspace(-1.0, 1.0, self.run.n_layers, dtype=torch.float64, device=self.lr.device)
        return places.expand(self.lr.shape)

    def at_least(self, value: Tensor, least: float) -> Tensor:
        """Return the greater one; what is no number stays so."""
        return value.clamp(min=least)

    def log10(self, value: Tensor) -> Tensor:
        """Return the decimal logarithm of something not negative, at least of 1e-12."""
        return value.clamp(min=_TINY).log10()

    def log_loss(self, which: Loss) -> Tensor:
        """Return the natural logarithm of a loss, shape (P, 1)."""
        return self._log_train_loss if which == "train" else self._log_loss(which)

    @cached_property
    def _log_train_loss(self) -> Tensor:  # most features of losses have it
        return self._log_loss("train")

    def _log_loss(self, which: Loss) -> Tensor:
        is_new = which in ("train", "val")
        loss: Tensor = getattr(self.signals, f"{which}_loss") if is_new else getattr(self.memory, which)
        return loss.clamp(min=_TINY).log()[:, None]

    @property
    def progress(self) -> float:
        """Share of the horizon that is done, in [0, 1]."""
        return self.signals.progress


@dataclass(slots=True)
class NumberView:
    """A `RunView` of one run.

    Attributes:
        run: What was known before the first update.
        progress: Share of the horizon that is done, in [0, 1].
        lr: Learning rate of the last update, or those of the layers, shape (L,); the base learning rate before it.
        log_factor: ln of what the agents multiply the reference schedule by; likewise.
        losses: NaN where there was none yet.
        layers: Signals of the layers, those that are needed, each of shape (L,).
    """

    run: RunInfo
    progress: float
    lr: Number
    log_factor: Number
    losses: Mapping[Loss, float]
    layers: Mapping[str, Array] = field(default_factory=dict)

    @property
    def depth(self) -> Array:
        """Places of the layers, from -1 at the input to 1 at the output."""
        return _places(self.run.n_layers)

    def layer(self, name: str) -> Array:
        """Return a signal per layer."""
        return self.layers[name]

    def everywhere(self, value: float) -> float:
        """Return the number."""
        return value

    def at_least(self, value: Number, least: float) -> Number:
        """Return the greater one; what is no number stays so."""
        return max(value, least) if isinstance(value, float) else np.maximum(value, least)

    def log10(self, value: Number) -> Number:
        """Return the decimal logarithm of something not negative, at least of 1e-12."""
        if isinstance(value, float):
            return math.log10(max(value, _TINY))  # NaN stays: it comes first
        return np.log10(np.maximum(value, _TINY))

    def log_loss(self, which: Loss) -> float:
        """Return the natural logarithm of a loss."""
        return math.log(max(self.losses[which], _TINY))


def before_it_begins(run: RunInfo) -> NumberView:
    """Return a view of what is known of a run before its first update: all that a constant feature may read."""
    view: Any = SimpleNamespace(run=run, everywhere=float)
    known: NumberView = view
    return known


@cache
def _places(n_layers: int) -> Array:
    places = np.linspace(-1.0, 1.0, n_layers)
    places.flags.writeable = False
    return places


@dataclass(frozen=True)
class Feature:
    """A registered observation.

    Attributes:
        compute: The function.
        needs: Optional signals that it reads.
        summary: What it is, in a line.
        of_run: The function once more, where it is one of a `RunView`.
        constant: Whether it stays as it is throughout a run.
    """

    compute: Callable[[View], Tensor]
    needs: frozenset[str]
    summary: str
    of_run: Callable[[NumberView], Number] | None = None
    constant: bool = False


def feature(*needs: str) -> Callable[[Callable[[View], Tensor]], Feature]:
    """Make a feature of a function, whose docstring's first line says what it is.

    Args:
        needs: Optional signals that it reads.
    """

    def wrap(compute: Callable[[View], Tensor]) -> Feature:
        return Feature(compute, frozenset(needs), (compute.__doc__ or "").partition("\n")[0])

    return wrap


class _OfRun(Protocol):
    def __call__(self, view: RunView[Value]) -> Value: ...


def run_feature(*needs: str, constant: bool = False) -> Callable[[_OfRun], Feature]:
    """Make a feature of a function of a `RunView`; see `feature`.

    What divides one number by another that can be 0 shows 0 then; of tensors and arrays it would be infinite.

    Args:
        needs: Optional signals that it reads.
        constant: Whether it reads nothing but `view.run`, so that one look at it will do for a run.
    """

    def wrap(compute: _OfRun) -> Feature:
        return replace(feature(*needs)(compute), of_run=compute, constant=constant)

    return wrap


OBSERVATIONS = Registry(
    "observation",
    {
        name.replace("_", "-"): f"ganno_bench.policies.observations:{name}"
        for name in (
            "log_lr",
            "log_lr_to_default",
            "log_factor",
            "log_decay_factor",
            "log_grad_norm",
            "log_param_norm",
            "log_update_ratio",
            "log_grad_ratio",
            "grad_cosine",
            "grad_snr",
            "relative_depth",
            "log_layers",
            "progress",
            "log_horizon",
            "adaptive_optimizer",
            "log_train_loss",
            "loss_to_first",
            "loss_change",
            "loss_to_best",
            "log_val_loss",
            "val_gap",
            "val_change",
            "val_to_best",
        )
    },
    group="ganno_bench.observations",
    accepts=lambda value: isinstance(value, Feature),
)
"""Feature name -> where it is."""


def load_feature(ref: str, *, files: bool = False) -> Feature:
    """Return a feature.

    Args:
        ref: A registered name, or `./file.py:name`.
        files: Whether a file may be named. Not where a card does it: then no file of anybody's is imported, only what
            is installed.

    Raises:
        UnknownNameError: There is no such feature; the message has the nearest name.
        PluginError: Importing it failed, or it is no feature.
    """
    found = OBSERVATIONS.load(ref, files=files)
    if not isinstance(found, Feature):
        raise PluginError(
            f"observation {ref!r} is no Feature but of type {type(found).__name__}; "
            "put @feature() or @run_feature() above it"
        )
    return found


def load_features(names: Sequence[str], *, files: bool = False) -> tuple[Feature, ...]:
    """Return features by name; see `load_feature`. Those of others get copies, and leave the process alone."""
    features = []
    for name in names:
        found = load_feature(name, files=files)
        if found.compute.__module__ != __name__:
            found = replace(found, compute=apart(f"observation {name!r}", found.compute))
        features.append(found)
    return tuple(features)


def observe(features: Sequence[Feature], view: View) -> Tensor:
    """Return what every agent sees: shape (P, L, number of features), float64."""
    shape = view.lr.shape
    columns = [feature.compute(view).to(torch.float64) for feature in features]
    expanded = [column if column.shape == shape else column.expand(shape) for column in columns]
    stacked = torch.stack(expanded, dim=-1).clamp(-LIMIT, LIMIT).nan_to_num(0.0)
    return stacked.masked_fill(view.signals.diverged[:, None, None], 0.0)


def observe_numbers(
    features: Sequence[Callable[[NumberView], Number]], view: NumberView, table: Array, alike: Array | None = None
) -> Array:
    """Write down what the agents of one run see, as `observe` returns it, by features' `of_run`.

    Args:
        features: F of them.
        view: The run.
        table: Shape (at least F, L), for what each layer's agent sees; further rows are left alone, but for NaN.
        alike: Shape (at least F,), if that will do where all layers look alike.

    Returns:
        The one that was written into. (To make another one each time would take longer than to fill it.)
    """
    seen: list[Number] = []
    same = True
    for feature in features:
        try:
            value = feature(view)
        except ArithmeticError:  # of tensors it would be no number, or an infinite one
            value = math.nan
        if isinstance(value, float):
            value = 0.0 if math.isnan(value) else min(max(value, -LIMIT), LIMIT)
        else:
            same = False
        seen.append(value)
    if same and alike is not None:
        for index, value in enumerate(seen):
            alike[index] = value
        return alike
    for index, value in enumerate(seen):
        table[index] = value
    table[np.isnan(table)] = 0.0
    return np.minimum(np.maximum(table, -LIMIT, out=table), LIMIT, out=table)


@run_feature()
def log_lr(view: RunView[Value]) -> Value:
    """Decimal logarithm of the learning rate, 0 at 0.01, 1 for two decades."""
    return (view.log10(view.lr) + 2.0) / 2.0


@run_feature()
def log_lr_to_default(view: RunView[Value]) -> Value:
    """Decimal logarithm of the learning rate over the optimizer's default one, 1 for two decades."""
    return (view.log10(view.lr) - math.log10(OPTIMIZERS[view.run.optimizer].base_lr)) / 2.0


@run_feature()
def log_factor(view: RunView[Value]) -> Value:
    """Natural logarithm of what the agent multiplies the reference schedule by, 1 for a factor of e^2."""
    return view.log_factor / 2.0


@feature()
def log_decay_factor(view: View) -> Tensor:
    """Natural logarithm of what the agents multiply the weight decay by, 1 for a factor of e^2."""
    return view.log_decay[:, None] / 2.0


@run_feature("grad_norm")
def log_grad_norm(view: RunView[Value]) -> Value:
    """Decimal logarithm of the layer's gradient norm, 1 for two decades."""
    return view.log10(view.layer("grad_norm")) / 2.0


@run_feature("param_norm")
def log_param_norm(view: RunView[Value]) -> Value:
    """Decimal logarithm of the layer's parameter norm, 1 for two decades."""
    return view.log10(view.layer("param_norm")) / 2.0


@run_feature("update_norm", "param_norm")
def log_update_ratio(view: RunView[Value]) -> Value:
    """Decimal logarithm of update norm over parameter norm, 0 at 0.001, 1 for two decades."""
    return (view.log10(view.layer("update_norm") / view.at_least(view.layer("param_norm"), _TINY)) + 3.0) / 2.0


@run_feature("grad_norm", "param_norm")
def log_grad_ratio(view: RunView[Value]) -> Value:
    """Decimal logarithm of gradient norm over parameter norm, 0 at 0.01, 1 for two decades."""
    return (view.log10(view.layer("grad_norm") / view.at_least(view.layer("param_norm"), _TINY)) + 2.0) / 2.0


@run_feature("grad_cosine")
def grad_cosine(view: RunView[Value]) -> Value:
    """Cosine between the layer's gradient and its momentum."""
    return view.layer("grad_cosine")


@run_feature("grad_snr")
def grad_snr(view: RunView[Value]) -> Value:
    """Norm of the mean gradient over the mean norm, in the interval: 1 where all gradients agree."""
    return view.layer("grad_snr")


@run_feature()
def relative_depth(view: RunView[Value]) -> Value:
    """Place of the layer, from -1 at the input to 1 at the output."""
    return view.depth


@run_feature(constant=True)
def log_layers(view: RunView[Value]) -> Value:
    """Natural logarithm of the number of layers, halved."""
    return view.everywhere(math.log(view.run.n_layers) / 2.0)


@run_feature()
def progress(view: RunView[Value]) -> Value:
    """Share of the horizon that is done, from -1 to 1."""
    return view.everywhere(2.0 * view.progress - 1.0)


@run_feature(constant=True)
def log_horizon(view: RunView[Value]) -> Value:
    """Decimal logarithm of the number of updates in the run, 0 at 300."""
    return view.everywhere(math.log10(view.run.total_updates / 300.0))


@run_feature(constant=True)
def adaptive_optimizer(view: RunView[Value]) -> Value:
    """1 where the optimizer normalises each parameter's step (Adam, AdamW), -1 for SGD."""
    return view.everywhere(-1.0 if view.run.optimizer == "sgd" else 1.0)


@run_feature()
def log_train_loss(view: RunView[Value]) -> Value:
    """Natural logarithm of the training loss, halved."""
    return view.log_loss("train") / 2.0


@run_feature()
def loss_to_first(view: RunView[Value]) -> Value:
    """Natural logarithm of the training loss over the run's first one, halved."""
    return (view.log_loss("train") - view.log_loss("first")) / 2.0


@run_feature()
def loss_change(view: RunView[Value]) -> Value:
    """Natural logarithm of the training loss over that of the interval before, times three."""
    return (view.log_loss("train") - view.log_loss("last")) * 3.0


@run_feature()
def loss_to_best(view: RunView[Value]) -> Value:
    """Natural logarithm of the training loss over the lowest one before, times three."""
    return (view.log_loss("train") - view.log_loss("best")) * 3.0


@run_feature("val_loss")
def log_val_loss(view: RunView[Value]) -> Value:
    """Natural logarithm of the validation loss, halved. (A validation loss at each decision costs time.)."""
    return view.log_loss("val") / 2.0


@run_feature("val_loss")
def val_gap(view: RunView[Value]) -> Value:
    """Natural logarithm of the validation loss over the training loss."""
    return view.log_loss("val") - view.log_loss("train")


@run_feature("val_loss")
def val_change(view: RunView[Value]) -> Value:
    """Natural logarithm of the validation loss over that of the interval before, times three."""
    return (view.log_loss("val") - view.log_loss("last_val")) * 3.0


@run_feature("val_loss")
def val_to_best(view: RunView[Value]) -> Value:
    """Natural logarithm of the validation loss over the lowest one before, times three."""
    return (view.log_loss("val") - view.log_loss("best_val")) * 3.0
