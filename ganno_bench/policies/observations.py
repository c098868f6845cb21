"""Observations: what an agent sees. Small pure functions of the signals, with values in [-3, 3].

Each layer of each run has an agent. A feature is a function of a `View`. It returns a value for each agent, shape
(P, L), or one for all agents of a run, shape (P, 1). Values that are not measured yet are 0, and so are all values of
a diverged run. No observation can read test data: `Signals` has none.

If a feature needs arithmetic only, compute it from a `RunView`. A `RunView` holds tensors for P runs, or plain numbers
and arrays for a single run. On such small data, tensor operations take far longer than plain arithmetic.
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
"""Features are clipped to [-LIMIT, LIMIT]."""

_TINY = 1e-12

Array = npt.NDArray[np.float64]
Number = float | Array
"""One number for all layers of a run, or one for each layer, shape (L,)."""
Value = TypeVar("Value", Tensor, Number)
Loss = Literal["train", "first", "last", "best", "val", "last_val", "best_val"]
"""`train`: training loss of the decision interval; `val`: validation loss after it; the others: see `Memory`."""


class RunView(Protocol[Value]):
    """The inputs of an arithmetic feature: tensors of P runs, or numbers and arrays of one run.

    Attributes:
        run: Facts that are known before the first update.
        progress: Share of the horizon that is done, in [0, 1].
        lr: Learning rates of the last update, or the base learning rate before the first. Shape (P, L); for one run
            shape (L,), or one number if all layers have the same.
        log_factor: ln of the agents' factors, which multiply the reference schedule. Shapes as for `lr`.
        depth: Relative depths of the layers, from -1 at the input to 1 at the output, shape (P, L) or (L,).
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
        """Return a signal of the layers, shape (P, L) or (L,)."""
        ...

    def everywhere(self, value: float) -> Value:
        """Return a number as a value that all agents of all runs see, shape (P, 1)."""
        ...

    def at_least(self, value: Value, least: float) -> Value:
        """Return the larger of the two; NaN stays NaN."""
        ...

    def log10(self, value: Value) -> Value:
        """Return the decimal logarithm; values below 1e-12 count as 1e-12."""
        ...

    def log_loss(self, which: Loss) -> Value:
        """Return the natural logarithm of a loss, shape (P, 1)."""
        ...


@dataclass(frozen=True)
class Memory:
    """The earlier losses of P runs, each of shape (P,); NaN if there was none yet.

    Attributes:
        first: The first training loss.
        last: The training loss of the previous decision interval.
        best: The lowest training loss before this decision interval.
        last_val: The validation loss after the previous decision interval.
        best_val: The lowest validation loss before this decision interval.
    """

    first: Tensor
    last: Tensor
    best: Tensor
    last_val: Tensor
    best_val: Tensor

    @classmethod
    def blank(cls, run: RunInfo) -> Memory:
        """Return the memory of runs that have not begun: all NaN."""
        return cls(*(torch.full_like(run.base_lr, torch.nan) for _ in range(5)))

    def updated(self, signals: Signals) -> Memory:
        """Return the memory after a decision interval."""
        loss = signals.train_loss
        first, best = torch.where(self.first.isnan(), loss, self.first), torch.fmin(self.best, loss)
        val = signals.val_loss
        if val is None:
            return replace(self, first=first, last=loss, best=best)
        return Memory(first, loss, best, val, torch.fmin(self.best_val, val))


