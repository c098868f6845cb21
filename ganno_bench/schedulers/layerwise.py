"""Layerwise schedulers: cosines with a learning rate for each layer, as baselines for learned layerwise policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from optuna.distributions import BaseDistribution, FloatDistribution

from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.values import require
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["DepthFactor", "TrustRatio"]


@dataclass(frozen=True)
class DepthFactor(Cosine):
    """A cosine times a power of the layer's index: `lr[l] = base_lr * cosine * ratio ** (l - (L - 1) / 2)`.

    The index l runs from 0 at the input to L - 1 at the output. The exponents are centred: the geometric mean over the
    layers is the learning rate of the cosine. So ratio and base learning rate can be tuned independently. Howard &
    Ruder 2018, "Universal Language Model Fine-tuning", use 2.6 for fine-tuning.

    Attributes:
        final_factor: Factor at the end of the horizon, at least 0.
        ratio: Learning rate of a layer divided by the learning rate of the layer before it, above 0. 1 gives a cosine.
    """

    revision: ClassVar[int | None] = 1

    ratio: float = 1.0

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        super().__post_init__()
        require(self, "ratio", self.ratio > 0, "above 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor and the ratio."""
        return {**super().search_space(), "ratio": FloatDistribution(0.5, 2.0, log=True)}

    def init(self, run: RunInfo) -> State:
        """Return the base learning rate times the factor of each layer, shape (P, L)."""
        base = run.base_lr
        exponents = torch.arange(run.n_layers, dtype=base.dtype, device=base.device) - (run.n_layers - 1) / 2
        return base[:, None] * self.ratio**exponents


@dataclass(frozen=True)
class TrustRatio(Scheduler):
    """A cosine times each layer's trust ratio: `lr[l] = base_lr * cosine * min(clip, param_norm / direction_norm)`.

    So an update moves a layer by the share base_lr * cosine of the layer's norm. The norms are those of the previous
    update. If they were not measured (at the first update, or in a diverged run), the learning rate is 0. If one of the
    norms is 0, the ratio is 1. You et al. 2017, "Large Batch Training of Convolutional Networks" (LARS, no clip); You
    et al. 2020, "Large Batch Optimization for Deep Learning" (LAMB, clip 10 for Adam). SGD's directions are shorter
    than Adam's, so the default clip is higher.

    Attributes:
        final_factor: Factor at the end of the horizon, at least 0.
        clip: Upper bound of the trust ratio, above 0.
    """

    revision: ClassVar[int | None] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"param_norm", "direction_norm"})

    final_factor: float = 0.0
    clip: float = 1000.0

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "final_factor", self.final_factor >= 0, "at least 0")
        require(self, "clip", self.clip > 0, "above 0")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the final factor and the clip."""
        return {**Cosine.search_space(), "clip": FloatDistribution(1.0, 1e4, log=True)}

    def init(self, run: RunInfo) -> State:
        """Return the base learning rates, shape (P, L)."""
        return run.base_lr[:, None].repeat(1, run.n_layers)

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Return the learning rates of the next update."""
        params, direction = signals.param_norm, signals.direction_norm
        assert params is not None
        assert direction is not None
        ratio = torch.where((params == 0) | (direction == 0), 1.0, params / direction)
        ratio = ratio.nan_to_num(0.0, self.clip).clamp(max=self.clip)
        cosine = Cosine(self.final_factor).factor(signals.n_updates, signals.total_updates)
        return Controls(state * cosine * ratio), state
