"""What passes between the engine and whoever controls it: `Controls` go in, `Signals` come out.

P is the number of runs in a population and L the number of layers of the network. All tensors lie on the population's
device. Nothing here comes from test data.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["LAYER_SIGNALS", "NEEDS", "OPTIONAL_SIGNALS", "SAMPLED", "Controls", "RunInfo", "Signals"]


@dataclass(frozen=True)
class RunInfo:
    """What a scheduler is told before the first update, about runs that share one configuration.

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
        lr: Learning rates, finite and not negative, float64: shape (P, L), in force until the next decision, or
            (n, P, L) for the next n updates one by one.
        weight_decay: Weight decay from now on, finite and not negative, float64, shape (P,), or None to leave it as it
            is.
        momentum: SGD's momentum (Adam: beta1) from now on, in [0, 1), float64, shape (P,), or None to leave it as it
            is.
    """

    lr: Tensor
    weight_decay: Tensor | None = None
    momentum: Tensor | None = None


@dataclass(frozen=True)
class Signals:
    """What a scheduler sees: the state of P runs after `n_updates` updates.

    "The interval" is what one call of `Population.advance` covered. Before the first update, whatever has not been
    measured yet is NaN. A run that diverged shows NaN from then on. Optional fields are None unless needed.

    Attributes:
        n_updates: Updates so far.
        total_updates: The horizon.
        diverged: Whether the run has diverged, bool, shape (P,).
        lr: Learning rate of the last update, shape (P, L).
        train_loss: Mean over the interval of the loss on the training batch, before each update; nats per example
            (per token), shape (P,).
        val_loss: Loss on the validation split, after the last update; nats, shape (P,). Optional.
        grad_norm: Euclidean norm of the last update's gradient, without weight decay, shape (P, L). Optional.
        param_norm: Norm of the parameters, after the last update, shape (P, L). Optional.
        direction_norm: Norm of the optimizer's direction in the last update, that is of the step before it is
            multiplied by the learning rate (decoupled weight decay included), shape (P, L). Optional.
        update_norm: Norm of the change that the last update made to the parameters: `lr * direction_norm`, shape
            (P, L). Optional.
        grad_cosine: Cosine between the last update's gradient and the momentum (Adam: first moment) before that
            update, shape (P, L); 0 where there was no momentum yet. Optional.
        grad_snr: Norm of the mean gradient over the mean norm of the gradient, over the interval; in [0, 1], 1 where
            all gradients point the same way, shape (P, L). Estimated, see `SAMPLED`. Optional.
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
        """Return a copy of the signals of some of the runs; writing into it changes these nowhere else."""
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
"""Those with a value for each layer, shape (P, L)."""
OPTIONAL_SIGNALS = ("val_loss", *LAYER_SIGNALS)
"""Optional fields of `Signals`."""
SAMPLED = "sampled"
"""Among `needs`: estimates of the layers' signals will do. Of a parameter with more than 16,384 entries at most 2,048
are looked at, in blocks of 16 spread over all of it, the same ones throughout a run; norms and products are scaled
up. That takes the same time and memory however large a parameter is. Norms of a perceptron's layers are typically off
by 4 %; where few entries make a norm, as in the gradients of an embedding or of an output for many words, by tens of
percent. Otherwise all entries are looked at, but for `grad_snr`."""
NEEDS = (*OPTIONAL_SIGNALS, SAMPLED)
"""What a scheduler may name in `needs`."""