@dataclass(frozen=True)
class View:
    """The inputs of a feature.

    Attributes:
        signals: The signals of the decision interval that has just ended.
        run: Facts that are known before the first update.
        memory: The losses before this decision interval.
        lr: Learning rates of the last update, shape (P, L); the base learning rate before the first.
        log_factor: ln of the agents' factors, which multiply the reference schedule, shape (P, L).
        log_decay: ln of the agents' factor of the weight decay, shape (P,).
    """

    signals: Signals
    run: RunInfo
    memory: Memory
    lr: Tensor
    log_factor: Tensor
    log_decay: Tensor

    def layer(self, name: str) -> Tensor:
        """Return a signal of the layers, shape (P, L)."""
        value: Tensor = getattr(self.signals, name)
        return value

    def everywhere(self, value: float) -> Tensor:
        """Return a number as a value that all agents of all runs see, shape (P, 1)."""
        return self.lr.new_full((len(self.lr), 1), value)

    @property
    def depth(self) -> Tensor:
        """Relative depths of the layers, from -1 at the input to 1 at the output, shape (P, L)."""
        places = torch.linspace(-1.0, 1.0, self.run.n_layers, dtype=torch.float64, device=self.lr.device)
        return places.expand(self.lr.shape)

    def at_least(self, value: Tensor, least: float) -> Tensor:
        """Return the larger of the two; NaN stays NaN."""
        return value.clamp(min=least)

    def log10(self, value: Tensor) -> Tensor:
        """Return the decimal logarithm; values below 1e-12 count as 1e-12."""
        return value.clamp(min=_TINY).log10()

    def log_loss(self, which: Loss) -> Tensor:
        """Return the natural logarithm of a loss, shape (P, 1)."""
        return self._log_train_loss if which == "train" else self._log_loss(which)

    @cached_property
    def _log_train_loss(self) -> Tensor:  # cached, since most features of losses need it
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
        run: Facts that are known before the first update.
        progress: Share of the horizon that is done, in [0, 1].
        lr: Learning rate of the last update, of all layers or of each, shape (L,); before the first update, the base
            learning rate.
        log_factor: ln of the agents' factors, which multiply the reference schedule. Shapes as for `lr`.
        losses: The losses; NaN if there was none yet.
        layers: The layer signals that the features need, each of shape (L,).
    """

    run: RunInfo
    progress: float
    lr: Number
    log_factor: Number
    losses: Mapping[Loss, float]
    layers: Mapping[str, Array] = field(default_factory=dict)

    @property
    def depth(self) -> Array:
        """Relative depths of the layers, from -1 at the input to 1 at the output, shape (L,)."""
        return _places(self.run.n_layers)

    def layer(self, name: str) -> Array:
        """Return a signal of the layers, shape (L,)."""
        return self.layers[name]

    def everywhere(self, value: float) -> float:
        """Return the number."""
        return value

    def at_least(self, value: Number, least: float) -> Number:
        """Return the larger of the two; NaN stays NaN."""
        return max(value, least) if isinstance(value, float) else np.maximum(value, least)

    def log10(self, value: Number) -> Number:
        """Return the decimal logarithm; values below 1e-12 count as 1e-12."""
        if isinstance(value, float):
            return math.log10(max(value, _TINY))  # NaN stays NaN, since max() keeps its first argument
        return np.log10(np.maximum(value, _TINY))

    def log_loss(self, which: Loss) -> float:
        """Return the natural logarithm of a loss."""
        return math.log(max(self.losses[which], _TINY))


def before_it_begins(run: RunInfo) -> NumberView:
    """Return a view of a run before its first update, with everything that a constant feature may read."""
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
        compute: The function of a `View`.
        needs: Optional signals that it reads.
        summary: One line about the feature.
        of_run: The same function, if it is a function of a `RunView`.
        constant: Whether its value never changes during a run.
    """

    compute: Callable[[View], Tensor]
    needs: frozenset[str]
    summary: str
    of_run: Callable[[NumberView], Number] | None = None
    constant: bool = False


def feature(*needs: str) -> Callable[[Callable[[View], Tensor]], Feature]:
    """Turn a function into a feature. The first line of its docstring becomes the summary.

    Args:
        needs: Optional signals that it reads.
    """

    def wrap(compute: Callable[[View], Tensor]) -> Feature:
        return Feature(compute, frozenset(needs), (compute.__doc__ or "").partition("\n")[0])

    return wrap


class _OfRun(Protocol):
    def __call__(self, view: RunView[Value]) -> Value: ...


