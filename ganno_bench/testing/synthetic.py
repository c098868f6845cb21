"""Synthetic training runs: the signals that a scheduler sees, without training, the same at each call."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ganno_bench.training.signals import OPTIONAL_SIGNALS, RunInfo, Signals

__all__ = ["SyntheticRuns", "synthetic_runs"]

_LAYER_SIZES = (640, 1056, 1056, 330)


@dataclass(frozen=True)
class SyntheticRuns:
    """P runs with L layers and a horizon of T updates.

    Attributes:
        base_lr: Base learning rates, shape (P,).
        weight_decay: Base weight decays, shape (P,).
        train_loss: Training loss of each update, nats, shape (T, P).
        val_loss: Validation loss after 0 to T updates, nats, shape (T + 1, P).
        layers: Signals of the layers after 0 to T updates, shape (T + 1, P, L) each, except `update_norm`.
        diverged_at: Number of updates after which each run counts as diverged, shape (P,).
    """

    base_lr: Tensor
    weight_decay: Tensor
    train_loss: Tensor
    val_loss: Tensor
    layers: dict[str, Tensor]
    diverged_at: Tensor

    @property
    def total(self) -> int:
        """T."""
        return len(self.train_loss)

    def select(self, runs: Sequence[int]) -> SyntheticRuns:
        """Return some of the runs, in the given order."""
        index = list(runs)
        return SyntheticRuns(
            self.base_lr[index],
            self.weight_decay[index],
            self.train_loss[:, index],
            self.val_loss[:, index],
            {name: values[:, index] for name, values in self.layers.items()},
            self.diverged_at[index],
        )

    def diverging(self, run: int, n_updates: int) -> SyntheticRuns:
        """Return the same runs, where one of them diverges after `n_updates` updates."""
        diverged_at = self.diverged_at.clone()
        diverged_at[run] = n_updates
        return replace(self, diverged_at=diverged_at)

    def info(self) -> RunInfo:
        """Return what a scheduler knows before the first update."""
        return RunInfo(
            layer_names=tuple(f"layer{index}" for index in range(len(_LAYER_SIZES))),
            layer_sizes=_LAYER_SIZES,
            base_lr=self.base_lr.clone(),
            weight_decay=self.weight_decay.clone(),
            total_updates=self.total,
            optimizer="sgd",
        )

    def signals(self, n_updates: int, since: int, lr: Tensor, needs: Collection[str] = OPTIONAL_SIGNALS) -> Signals:
        """Return what a scheduler sees.

        Args:
            n_updates: Number of updates done.
            since: Number of updates done at the last decision.
            lr: Learning rates of the last update, shape (P, L).
            needs: Optional signals; the others are None.
        """
        diverged = n_updates >= self.diverged_at
        fields = {name: values[n_updates].clone() for name, values in self.layers.items()}
        fields["update_norm"] = lr * fields["direction_norm"]
        lr, train_loss = lr.clone(), self.train_loss[since:n_updates].mean(0)
        if n_updates == 0:  # only parameters and validation loss can be measured before the first update
            for values in (lr, *(values for name, values in fields.items() if name != "param_norm")):
                values.fill_(torch.nan)
        fields["val_loss"] = self.val_loss[n_updates].clone()
        for values in (lr, train_loss, *fields.values()):
            values[diverged] = torch.nan
        return Signals(
            n_updates=n_updates,
            total_updates=self.total,
            diverged=diverged,
            lr=lr,
            train_loss=train_loss,
            **{name: values for name, values in fields.items() if name in needs},
        )


def synthetic_runs(total: int) -> SyntheticRuns:
    """Return 3 runs with 4 layers: falling, noisy losses, positive norms, cosines in [-1, 1], ratios in [0, 1].

    Args:
        total: The horizon.
    """
    generator = torch.Generator().manual_seed(0)
    base_lr = torch.tensor([0.01, 0.3, 0.07], dtype=torch.float64)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def losses(n: int, limit: float) -> Tensor:
        falling = limit + math.log(10.0) * torch.exp(-3.0 * torch.arange(n, dtype=torch.float64) / total)
        return falling[:, None] * (0.8 + 0.4 * uniform(n, len(base_lr)))

    shape = (total + 1, len(base_lr), len(_LAYER_SIZES))
    return SyntheticRuns(
        base_lr=base_lr,
        weight_decay=torch.tensor([0.0, 1e-4, 1e-2], dtype=torch.float64),
        train_loss=losses(total, 0.1),
        val_loss=losses(total + 1, 0.3),
        layers={
            "grad_norm": 2.0 * uniform(*shape) + 1e-3,
            "param_norm": 5.0 * uniform(*shape) + 1.0,
            "direction_norm": 3.0 * uniform(*shape) + 1e-3,
            "grad_cosine": 2.0 * uniform(*shape) - 1.0,
            "grad_snr": uniform(*shape),
        },
        diverged_at=torch.full((len(base_lr),), total + 1),
    )
