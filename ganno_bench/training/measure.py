"""Measures the signals that are needed, and only those, while a chunk of runs is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from ganno_bench.training.layout import Layout, Sample
from ganno_bench.training.signals import SAMPLED

__all__ = ["Measurement", "cosines", "part_to_read", "signal_to_noise"]

_TINY = 1e-30


class Measurement:
    """Measures the signals of one decision interval at a time, per run and layer, from matrices of shape (P, N).

    See `Signals` for their meaning.
    """

    def __init__(self, layout: Layout, needs: frozenset[str], like: Tensor) -> None:
        self._needs = needs
        # `grad_snr` needs the gradient of every update; reading all entries would cost a sixth of an update.
        self._sample: Layout | Sample = Sample(layout, like.device) if needs & {"grad_snr", SAMPLED} else layout
        self._part = self._sample if SAMPLED in needs else layout
        if "grad_snr" in needs:
            self._gradient_sum = self._sample.take(torch.empty_like(like))
        self.begin()

    def begin(self) -> None:
        """Begin a new decision interval."""
        self._values: dict[str, Tensor] = {}
        self._norm_sum: Tensor | None = None

    def gradient(self, gradients: Tensor, momentum: Tensor, last: bool) -> None:
        """Read a gradient, before the optimizer does."""
        if "grad_snr" in self._needs:
            sample = self._sample.take(gradients)
            lengths = self._sample.norms(sample)
            if self._norm_sum is None:
                self._gradient_sum.copy_(sample)
                self._norm_sum = lengths.clone()
            else:
                self._gradient_sum += sample
                self._norm_sum += lengths
        if not (last and self._needs & {"grad_norm", "grad_cosine"}):
            return
        part = self._part.take(gradients)
        norms = self._part.norms(part)
        if "grad_norm" in self._needs:
            self._values["grad_norm"] = norms
        if "grad_cosine" in self._needs:
            before = self._part.take(momentum)
            self._values["grad_cosine"] = cosines(self._part.dots(part, before), norms, self._part.norms(before))

    def direction(self, direction: Tensor, lr: Tensor) -> None:
        """Read the direction of the last update, and its learning rates, shape (P, L)."""
        if self._needs & {"direction_norm", "update_norm"}:
            norms = self._part.norms(self._part.take(direction))
            self._values |= {"direction_norm": norms, "update_norm": norms * lr}

    def finish(self, parameters: Tensor) -> dict[str, Tensor]:
        """Return the measured signals, shape (P, L) each, after the last update."""
        if "param_norm" in self._needs:
            self._values["param_norm"] = self._part.norms(self._part.take(parameters))
        if self._norm_sum is not None:
            self._values["grad_snr"] = signal_to_noise(self._sample.norms(self._gradient_sum), self._norm_sum)
        return {name: value for name, value in self._values.items() if name in self._needs}


def part_to_read(layout: Layout, needs: frozenset[str], device: torch.device) -> Layout | Sample:
    """Return what norms of the layers are computed from: a sample if it is accepted, otherwise all parameters."""
    return Sample(layout, device) if SAMPLED in needs else layout


def cosines(dots: Tensor, norms: Tensor, others: Tensor) -> Tensor:
    """Return cosines from inner products and norms; 0 where a norm is 0."""
    return (dots / (norms * others).clamp(min=_TINY)).clamp(-1, 1)


def signal_to_noise(norms_of_sums: Tensor, sums_of_norms: Tensor) -> Tensor:
    """Return `grad_snr` from the norm of the sum of the gradients and the sum of their norms."""
    return (norms_of_sums / sums_of_norms.clamp(min=_TINY)).clamp(max=1)
