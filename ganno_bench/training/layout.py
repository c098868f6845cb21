"""Where the parameters of P networks lie in one matrix: a row for each run, the layers side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganno_bench.workloads.layers import Layer

__all__ = ["GradientSample", "Layout", "sample_stride"]

# Every parameter starts at a multiple of this many scalars (128 bytes in float32), so that memory alignment, on which
# the kernels of a matrix library may depend, is the same for each run, wherever in a population it stands.
_ALIGN = 32

# At most so many entries of a parameter are in the sample on which the signal-to-noise ratio of gradients is measured:
# it is the one signal that needs every update's gradient, and to read them all costs as much as a sixth of an update.
_SAMPLE = 16_384


def sample_stride(size: int) -> int:
    """Return n, where every n-th entry of a parameter, flattened, is in the sample; 1 up to 16,384 entries."""
    return math.ceil(size / _SAMPLE)


class Layout:
    """Maps the parameters of a network to columns of a matrix with `n_columns` columns.

    The gaps that alignment leaves hold zeros and stay so.

    Attributes:
        n_columns: N, the number of columns.
        layers: The L layers, from input to output.
        layer_slices: The columns of each layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[Layer]) -> None:
        shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.layers = tuple(layers)
        self.names: list[str] = []
        self._columns: list[tuple[slice, torch.Size]] = []
        self.layer_slices: list[slice] = []
        end = 0
        for layer in layers:
            first = end
            for name in layer.parameters:
                size = math.prod(shapes[name])
                self.names.append(name)
                self._columns.append((slice(end, end + size), shapes[name]))
                end += math.ceil(size / _ALIGN) * _ALIGN
            self.layer_slices.append(slice(first, end))
        self.n_columns = end

    @property
    def n_layers(self) -> int:
        """L."""
        return len(self.layers)

    @property
    def parameter_slices(self) -> list[slice]:
        """The columns of each parameter, in the order of `names`, without the gaps."""
        return [columns for columns, _ in self._columns]

    def views(self, matrix: Tensor) -> list[Tensor]:
        """Return each parameter of all runs as a view, shape (P, *shape), of a matrix, shape (P, N)."""
        return [matrix[:, columns].view(-1, *shape) for columns, shape in self._columns]

    def write(self, matrix: Tensor, run: int, model: nn.Module) -> None:
        """Copy a network's parameters into row `run` of a matrix, shape (P, N)."""
        parameters = dict(model.named_parameters())
        for name, (columns, _) in zip(self.names, self._columns, strict=True):
            matrix[run, columns] = parameters[name].detach().flatten().to(matrix)

    def norms(self, matrix: Tensor) -> Tensor:
        """Return the Euclidean norm of each layer, shape (P, L), of a matrix, shape (P, N)."""
        return _norms(matrix, self.layer_slices)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each layer, shape (P, L), of two matrices, shape (P, N)."""
        return torch.stack([(a[:, part] * b[:, part]).sum(1) for part in self.layer_slices], dim=1)


class GradientSample:
    """Evenly spaced entries of each large parameter, and all of each small one, of all runs.

    The sample's columns are aligned as the layout's are, with zeros in the gaps.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        columns: list[int] = []
        kept: list[bool] = []
        self._layer_slices: list[slice] = []
        parts = iter(layout.parameter_slices)
        for layer in layout.layers:
            first = len(columns)
            for _ in layer.parameters:
                part = next(parts)
                chosen = range(part.start, part.stop, sample_stride(part.stop - part.start))
                gap = -len(chosen) % _ALIGN
                columns += [*chosen, *[part.start] * gap]
                kept += [True] * len(chosen) + [False] * gap
            self._layer_slices.append(slice(first, len(columns)))
        self.is_whole = len(columns) == layout.n_columns
        self._columns = torch.tensor(columns, device=device)
        self._kept = torch.tensor(kept, device=device)

    def take(self, matrix: Tensor) -> Tensor:
        """Return the sample, shape (P, M), of a matrix, shape (P, N): the matrix itself if nothing is left out."""
        if self.is_whole:
            return matrix
        return torch.where(self._kept, matrix.index_select(1, self._columns), 0.0)

    def norms(self, sample: Tensor) -> Tensor:
        """Return the Euclidean norm of each layer, shape (P, L), of a sample, shape (P, M)."""
        return _norms(sample, self._layer_slices)


def _norms(matrix: Tensor, parts: Sequence[slice]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(matrix[:, part], dim=1) for part in parts], dim=1)
