"""Measures the signals that are wanted, and only those, while a chunk of runs is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from ganno_bench.training.layout import GradientSample, Layout

__all__ = ["Measurement"]

_TINY = 1e-30


class Measurement:
    """Signals of one interval at a time, per run and layer, from matrices of shape (P, N).

    What they mean stands with `Signals`.
    """

    def __init__(self, layout: Layout, needs: frozenset[str], like: Tensor) -> None:
        self._layout = layout
        self._needs = needs
        if "grad_snr" in needs:
            self._sample = GradientSample(layout, like.device)
            self._gradient_sum = self._sample.take(torch.empty_like(like))
        self.begin()

    def begin(self) -> None:
        """Begin another interval."""
        self._values: dict[str, Tensor] = {}
        self._norm_sum: Tensor | None = None

    def gradient(self, gradients: Tensor, momentum: Tensor, last: bool) -> None:
        """Take in a gradient, before the optimizer does."""
        norms = None
        if "grad_snr" in self._needs:
            sample = self._sample.take(gradients)
            lengths = self._sample.norms(sample)
            if self._norm_sum is None:
                self._gradient_sum.copy_(sample)
                self._norm_sum = lengths.clone()
            else:
                self._gradient_sum += sample
                self._norm_sum += lengths
            if self._sample.is_whole:
                norms = lengths
        if not (last and self._needs & {"grad_norm", "grad_cosine"}):
            return
        if norms is None:
            norms = self._layout.norms(gradients)
        if "grad_norm" in self._needs:
            self._values["grad_norm"] = norms
        if "grad_cosine" in self._needs:
            lengths = (norms * self._layout.norms(momentum)).clamp(min=_TINY)
            self._values["grad_cosine"] = (self._layout.dots(gradients, momentum) / lengths).clamp(-1, 1)

    def direction(self, direction: Tensor, lr: Tensor) -> None:
        """Take in the last update's direction and its learning rates, shape (P, L)."""
        if self._needs & {"direction_norm", "update_norm"}:
            norms = self._layout.norms(direction)
            self._values |= {"direction_norm": norms, "update_norm": norms * lr}

    def finish(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return what was measured, each of shape (P, L), after the last update."""
        if "param_norm" in self._needs:
            self._values["param_norm"] = self._layout.norms(parameters)
        if self._norm_sum is not None:
            snr = self._sample.norms(self._gradient_sum) / self._norm_sum.clamp(min=_TINY)
            self._values["grad_snr"] = snr.clamp(max=1)
        return {name: value for name, value in self._values.items() if name in self._needs}
