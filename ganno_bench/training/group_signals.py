"""Signals of the layers from one tensor for each parameter, for compiled updates; `measure.py` reads matrices.

G is the number of runs of a group. All functions can be recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from ganno_bench.training.layout import Blocks, Layout
from ganno_bench.training.measure import cosines, signal_to_noise
from ganno_bench.training.signals import SAMPLED

__all__ = ["GROUP_SIGNALS", "GroupSignals"]

GROUP_SIGNALS = ("grad_norm", "grad_cosine", "grad_snr", "direction_norm", "update_norm")
"""Signals that an update measures, in the order of its results. `param_norm` needs no update."""


class GroupSignals:
    """Measures the signals of one update, and the sums over a decision interval.

    Attributes:
        key: Identifies what is read.
    """

    def __init__(self, layout: Layout, needs: frozenset[str]) -> None:
        sizes = [part.stop - part.start for part in layout.parameter_slices]
        self._layer_of = [number for number, layer in enumerate(layout.layers) for _ in layer.parameters]
        self._sample = [Blocks.of(size) for size in sizes]
        self._part = self._sample if SAMPLED in needs else [Blocks(1, size, size, 1.0) for size in sizes]
        self.key = (*self._sample, *self._part)

    def sums(self, like: Tensor) -> list[Tensor]:
        """Return zeros for the sums of a decision interval: of sampled gradients, and of their norms.

        Args:
            like: Shape (G, ...), in the dtype and on the device of the sums.
        """
        n_runs, n_layers = like.shape[0], 1 + self._layer_of[-1]
        samples = [like.new_zeros(n_runs, blocks.n_blocks, blocks.length) for blocks in self._sample]
        return [*samples, like.new_zeros(n_runs, n_layers)]

    def add(self, gradients: Sequence[Tensor], sums: Sequence[Tensor]) -> Tensor:
        """Add the gradients of an update to the sums, and return the `grad_snr` since they were zeros, shape (G, L).

        Args:
            gradients: Shape (G, size) each.
            sums: See `sums`; changed in place.
        """
        samples = [_blocks(blocks, gradient) for blocks, gradient in zip(self._sample, gradients, strict=True)]
        totals = [total + sample for total, sample in zip(sums[:-1], samples, strict=True)]
        norm_total = sums[-1] + self._layers(self._sample, (sample * sample for sample in samples)).sqrt()
        norm_of_total = self._layers(self._sample, (total * total for total in totals)).sqrt()
        for total, value in zip(sums, [*totals, norm_total], strict=True):
            total.copy_(value)
        return signal_to_noise(norm_of_total, norm_total)

    def of_gradients(self, gradients: Sequence[Tensor], momentum: Sequence[Tensor]) -> list[Tensor]:
        """Return `grad_norm` and `grad_cosine`, shape (G, L) each.

        Args:
            gradients: Shape (G, size) each.
            momentum: The momentum before the update, of the same shapes.
        """
        norms = self.norms(gradients)
        return [norms, cosines(self._dots(gradients, momentum), norms, self.norms(momentum))]

    def norms(self, values: Sequence[Tensor]) -> Tensor:
        """Return the norm of each layer, shape (G, L), of values of shape (G, size) each."""
        return self._dots(values, values).sqrt()

    def _dots(self, a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
        products = (_blocks(part, x) * _blocks(part, y) for part, x, y in zip(self._part, a, b, strict=True))
        return self._layers(self._part, products)

    def _layers(self, parts: Sequence[Blocks], products: Iterable[Tensor]) -> Tensor:
        """Return the sum of the products of each layer, shape (G, L), from shape (G, n_blocks, length) each."""
        totals: dict[int, Tensor] = {}
        for layer, part, product in zip(self._layer_of, parts, products, strict=True):
            total = product.sum((1, 2))
            if not part.is_whole:
                total = total * part.weight**2
            totals[layer] = totals[layer] + total if layer in totals else total
        return torch.stack([totals[layer] for layer in sorted(totals)], dim=1)


def _blocks(blocks: Blocks, values: Tensor) -> Tensor:
    """Return the sample of each row, shape (G, n_blocks, length), of values of shape (G, size)."""
    return values[:, None] if blocks.is_whole else values.unfold(1, blocks.length, blocks.distance)
