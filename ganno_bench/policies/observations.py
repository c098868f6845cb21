"""What an agent sees: small pure functions of the signals, all of them scale-free and within [-3, 3].

Each layer of each run has an agent. A feature is a function of a `View` that returns a value for each agent, shape
(P, L), or one for all agents of a run, shape (P, 1). What has not been measured yet, and whatever a diverged run shows,
is 0. Nothing here comes from test data, which `Signals` doesn't have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.core.registry import Registry
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.signals import RunInfo, Signals

__all__ = ["LIMIT", "OBSERVATIONS", "Feature", "Memory", "View", "feature", "load_feature", "load_features", "observe"]

LIMIT = 3.0
"""Features are cut off at +-LIMIT."""

_TINY = 1e-12


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

    @cached_property
    def log_train_loss(self) -> Tensor:
        """Natural logarithm of the training loss, shape (P,)."""
        return _log(self.signals.train_loss)


@dataclass(frozen=True)
class Feature:
    """A registered observation.

    Attributes:
        compute: The function.
        needs: Optional signals that it reads.
        summary: What it is, in a line.
    """

    compute: Callable[[View], Tensor]
    needs: frozenset[str]
    summary: str


def feature(*needs: str) -> Callable[[Callable[[View], Tensor]], Feature]:
    """Make a feature of a function, whose docstring's first line says what it is.

    Args:
        needs: Optional signals that it reads.
    """

    def wrap(compute: Callable[[View], Tensor]) -> Feature:
        return Feature(compute, frozenset(needs), (compute.__doc__ or "").partition("\n")[0])

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
            f"observation {ref!r} is no Feature but of type {type(found).__name__}; put @feature() above it"
        )
    return found


def load_features(names: Sequence[str], *, files: bool = False) -> tuple[Feature, ...]:
    """Return features by name; see `load_feature`."""
    return tuple(load_feature(name, files=files) for name in names)


def observe(features: Sequence[Feature], view: View) -> Tensor:
    """Return what every agent sees: shape (P, L, number of features), float64."""
    shape = view.lr.shape
    columns = [feature.compute(view).to(torch.float64) for feature in features]
    expanded = [column if column.shape == shape else column.expand(shape) for column in columns]
    stacked = torch.stack(expanded, dim=-1).clamp(-LIMIT, LIMIT).nan_to_num(0.0)
    return stacked.masked_fill(view.signals.diverged[:, None, None], 0.0)


def _log10(value: Tensor) -> Tensor:
    return value.clamp(min=_TINY).log10()


def _log(value: Tensor) -> Tensor:
    return value.clamp(min=_TINY).log()


@feature()
def log_lr(view: View) -> Tensor:
    """Decimal logarithm of the learning rate, 0 at 0.01, 1 for two decades."""
    return (_log10(view.lr) + 2.0) / 2.0


@feature()
def log_lr_to_default(view: View) -> Tensor:
    """Decimal logarithm of the learning rate over the optimizer's default one, 1 for two decades."""
    return (_log10(view.lr) - math.log10(OPTIMIZERS[view.run.optimizer].base_lr)) / 2.0


@feature()
def log_factor(view: View) -> Tensor:
    """Natural logarithm of what the agent multiplies the reference schedule by, 1 for a factor of e^2."""
    return view.log_factor / 2.0


@feature()
def log_decay_factor(view: View) -> Tensor:
    """Natural logarithm of what the agents multiply the weight decay by, 1 for a factor of e^2."""
    return view.log_decay[:, None] / 2.0


@feature("grad_norm")
def log_grad_norm(view: View) -> Tensor:
    """Decimal logarithm of the layer's gradient norm, 1 for two decades."""
    return _log10(view.layer("grad_norm")) / 2.0


@feature("param_norm")
def log_param_norm(view: View) -> Tensor:
    """Decimal logarithm of the layer's parameter norm, 1 for two decades."""
    return _log10(view.layer("param_norm")) / 2.0


