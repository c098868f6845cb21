"""The losses of an interval, of this process and of the others that train the same network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, distributed

__all__ = ["IntervalLosses", "kept_loss"]


class IntervalLosses:
    """Collects training losses until a decision asks for their mean."""

    def __init__(self, process_group: distributed.ProcessGroup | Literal["local"] | None = None) -> None:
        """Begin an interval.

        Args:
            process_group: The ranks over which losses are averaged; None: all, if `torch.distributed` is initialised;
                "local": this one alone.
        """
        self._process_group = process_group
        self._losses: list[float] = []
        self._waiting: list[Tensor] = []  # those that another device has not told yet
        self._warned = False

    def add(self, kept: Tensor | float) -> None:
        """Take in what `kept_loss` returned."""
        if isinstance(kept, float):
            self._losses.append(kept)
        else:
            self._waiting.append(kept)

    def means(self, val_loss: float, device: torch.device) -> tuple[float, float]:
        """Return the means, over all ranks, of the interval's losses and of a validation loss; begin another interval.

        What is not finite does not count. All ranks call this at the same update: it is one all-reduce.

        Args:
            val_loss: This rank's, NaN if there is none.
            device: Where the ranks exchange numbers.

        Returns:
            The two means, NaN where there is nothing to average.

        Warns:
            UserWarning: A loss is negative, or none is finite; once.
        """
        given = self.state()
        losses = [loss for loss in given if math.isfinite(loss)]
        self.restore([])
        if given and not losses:
            self._warn(f"none of the last {len(given)} losses is finite: the policy sees none")
        elif losses and min(losses) < 0.0:
            self._warn(
                f"a loss is negative ({min(losses):g}): policies look at logarithms of losses, as those of "
                "cross-entropies, so give a loss that is positive"
            )
        val_losses = [val_loss] if math.isfinite(val_loss) else []
        sums = [sum(losses), float(len(losses)), sum(val_losses), float(len(val_losses))]
        if self._process_group != "local" and distributed.is_available() and distributed.is_initialized():
            shared = torch.tensor(sums, dtype=torch.float64, device=device)
            distributed.all_reduce(shared, group=self._process_group)
            sums = shared.tolist()
        return _mean(*sums[:2]), _mean(*sums[2:])

    def state(self) -> list[float]:
        """Return the interval's losses so far."""
        if self._waiting:
            self._losses += torch.stack(self._waiting).tolist()
            self._waiting = []
        return list(self._losses)

    def restore(self, losses: Sequence[float]) -> None:
        """Go on from what `state` returned."""
        self._losses, self._waiting = list(losses), []

    def _warn(self, message: str) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(message, stacklevel=4)


def _mean(total: float, count: float) -> float:
    return total / count if count else math.nan


def kept_loss(loss: Tensor | float) -> Tensor | float:
    """Return a loss that stays as it is when its tensor is overwritten; another device's is not waited for."""
    if not isinstance(loss, Tensor):
        return float(loss)
    return float(loss.item()) if loss.is_cpu else loss.detach().reshape(()).clone()
