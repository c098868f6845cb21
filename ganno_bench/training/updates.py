"""The updates of a chunk of runs: batches, gradients, signals, optimizer, learning rates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganno_bench.training.measure import Measurement

if TYPE_CHECKING:
    from ganno_bench.training.chunk import Chunk

__all__ = ["EagerUpdates", "Updates"]


class Updates(ABC):
    """Makes updates of the R rows of a chunk, and measures the signals that it needs."""

    @abstractmethod
    def begin(self) -> None:
        """Begin a new decision interval."""

    @abstractmethod
    def make(
        self, first: int, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make n updates.

        Args:
            first: Index of the first one.
            lr: Learning rates, float64, shape (n, R, L).
            weight_decay: Float64, shape (R,).
            momentum: Float64, shape (R,), or None for the suite's.

        Returns:
            The losses, shape (n, R), and the signals of the layers after the last update, shape (R, L) each.
        """


class EagerUpdates(Updates):
    """Makes updates operation by operation, on the matrices of all parameters, with any backend's gradients."""

    def __init__(self, chunk: Chunk) -> None:
        self._chunk = chunk
        self._measurement = Measurement(chunk.engine.layout, chunk.needs, chunk.parameters)

    def begin(self) -> None:  # noqa: D102
        self._measurement.begin()

    def make(  # noqa: D102
        self, first: int, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        chunk, measurement = self._chunk, self._measurement
        parameters, gradients, optimizer = chunk.parameters, chunk.gradient_rows, chunk.optimizer
        step_lr = lr.to(parameters.dtype).neg()
        uniform = bool((lr == lr[..., :1]).all())
        decay = weight_decay.to(parameters.dtype)[:, None] if bool((weight_decay != 0).any()) else None
        beta = None if momentum is None else momentum.to(parameters.dtype)[:, None]
        losses = []
        for index in range(lr.shape[0]):
            last = index == lr.shape[0] - 1
            losses.append(chunk.gradients(*chunk.batches.batch(first + index)))
            measurement.gradient(gradients, optimizer.momentum, last)
            direction = optimizer.direction(parameters, gradients, decay, beta)
            if last:
                measurement.direction(direction, -step_lr[index])
            if uniform:
                parameters.addcmul_(direction, step_lr[index, :, :1])
            else:
                for layer, part in enumerate(chunk.engine.layout.layer_slices):
                    parameters[:, part].addcmul_(direction[:, part], step_lr[index, :, layer, None])
        return torch.stack(losses), measurement.finish(parameters)
