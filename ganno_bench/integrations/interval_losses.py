"""The losses of a decision interval, averaged over all processes that train the same network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, distributed

from ganno_bench.core.errors import ConfigError

__all__ = ["IntervalLosses", "kept_loss"]


class IntervalLosses:
    """Collects training losses until a decision reads their mean."""

    def __init__(self, process_group: distributed.ProcessGroup | Literal["local"] | None = None) -> None:
        """Begin a decision interval.

        Args:
            process_group: The ranks over which losses are averaged. None: all ranks, if `torch.distributed` is
                initialised. "local": only this rank.
        """
        self._process_group = process_group
        self._losses: list[float] = []
        self._waiting: list[Tensor] = []  # losses on another device, which are not copied to the CPU yet
        self._warned = False

    def add(self, kept: Tensor | float) -> None:
        """Add a loss that `kept_loss` returned."""
        if isinstance(kept, float):
            self._losses.append(kept)
        else:
            self._waiting.append(kept)

    def means(self, val_loss: float, device: torch.device) -> tuple[float, float]:
        """Return the means over all ranks of training and validation losses, and begin the next decision interval.

        Values that are not finite are left out. All ranks must call this at the same update: it makes one all-reduce.

        Args:
            val_loss: The validation loss of this rank; NaN if it has none.
            device: Where the ranks exchange numbers.

        Returns:
            The two means; NaN if there is nothing to average.

        Warns:
            UserWarning: A loss is negative, or no loss is finite. It warns once.
        """
        given = self.state()
        losses = [loss for loss in given if math.isfinite(loss)]
        self.restore([])
        if given and not losses:
            self._warn(f"none of the last {len(given)} losses is finite; the policy decides without a training loss")
        elif losses and min(losses) < 0.0:
            self._warn(
                f"losses must be at least 0, because policies read their logarithm (value: {min(losses):g}); give a "
                "positive loss, such as a cross-entropy"
            )
        val_losses = [val_loss] if math.isfinite(val_loss) else []
        sums = [sum(losses), float(len(losses)), sum(val_losses), float(len(val_losses))]
        if self._process_group != "local" and distributed.is_available() and distributed.is_initialized():
            shared = torch.tensor(sums, dtype=torch.float64, device=device)
            distributed.all_reduce(shared, group=self._process_group)
            sums = shared.tolist()
        return _mean(*sums[:2]), _mean(*sums[2:])

    def state(self) -> list[float]:
        """Return the losses of this decision interval so far."""
        if self._waiting:
            self._losses += torch.stack(self._waiting).tolist()
            self._waiting = []
        return list(self._losses)

    def restore(self, losses: Sequence[float]) -> None:
        """Restore losses that `state` returned."""
        self._losses, self._waiting = list(losses), []

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=4)


def _mean(total: float, count: float) -> float:
    return total / count if count else math.nan


def kept_loss(loss: Tensor | float) -> Tensor | float:
    """Return a copy of a loss that later writes to its tensor do not change; do not wait for another device."""
    if not isinstance(loss, Tensor):
        return float(loss)
    if loss.numel() != 1:
        raise ConfigError(f"loss: must be a single number, the mean over the batch (shape: {tuple(loss.shape)})")
    return float(loss.item()) if loss.is_cpu else loss.detach().reshape(()).clone()