def run_feature(*needs: str, constant: bool = False) -> Callable[[_OfRun], Feature]:
    """Turn a function of a `RunView` into a feature; see `feature`.

    Do not divide by values that can be 0: plain numbers then give the observation 0, tensors and arrays infinity.

    Args:
        needs: Optional signals that it reads.
        constant: Whether it reads only `view.run`, so that it is computed once per run.
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
"""Feature name -> where its code is."""


def load_feature(ref: str, *, files: bool = False) -> Feature:
    """Return a feature.

    Args:
        ref: A registered name, or `./file.py:name`.
        files: Whether `ref` may name a file. False for names on a card, so that a card can import only installed code.

    Raises:
        UnknownNameError: There is no such feature; the message has the nearest name.
        PluginError: Importing it failed, or it is not a feature.
    """
    found = OBSERVATIONS.load(ref, files=files)
    if not isinstance(found, Feature):
        raise PluginError(
            f"observation {ref!r}: expected a Feature, got {type(found).__name__}; "
            "put @feature() or @run_feature() above the function"
        )
    return found


def load_features(names: Sequence[str], *, files: bool = False) -> tuple[Feature, ...]:
    """Return features by name; see `load_feature`. Features of plugins get copies and cannot change the process."""
    features = []
    for name in names:
        found = load_feature(name, files=files)
        if found.compute.__module__ != __name__:
            found = replace(found, compute=apart(f"observation {name!r}", found.compute))
        features.append(found)
    return tuple(features)


def observe(features: Sequence[Feature], view: View) -> Tensor:
    """Return the observations of all agents: float64, shape (P, L, number of features)."""
    shape = view.lr.shape
    columns = [feature.compute(view).to(torch.float64) for feature in features]
    expanded = [column if column.shape == shape else column.expand(shape) for column in columns]
    stacked = torch.stack(expanded, dim=-1).clamp(-LIMIT, LIMIT).nan_to_num(0.0)
    return stacked.masked_fill(view.signals.diverged[:, None, None], 0.0)


def observe_numbers(
    features: Sequence[Callable[[NumberView], Number]], view: NumberView, table: Array, alike: Array | None = None
) -> Array:
    """Write the observations of one run's agents, as `observe` returns them, into an array.

    Args:
        features: The `of_run` functions of F features.
        view: The run.
        table: Receives the observations of each layer's agent, shape (at least F, L). Further rows are only clipped to
            the limits, with NaN as 0.
        alike: Receives the observations if all layers have the same, shape (at least F,). None: `table` receives them.

    Returns:
        The array that was written to. (A new array for each call would take longer than filling it.)
    """
    seen: list[Number] = []
    same = True
    for feature in features:
        try:
            value = feature(view)
        except ArithmeticError:  # tensors would give NaN or infinity here
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
    """Learning rate: (log10(lr) + 2) / 2, so 0 at 0.01 and 1 at 1."""
    return (view.log10(view.lr) + 2.0) / 2.0


@run_feature()
def log_lr_to_default(view: RunView[Value]) -> Value:
    """Learning rate relative to the optimizer's default: log10(lr / default) / 2."""
    return (view.log10(view.lr) - math.log10(OPTIMIZERS[view.run.optimizer].base_lr)) / 2.0


@run_feature()
def log_factor(view: RunView[Value]) -> Value:
    """Factor by which the agent multiplies the reference schedule: ln(factor) / 2."""
    return view.log_factor / 2.0


@feature()
def log_decay_factor(view: View) -> Tensor:
    """Factor by which the agents multiply the weight decay: ln(factor) / 2."""
    return view.log_decay[:, None] / 2.0


@run_feature("grad_norm")
def log_grad_norm(view: RunView[Value]) -> Value:
    """Gradient norm of the layer: log10(norm) / 2."""
    return view.log10(view.layer("grad_norm")) / 2.0


@run_feature("param_norm")
def log_param_norm(view: RunView[Value]) -> Value:
    """Parameter norm of the layer: log10(norm) / 2."""
    return view.log10(view.layer("param_norm")) / 2.0


