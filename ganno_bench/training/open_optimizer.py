"""Open optimizers: released optimizers that replace a workload's, one for each run of a population.

Any backend computes the gradients. The parameters of a run are views of its row, so a released optimizer changes the
matrix in place. Its updates of a run depend on this run alone.
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
    """A released optimizer that trains one run. Derive a class if the optimizer needs more than `step`.

    Attributes:
        optimizer: The optimizer, with one parameter group.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, lr: float) -> float:
        """Make an update from the gradients of the parameters.

        Args:
            lr: Learning rate of the update.

        Returns:
            The effective learning rate, for the records.
        """
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()
        return lr

    def eval(self) -> None:
        """Move the parameters to the point that is evaluated, if gradients are computed at another point."""

    def train(self) -> None:
        """Move the parameters back to the point at which gradients are computed."""


MakeOptimizer: TypeAlias = Callable[[Sequence[nn.Parameter], float], OpenOptimizer]
"""(parameters, weight decay) -> optimizer of one run."""


class OpenOptimizers:
    """The open optimizers of P runs. A diverged run gets no more updates."""

    def __init__(
        self,
        makers: Sequence[MakeOptimizer],
        layout: Layout,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor,
    ) -> None:
        """Make the optimizers.

        Args:
            makers: One function for each run.
            layout: Maps a row of a matrix to parameters.
            parameters: Shape (P or more, N); updates change it in place.
            gradients: Shape (P or more, N); optimizers may overwrite it.
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
        """Update every run whose losses have all been finite; return the effective learning rates, shape (P,).

        Args:
            losses: Losses of this update, shape (P,).
            lr: Learning rates, shape (P,).
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
        """Return the parameters that are evaluated, shape (P or more, N). This does not change the training."""
        before = self._parameters.clone()
        alive = [optimizer for optimizer in self._optimizers if optimizer is not None]
        for optimizer in alive:
            optimizer.eval()
        point = self._parameters.clone()
        for optimizer in alive:
            optimizer.train()
        self._parameters.copy_(before)  # `eval` and `train` do not restore the last bits
        return point
