"""The layout of the parameters of P networks in one matrix: one row for each run, the layers side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

import torch
from torch import Tensor, nn

from ganno_bench.workloads.layers import Layer

__all__ = ["BLOCK", "SAMPLE", "WHOLE", "Blocks", "Layout", "Sample"]

# Every parameter starts at a multiple of this many scalars (128 bytes in float32). So its alignment in memory, on which
# the kernels of a matrix library may depend, is the same at every place in a population.
_ALIGN = 32

# A sample contains all entries of a parameter with at most WHOLE entries, and at most SAMPLE entries of a larger one. A
# block is as long as a cache line, because reading less costs the same. Neighbours in a gradient are similar: blocks of
# 4 would estimate a norm to 3 % instead of 4 %, but take a quarter more time.
WHOLE = 16_384
SAMPLE = 2_048
BLOCK = 16


@dataclass(frozen=True)
class Blocks:
    """The entries of a flattened parameter that belong to its sample.

    Attributes:
        n_blocks: Number of blocks of neighbouring entries.
        length: Number of entries of each block.
        distance: Distance between the beginnings of two blocks.
        weight: The norm of the sample times this weight estimates the norm of the parameter.
    """

    n_blocks: int
    length: int
    distance: int
    weight: float

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the sample of a parameter: all entries up to 16,384, otherwise evenly spread blocks.

        If the number of columns of a matrix were a multiple of the distance, all blocks would come from a few columns.
        So the distance, in blocks, has no common factor with the size.
        """
        if size <= WHOLE:
            return cls(1, size, size, 1.0)
        distance = math.ceil(size / SAMPLE)
        while math.gcd(distance, size) > 1:
            distance += 1
        distance *= BLOCK
        n_blocks = 1 + (size - BLOCK) // distance
        return cls(n_blocks, BLOCK, distance, math.sqrt(size / (n_blocks * BLOCK)))

    @property
    def size(self) -> int:
        """Number of entries of the sample."""
        return self.n_blocks * self.length

    @property
    def is_whole(self) -> bool:
        """Whether the sample contains all entries."""
        return self.length == self.distance

    @property
    def entries(self) -> list[int]:
        """Indices of the sample's entries in the parameter, in order."""
        return [block * self.distance + place for block in range(self.n_blocks) for place in range(self.length)]

    def take(self, tensor: Tensor) -> Tensor:
        """Return the sample of a tensor, shape (n_blocks, length). It is a view if the tensor is contiguous."""
        if tensor.is_contiguous():
            return tensor.as_strided((self.n_blocks, self.length), (self.distance, 1))
        return tensor[_places(self, tensor.shape, tensor.device)].view(self.n_blocks, self.length)


@cache
def _places(blocks: Blocks, shape: torch.Size, device: torch.device) -> tuple[Tensor, ...]:
    """Return the indices of a sample's entries along each axis, so that not the whole tensor is copied."""
    return torch.unravel_index(torch.tensor(blocks.entries, device=device), shape)


class Layout:
    """Maps the parameters of a network to columns of a matrix with `n_columns` columns.

    Gaps between parameters, which alignment needs, are always 0.

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
        """Return a view of each parameter, shape (P, *shape), of a matrix, shape (P, N)."""
        return [matrix[:, columns].view(-1, *shape) for columns, shape in self._columns]

    def write(self, matrix: Tensor, run: int, model: nn.Module) -> None:
        """Copy a network's parameters into row `run` of a matrix, shape (P, N)."""
        parameters = dict(model.named_parameters())
        for name, (columns, _) in zip(self.names, self._columns, strict=True):
            matrix[run, columns] = parameters[name].detach().flatten().to(matrix)

    def take(self, matrix: Tensor) -> Tensor:
        """Return the matrix itself. `Sample` has the same method, which returns a part."""
        return matrix

    def norms(self, matrix: Tensor) -> Tensor:
        """Return the Euclidean norm of each layer, shape (P, L), of a matrix, shape (P, N)."""
        return _norms(matrix, self.layer_slices)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each layer, shape (P, L), of two matrices, shape (P, N)."""
        return _dots(a, b, self.layer_slices)


class Sample:
    """A sample of the entries of each parameter, see `Blocks`, to estimate norms and inner products of all runs.

    The columns of a sample are aligned like those of the layout, with zeros in the gaps. Entries are scaled by the
    weights of their parameters. If the sample contains all entries, its results equal the layout's, bit by bit.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        columns: list[int] = []
        weights: list[float] = []
        self._layer_slices: list[slice] = []
        parts = iter(layout.parameter_slices)
        for layer in layout.layers:
            first = len(columns)
            for _ in layer.parameters:
                part = next(parts)
                blocks = Blocks.of(part.stop - part.start)
                gap = -blocks.size % _ALIGN
                columns += [*(part.start + entry for entry in blocks.entries), *[part.start] * gap]
                weights += [*[blocks.weight] * blocks.size, *[0.0] * gap]
            self._layer_slices.append(slice(first, len(columns)))
        self.is_whole = len(columns) == layout.n_columns
        self._columns = torch.tensor(columns, device=device)
        self._weights = torch.tensor(weights, device=device, dtype=torch.float64)

    def take(self, matrix: Tensor) -> Tensor:
        """Return the sample, shape (P, M), of a matrix, shape (P, N); the matrix itself if it contains all entries."""
        if self.is_whole:
            return matrix
        weights = self._weights.to(matrix.dtype)
        return torch.where(weights > 0.0, matrix.index_select(1, self._columns) * weights, 0.0)

    def norms(self, sample: Tensor) -> Tensor:
        """Return the Euclidean norm of each layer, shape (P, L), of a sample, shape (P, M)."""
        return _norms(sample, self._layer_slices)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each layer, shape (P, L), of two samples, shape (P, M)."""
        return _dots(a, b, self._layer_slices)


def _norms(matrix: Tensor, parts: Sequence[slice]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(matrix[:, part], dim=1) for part in parts], dim=1)


def _dots(a: Tensor, b: Tensor, parts: Sequence[slice]) -> Tensor:
    return torch.stack([(a[:, part] * b[:, part]).sum(1) for part in parts], dim=1)
