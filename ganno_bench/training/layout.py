"""Where the parameters of P networks lie in one matrix: a row for each run, the layers side by side."""

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

# Every parameter starts at a multiple of this many scalars (128 bytes in float32), so that memory alignment, on which
# the kernels of a matrix library may depend, is the same for each run, wherever in a population it stands.
_ALIGN = 32

# Parameters of up to so many entries are in a sample whole, of larger ones at most so many entries are, in blocks of
# neighbours, as long as a cache line: a shorter one costs as much. Neighbours in a gradient are much alike, so as many
# entries in blocks of 4 tell a norm to 3 % where these tell it to 4 %; but to take them lasts longer by a quarter.
WHOLE = 16_384
SAMPLE = 2_048
BLOCK = 16


@dataclass(frozen=True)
class Blocks:
    """Which entries of a parameter, flattened, are in its sample.

    Attributes:
        n_blocks: Blocks of entries side by side.
        length: Entries of each.
        distance: From the beginning of one to that of the next.
        weight: What the sample's norm is multiplied by, so that it estimates the parameter's.
    """

    n_blocks: int
    length: int
    distance: int
    weight: float

    @classmethod
    def of(cls, size: int) -> Self:
        """Return the sample of a parameter: all of it up to 16,384 entries, or blocks evenly spread over it.

        In a matrix whose columns are a multiple of the distance all blocks would come from a few columns. So that
        every column gets its turn, the distance in blocks has no factor in common with the size.
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
        """Entries of the sample."""
        return self.n_blocks * self.length

    @property
    def is_whole(self) -> bool:
        """Whether nothing is left out."""
        return self.length == self.distance

    @property
    def entries(self) -> list[int]:
        """Their places in the parameter, in order."""
        return [block * self.distance + place for block in range(self.n_blocks) for place in range(self.length)]

    def take(self, tensor: Tensor) -> Tensor:
        """Return the sample of a tensor, shape (n_blocks, length); a view of it, if it is contiguous."""
        if tensor.is_contiguous():
            return tensor.as_strided((self.n_blocks, self.length), (self.distance, 1))
        return tensor[_places(self, tensor.shape, tensor.device)].view(self.n_blocks, self.length)


@cache
def _places(blocks: Blocks, shape: torch.Size, device: torch.device) -> tuple[Tensor, ...]:
    """Return the indices of a sample's entries along each axis of a tensor: not all of it has to be copied."""
    return torch.unravel_index(torch.tensor(blocks.entries, device=device), shape)


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

    def take(self, matrix: Tensor) -> Tensor:
        """Return a matrix as it is: where nothing is sampled, see `Sample`, all of it is looked at."""
        return matrix

    def norms(self, matrix: Tensor) -> Tensor:
        """Return the Euclidean norm of each layer, shape (P, L), of a matrix, shape (P, N)."""
        return _norms(matrix, self.layer_slices)

    def dots(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the inner product of each layer, shape (P, L), of two matrices, shape (P, N)."""
        return _dots(a, b, self.layer_slices)


class Sample:
    """Entries of each parameter, see `Blocks`, of all runs, from which norms and inner products are estimated.

    The sample's columns are aligned as the layout's are, with zeros in the gaps. Entries are scaled by the weights of
    their parameters. While nothing is left out, all is as the layout has it, to the bit.
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
        """Return the sample, shape (P, M), of a matrix, shape (P, N): the matrix itself if nothing is left out."""
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
