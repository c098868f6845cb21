"""Where the parameters of P networks lie in one matrix: a row for each run, the layers side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganno_bench.workloads.layers import Layer

__all__ = ["Layout"]

# Every parameter starts at a multiple of this many scalars (128 bytes in float32), so that memory alignment, on which
# the kernels of a matrix library may depend, is the same for each run, wherever in a population it stands.
_ALIGN = 32


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
        return torch.stack([torch.linalg.vector_norm(matrix[:, part], dim=1) for part in self.layer_slices], dim=1)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each layer, shape (P, L), of two matrices, shape (P, N)."""
        return torch.stack([(a[:, part] * b[:, part]).sum(1) for part in self.layer_slices], dim=1)