@run_feature("update_norm", "param_norm")
def log_update_ratio(view: RunView[Value]) -> Value:
    """Update norm / parameter norm of the layer: (log10(ratio) + 3) / 2, so 0 at 0.001 and 1 at 0.1."""
    return (view.log10(view.layer("update_norm") / view.at_least(view.layer("param_norm"), _TINY)) + 3.0) / 2.0


@run_feature("grad_norm", "param_norm")
def log_grad_ratio(view: RunView[Value]) -> Value:
    """Gradient norm / parameter norm of the layer: (log10(ratio) + 2) / 2, so 0 at 0.01 and 1 at 1."""
    return (view.log10(view.layer("grad_norm") / view.at_least(view.layer("param_norm"), _TINY)) + 2.0) / 2.0


@run_feature("grad_cosine")
def grad_cosine(view: RunView[Value]) -> Value:
    """Cosine of the angle between the layer's gradient and its momentum."""
    return view.layer("grad_cosine")


@run_feature("grad_snr")
def grad_snr(view: RunView[Value]) -> Value:
    """Norm of the mean gradient / mean gradient norm, over the decision interval: 1 if all gradients are equal."""
    return view.layer("grad_snr")


@run_feature()
def relative_depth(view: RunView[Value]) -> Value:
    """Depth of the layer, from -1 at the input to 1 at the output."""
    return view.depth


@run_feature(constant=True)
def log_layers(view: RunView[Value]) -> Value:
    """Number of layers: ln(layers) / 2."""
    return view.everywhere(math.log(view.run.n_layers) / 2.0)


@run_feature()
def progress(view: RunView[Value]) -> Value:
    """Share of the horizon that is done, scaled from [0, 1] to [-1, 1]."""
    return view.everywhere(2.0 * view.progress - 1.0)


@run_feature(constant=True)
def log_horizon(view: RunView[Value]) -> Value:
    """Number of updates of the run: log10(updates / 300)."""
    return view.everywhere(math.log10(view.run.total_updates / 300.0))


@run_feature(constant=True)
def adaptive_optimizer(view: RunView[Value]) -> Value:
    """1 if the optimizer normalises the step of each parameter (Adam, AdamW), -1 for SGD."""
    return view.everywhere(-1.0 if view.run.optimizer == "sgd" else 1.0)


@run_feature()
def log_train_loss(view: RunView[Value]) -> Value:
    """Training loss: ln(loss) / 2."""
    return view.log_loss("train") / 2.0


@run_feature()
def loss_to_first(view: RunView[Value]) -> Value:
    """Training loss relative to the first one of the run: ln(loss / first) / 2."""
    return (view.log_loss("train") - view.log_loss("first")) / 2.0


@run_feature()
def loss_change(view: RunView[Value]) -> Value:
    """Training loss relative to the previous decision interval: 3 ln(loss / previous)."""
    return (view.log_loss("train") - view.log_loss("last")) * 3.0


@run_feature()
def loss_to_best(view: RunView[Value]) -> Value:
    """Training loss relative to the lowest earlier one: 3 ln(loss / lowest)."""
    return (view.log_loss("train") - view.log_loss("best")) * 3.0


@run_feature("val_loss")
def log_val_loss(view: RunView[Value]) -> Value:
    """Validation loss: ln(loss) / 2. It costs an evaluation at each decision."""
    return view.log_loss("val") / 2.0


@run_feature("val_loss")
def val_gap(view: RunView[Value]) -> Value:
    """Validation loss relative to the training loss: ln(validation / training)."""
    return view.log_loss("val") - view.log_loss("train")


@run_feature("val_loss")
def val_change(view: RunView[Value]) -> Value:
    """Validation loss relative to the previous decision interval: 3 ln(loss / previous)."""
    return (view.log_loss("val") - view.log_loss("last_val")) * 3.0


@run_feature("val_loss")
def val_to_best(view: RunView[Value]) -> Value:
    """Validation loss relative to the lowest earlier one: 3 ln(loss / lowest)."""
    return (view.log_loss("val") - view.log_loss("best_val")) * 3.0
