"""Optimizers over a matrix of parameters, one row for each run, with a weight decay and a momentum for each run.

They equal `torch.optim.SGD`, `Adam` and `AdamW` at each update. They return the direction: the step before it is
multiplied by the learning rate. So the learning rate is applied in one place, per run and layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.suite import OptimizerSpec

__all__ = ["OPTIMIZERS", "MatrixOptimizer", "OptimizerDefaults", "make_optimizer"]


@dataclass(frozen=True)
class OptimizerDefaults:
    """Default and tuning range (log scale) of base learning rate and weight decay, fixed for each optimizer."""

    base_lr: float
    base_lr_range: tuple[float, float]
    weight_decay: float
    weight_decay_range: tuple[float, float]


OPTIMIZERS = {
    "sgd": OptimizerDefaults(1e-2, (1e-4, 10.0), 1e-4, (1e-6, 1e-2)),
    "adam": OptimizerDefaults(1e-3, (1e-5, 1e-1), 1e-4, (1e-6, 1e-2)),
    "adamw": OptimizerDefaults(1e-3, (1e-5, 1e-1), 1e-2, (1e-4, 1.0)),
}
"""Optimizer -> defaults and ranges. Weight decay is an L2 penalty for `sgd` and `adam`, decoupled for `adamw`."""


Number: TypeAlias = Tensor | float


class MatrixOptimizer(ABC):
    """State of P optimizers.

    Attributes:
        momentum: Moving average of the gradients, shape (P, N).
        n_steps: Number of steps taken.
    """

    def __init__(self, spec: OptimizerSpec, parameters: Tensor, state: Mapping[str, Tensor] | None = None) -> None:
        """Begin with a state.

        Args:
            spec: The optimizer of a suite.
            parameters: Shape (P, N).
            state: The tensors that `tensors` names, which steps change in place; zeros by default.
        """
        self.spec = spec
        self.momentum = torch.zeros_like(parameters) if state is None else state["momentum"]
        self.n_steps = 0

    def direction(
        self, parameters: Tensor, gradients: Tensor, weight_decay: Tensor | None, momentum: Tensor | None
    ) -> Tensor:
        """Update the state with a gradient and return the direction. The caller does `parameters -= lr * direction`.

        Args:
            parameters: Shape (P, N).
            gradients: Shape (P, N); overwritten.
            weight_decay: Shape (P, 1), or None for no weight decay.
            momentum: SGD's momentum or Adam's beta1, shape (P, 1), or None for the value of the suite.

        Returns:
            Shape (P, N), valid until the next call.
        """
        self.n_steps += 1
        corrections = self.corrections(self.n_steps, momentum)
        return self.corrected(parameters, gradients, weight_decay, momentum, corrections)

    def corrections(self, step: Number, momentum: Tensor | None) -> tuple[Number, ...]:
        """Return what the moments are divided by at a step, which is counted from 1. SGD divides by nothing."""
        return ()

    @abstractmethod
    def corrected(
        self,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor | None,
        momentum: Tensor | None,
        corrections: Sequence[Number],
    ) -> Tensor:
        """Do what `direction` does, with given corrections. So it can be recorded once and replayed at any step."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the state's tensors, each of shape (P, N), by name."""
        return {"momentum": self.momentum}


class _SGD(MatrixOptimizer):
    def corrected(
        self,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor | None,
        momentum: Tensor | None,
        corrections: Sequence[Number],
    ) -> Tensor:
        factor = self.spec.momentum if momentum is None else momentum
        if weight_decay is not None:
            gradients.addcmul_(parameters, weight_decay)
        self.momentum.mul_(factor).add_(gradients)
        if not self.spec.nesterov:
            return self.momentum
        return gradients.add_(self.momentum * factor)


class _Adam(MatrixOptimizer):
    decoupled = False

    def __init__(self, spec: OptimizerSpec, parameters: Tensor, state: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(spec, parameters, state)
        self.second_moment = torch.zeros_like(parameters) if state is None else state["second_moment"]

    def corrections(self, step: Number, momentum: Tensor | None) -> tuple[Number, ...]:
        beta1, beta2 = self._betas(momentum)
        return 1 - beta1**step, (1 - beta2**step) ** 0.5

    def corrected(
        self,
        parameters: Tensor,
        gradients: Tensor,
        weight_decay: Tensor | None,
        momentum: Tensor | None,
        corrections: Sequence[Number],
    ) -> Tensor:
        beta1, beta2 = self._betas(momentum)
        first, second = corrections
        if weight_decay is not None and not self.decoupled:
            gradients.addcmul_(parameters, weight_decay)
        self.momentum.mul_(beta1).add_(gradients * (1 - beta1))
        self.second_moment.mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        denominator = self.second_moment.sqrt().div_(second).add_(self.spec.eps)
        direction = torch.div(self.momentum, denominator, out=denominator).div_(first)
        if weight_decay is not None and self.decoupled:
            direction.addcmul_(parameters, weight_decay)
        return direction

    def _betas(self, momentum: Tensor | None) -> tuple[Number, float]:
        return (self.spec.betas[0] if momentum is None else momentum), self.spec.betas[1]

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"second_moment": self.second_moment}


class _AdamW(_Adam):
    decoupled = True


def make_optimizer(
    spec: OptimizerSpec, parameters: Tensor, state: Mapping[str, Tensor] | None = None
) -> MatrixOptimizer:
    """Return the optimizer that a suite specifies, for parameters of shape (P, N); see `MatrixOptimizer`."""
    makers: dict[str, type[MatrixOptimizer]] = {"sgd": _SGD, "adam": _Adam, "adamw": _AdamW}
    if spec.name not in makers:
        raise ConfigError(f"unknown optimizer {spec.name!r}")
    return makers[spec.name](spec, parameters, state)
