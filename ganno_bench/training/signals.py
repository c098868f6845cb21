"""The interface between the engine and a scheduler: the engine takes `Controls` and returns `Signals`.

P is the number of runs in a population and L the number of layers of the network. All tensors are on the population's
device. None of these values comes from test data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["LAYER_SIGNALS", "NEEDS", "OPTIONAL_SIGNALS", "SAMPLED", "Controls", "RunInfo", "Signals"]


@dataclass(frozen=True)
class RunInfo:
    """What a scheduler knows before the first update. The runs share one configuration.

    Attributes:
        layer_names: Names of the L layers, from input to output.
        layer_sizes: Number of parameters of each layer.
        base_lr: Base learning rate, float64, shape (P,).
        weight_decay: Base weight decay, float64, shape (P,).
        total_updates: The horizon: number of updates in a run, at least 1.
        optimizer: Name of the optimizer: `sgd`, `adam` or `adamw`.
    """

    layer_names: tuple[str, ...]
    layer_sizes: tuple[int, ...]
    base_lr: Tensor
    weight_decay: Tensor
    total_updates: int
    optimizer: str

    @property
    def n_runs(self) -> int:
        """P."""
        return self.base_lr.shape[0]

    @property
    def n_layers(self) -> int:
        """L."""
        return len(self.layer_names)


@dataclass(frozen=True)
class Controls:
    """What a scheduler decides.

    Attributes:
        lr: Learning rates, float64, finite, at least 0. Shape (P, L): they hold until the next decision. Shape
            (n, P, L): one row for each of the next n updates.
        weight_decay: Weight decay from now on, float64, finite, at least 0, shape (P,). None leaves it unchanged.
        momentum: SGD's momentum (Adam: beta1) from now on, float64, in [0, 1), shape (P,). None leaves it unchanged.
    """

    lr: Tensor
    weight_decay: Tensor | None = None
    momentum: Tensor | None = None


@dataclass(frozen=True)
class Signals:
    """What a scheduler sees: the state of P runs after `n_updates` updates.

    A value that has not been measured yet is NaN, as most are before the first update. All values of a diverged run are
    NaN. An optional field is None unless the scheduler's `needs` names it.

    Attributes:
        n_updates: Number of updates done.
        total_updates: The horizon.
        diverged: Whether the run has diverged, bool, shape (P,).
        lr: Learning rate of the last update, shape (P, L).
        train_loss: Mean loss on the training batches since the last decision, each taken before its update; nats per
            example (per token), shape (P,).
        val_loss: Loss on the validation split after the last update, nats, shape (P,). Optional.
        grad_norm: Euclidean norm of the last update's gradient, without weight decay, shape (P, L). Optional.
        param_norm: Norm of the parameters after the last update, shape (P, L). Optional.
        direction_norm: Norm of the optimizer's direction in the last update: the step before it is multiplied by the
            learning rate, decoupled weight decay included. Shape (P, L). Optional.
        update_norm: Norm of the last change of the parameters, `lr * direction_norm`, shape (P, L). Optional.
        grad_cosine: Cosine between the last update's gradient and the momentum (Adam: first moment) before that
            update, shape (P, L). It is 0 if there was no momentum yet. Optional.
        grad_snr: Norm of the mean gradient divided by the mean norm of the gradients, both since the last decision,
            shape (P, L). In [0, 1]; 1 means that all gradients point the same way. Estimated, see `SAMPLED`. Optional.
    """

    n_updates: int
    total_updates: int
    diverged: Tensor
    lr: Tensor
    train_loss: Tensor
    val_loss: Tensor | None = None
    grad_norm: Tensor | None = None
    param_norm: Tensor | None = None
    direction_norm: Tensor | None = None
    update_norm: Tensor | None = None
    grad_cosine: Tensor | None = None
    grad_snr: Tensor | None = None

    def runs(self, index: slice | Tensor) -> Self:
        """Return a copy of the signals of some runs. Changing the copy changes nothing else."""
        chosen: dict[str, Any] = {
            field.name: value[index].clone()
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **chosen)

    @property
    def progress(self) -> float:
        """Share of the horizon that is done, in [0, 1]."""
        return self.n_updates / self.total_updates


LAYER_SIGNALS = ("grad_norm", "param_norm", "direction_norm", "update_norm", "grad_cosine", "grad_snr")
"""Signals with a value for each layer, shape (P, L)."""
OPTIONAL_SIGNALS = ("val_loss", *LAYER_SIGNALS)
"""Optional fields of `Signals`."""
SAMPLED = "sampled"
"""In `needs`: the scheduler accepts estimates of the layers' signals.

The engine then reads at most 2,048 entries of a parameter with more than 16,384. It reads blocks of 16, spread over the
parameter and fixed for a run, and scales norms and products up. So time and memory do not grow with the parameter.
Norms of a perceptron's layers are typically off by 4 %. Norms that few entries dominate, as in the gradients of an
embedding or of an output for many words, are off by tens of percent. Without `sampled`, the engine reads all entries;
only `grad_snr` is sampled in any case."""
NEEDS = (*OPTIONAL_SIGNALS, SAMPLED)
"""What a scheduler may name in `needs`."""