@feature("update_norm", "param_norm")
def log_update_ratio(view: View) -> Tensor:
    """Decimal logarithm of update norm over parameter norm, 0 at 0.001, 1 for two decades."""
    return (_log10(view.layer("update_norm") / view.layer("param_norm").clamp(min=_TINY)) + 3.0) / 2.0


@feature("grad_norm", "param_norm")
def log_grad_ratio(view: View) -> Tensor:
    """Decimal logarithm of gradient norm over parameter norm, 0 at 0.01, 1 for two decades."""
    return (_log10(view.layer("grad_norm") / view.layer("param_norm").clamp(min=_TINY)) + 2.0) / 2.0


@feature("grad_cosine")
def grad_cosine(view: View) -> Tensor:
    """Cosine between the layer's gradient and its momentum."""
    return view.layer("grad_cosine")


@feature("grad_snr")
def grad_snr(view: View) -> Tensor:
    """Norm of the mean gradient over the mean norm, in the interval: 1 where all gradients agree."""
    return view.layer("grad_snr")


@feature()
def relative_depth(view: View) -> Tensor:
    """Place of the layer, from -1 at the input to 1 at the output."""
    n_layers = view.run.n_layers
    return torch.linspace(-1.0, 1.0, n_layers, dtype=torch.float64, device=view.lr.device).expand(view.lr.shape)


@feature()
def log_layers(view: View) -> Tensor:
    """Natural logarithm of the number of layers, halved."""
    return view.everywhere(math.log(view.run.n_layers) / 2.0)


@feature()
def progress(view: View) -> Tensor:
    """Share of the horizon that is done, from -1 to 1."""
    return view.everywhere(2.0 * view.signals.progress - 1.0)


@feature()
def log_horizon(view: View) -> Tensor:
    """Decimal logarithm of the number of updates in the run, 0 at 300."""
    return view.everywhere(math.log10(view.run.total_updates / 300.0))


@feature()
def adaptive_optimizer(view: View) -> Tensor:
    """1 where the optimizer normalises each parameter's step (Adam, AdamW), -1 for SGD."""
    return view.everywhere(-1.0 if view.run.optimizer == "sgd" else 1.0)


@feature()
def log_train_loss(view: View) -> Tensor:
    """Natural logarithm of the training loss, halved."""
    return view.log_train_loss[:, None] / 2.0


@feature()
def loss_to_first(view: View) -> Tensor:
    """Natural logarithm of the training loss over the run's first one, halved."""
    return (view.log_train_loss - _log(view.memory.first))[:, None] / 2.0


@feature()
def loss_change(view: View) -> Tensor:
    """Natural logarithm of the training loss over that of the interval before, times three."""
    return (view.log_train_loss - _log(view.memory.last))[:, None] * 3.0


@feature()
def loss_to_best(view: View) -> Tensor:
    """Natural logarithm of the training loss over the lowest one before, times three."""
    return (view.log_train_loss - _log(view.memory.best))[:, None] * 3.0


@feature("val_loss")
def log_val_loss(view: View) -> Tensor:
    """Natural logarithm of the validation loss, halved. (A validation loss at each decision costs time.)."""
    return _log(_val_loss(view))[:, None] / 2.0


@feature("val_loss")
def val_gap(view: View) -> Tensor:
    """Natural logarithm of the validation loss over the training loss."""
    return (_log(_val_loss(view)) - view.log_train_loss)[:, None]


@feature("val_loss")
def val_change(view: View) -> Tensor:
    """Natural logarithm of the validation loss over that of the interval before, times three."""
    return (_log(_val_loss(view)) - _log(view.memory.last_val))[:, None] * 3.0


@feature("val_loss")
def val_to_best(view: View) -> Tensor:
    """Natural logarithm of the validation loss over the lowest one before, times three."""
    return (_log(_val_loss(view)) - _log(view.memory.best_val))[:, None] * 3.0


def _val_loss(view: View) -> Tensor:
    assert view.signals.val_loss is not None
    return view.signals.val_loss
