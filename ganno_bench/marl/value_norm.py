"""The running mean and variance of the returns, which normalise the critic's targets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchrl.modules.value_norm import ValueNorm

__all__ = ["RunningScale"]


class RunningScale(ValueNorm):  # type: ignore[misc]
    """The statistics of TorchRL's `PopArtValueNorm`, exact also for returns far from zero.

    TorchRL's class subtracts the squared mean from the mean of squares, in float32. For returns around 1,000 that
    differ by 1, that loses the variance. This class updates the variance itself, from deviations from the mean (Chan et
    al. 1983), in float64. Both compute the same exponential average of the same batches.
    """

    def __init__(self, *, beta: float = 0.99999, epsilon: float = 1e-5, device: torch.device | None = None) -> None:
        """Begin with mean 0 and variance 1.

        Args:
            beta: The factor by which each later batch reduces the weight of a batch.
            epsilon: The lowest variance.
            device: The device of the statistics.
        """
        super().__init__(shape=1, epsilon=epsilon, device=device)
        self.beta = beta
        self.register_buffer("mean", torch.zeros(1, dtype=torch.float64, device=device))
        self.register_buffer("variance", torch.ones(1, dtype=torch.float64, device=device))
        self.register_buffer("weight", torch.zeros((), dtype=torch.float64, device=device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Load a state of this class, or of `PopArtValueNorm` from a checkpoint of format 1."""
        if f"{prefix}running_mean" in state_dict:
            total, squares, weight = (
                state_dict.pop(prefix + name).double() for name in ("running_mean", "running_mean_sq", "debiasing_term")
            )
            mean = total / weight
            loaded = {"mean": mean, "variance": (squares / weight - mean**2).clamp(min=0.0), "weight": weight}
            state_dict.update({prefix + name: value for name, value in loaded.items()})
        super()._load_from_state_dict(state_dict, prefix, *rest)

    @torch.no_grad()
    def update(self, value_target: Tensor) -> None:
        """Include a batch of returns, shape (..., 1)."""
        self._check_trailing_shape(value_target)
        returns = value_target.detach().double().reshape(-1, 1)
        mean, variance = returns.mean(0), returns.var(0, correction=0)
        self.weight.mul_(self.beta).add_(1.0 - self.beta)
        share = (1.0 - self.beta) / self.weight  # the batch's weight in the average, 1 for the first batch
        moved = mean - self.mean
        self.variance.add_(share * (variance + (1.0 - share) * moved**2 - self.variance))
        self.mean.add_(share * moved)

    def normalize(self, value_target: Tensor) -> Tensor:
        """Return (value - mean) / standard deviation, in the dtype of the values."""
        normalised: Tensor = (value_target - self.mean) / self.scale()
        return normalised.to(value_target.dtype)

    def denormalize(self, normalised_value: Tensor) -> Tensor:
        """Return the values whose normalised form is given: the inverse of `normalize`."""
        value: Tensor = normalised_value * self.scale() + self.mean
        return value.to(normalised_value.dtype)

    def scale(self) -> Tensor:
        """Return the standard deviation, shape (1,)."""
        deviation: Tensor = self.variance.clamp(min=self.epsilon).sqrt()
        return deviation
