"""Optimizers of others, as they were released, in the place of a workload's own: one for each run of a population.

The gradients come from the backend, whichever it is, and the parameters of a run are views of its row, so a released
optimizer works on the matrix in place. What it does to a run depends on that run alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ganno_bench.training.layout import Layout

__all__ = ["MakeOptimizer", "OpenOptimizer", "OpenOptimizers"]


class OpenOptimizer:
    """A released optimizer that trains one run. This class serves any; a subclass says what is special about its own.

    Attributes:
        optimizer: Has one group of parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, lr: float) -> float:
        """Make an update from the gradients that lie at the parameters.

        Args:
            lr: Learning rate of the update.

        Returns:
            The learning rate that was effective, for the records.
        """
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return lr

    def eval(self) -> None:
        """Move the parameters to the point that counts; that at which gradients are taken may be another."""

    def train(self) -> None:
        """Move them back."""


MakeOptimizer: TypeAlias = Callable[[Sequence[nn.Parameter], float], OpenOptimizer]
"""(parameters, weight decay) -> optimizer of one run."""


class OpenOptimizers:
    """The optimizers of P runs. One whose run has diverged makes no more updates."""

    def __init__(
        self,
        makers: Sequence[MakeOptimizer],
        layout: Layout,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor,
    ) -> None:
        """Make them.

        Args:
            makers: One for each run.
            layout: How a row of a matrix is read.
            parameters: Shape (P or more, N); changed in place from now on.
            gradients: Shape (P or more, N); overwritten, too.
            weight_decay: Shape (P,).
        """
        self._parameters = parameters
        values, grads = layout.views(parameters), layout.views(gradients)
        self._optimizers: list[OpenOptimizer | None] = []
        for run, (make, decay) in enumerate(zip(makers, weight_decay.tolist(), strict=True)):
            own = [nn.Parameter(value[run]) for value in values]
            for parameter, grad in zip(own, grads, strict=True):
                parameter.grad = grad[run]
            self._optimizers.append(make(own, decay))

    def step(self, losses: Tensor, lr: Tensor) -> Tensor:
        """Update every run whose loss is finite, now and before; return the effective learning rates, shape (P,).

        Args:
            losses: Of this update, shape (P,).
            lr: Shape (P,).
        """
        effective = lr.tolist()
        for run, loss in enumerate(losses.tolist()):
            optimizer = self._optimizers[run]
            if optimizer is not None and math.isfinite(loss):
                effective[run] = optimizer.step(effective[run])
            else:
                self._optimizers[run] = None
        return lr.new_tensor(effective)

    def evaluated(self) -> Tensor:
        """Return the parameters that count, shape (P or more, N); training goes on as if nobody had asked."""
        before = self._parameters.clone()
        alive = [optimizer for optimizer in self._optimizers if optimizer is not None]
        for optimizer in alive:
            optimizer.eval()
        point = self._parameters.clone()
        for optimizer in alive:
            optimizer.train()
        self._parameters.copy_(before)  # there and back again is not the same to the last bit
        return point
