"""Operations of convolutional networks, expressed by others that are faster in compiled code on a CPU.

Inductor leaves convolutions and their gradients to a library. It does not vectorise where neighbouring elements of a
row depend on different ones. Each function here takes the arguments of an operation and returns its result, or
NotImplemented where the operation itself is as fast. The limits come from `benchmarks/operations.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CONVOLUTIONS"]

aten = torch.ops.aten

_FULL_VECTOR = 16
"""Output channels from which a library computes the gradient of an input as fast as a convolution."""

_FEW_CHANNELS = 4
"""Channels up to which a product with all patches of the images is faster than a library's convolution."""

_MOST_PATCHES = 2**19
"""Largest number of elements of these patches, which should stay in the cache."""


def _convolution(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    plain = _is_plain(inputs, dilation, transposed, groups) and [*stride] == [1, 1]
    if not plain or not _has_few_patches(inputs, weight):
        return NotImplemented
    patches, size = _patches(inputs, weight, padding)
    outputs = (weight.flatten(1) @ patches).view(-1, *size).transpose(0, 1)
    return outputs if bias is None else outputs + bias[:, None, None]


def _convolution_backward(
    gradient: Tensor,
    inputs: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> Any:
    if not _is_plain(inputs, dilation, transposed, groups):
        return NotImplemented
    own = (stride, padding, dilation, transposed, output_padding, groups)
    of_inputs = _of_inputs(gradient, inputs, weight, stride, padding) if wanted[0] else None
    of_weight = _of_weight(gradient, inputs, weight, stride, padding) if wanted[1] else None
    if not isinstance(of_inputs, Tensor) and not isinstance(of_weight, Tensor):
        return NotImplemented
    if of_inputs is NotImplemented:
        of_inputs = aten.convolution_backward(gradient, inputs, weight, None, *own, [True, False, False])[0]
    if of_weight is NotImplemented:
        of_weight = aten.convolution_backward(gradient, inputs, weight, None, *own, [False, True, False])[1]
    return of_inputs, of_weight, gradient.sum((0, 2, 3)) if wanted[2] else None


def _of_inputs(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Any:
    """Return the gradient of the inputs, which is a convolution of the gradient with the turned kernel."""
    channels, kernel = weight.shape[:2], weight.shape[2:]
    around = [size - 1 - own for size, own in zip(kernel, padding, strict=True)]
    if min(around) < 0 or channels[1] >= _FULL_VECTOR:
        return NotImplemented
    if [*stride] == [2, 2] and min(kernel) > 1 and max(channels) <= _FULL_VECTOR / 2:
        height, width = (
            size - 2 * own + length - 1 for size, own, length in zip(inputs.shape[2:], around, kernel, strict=True)
        )
        wide = _spread(gradient, width, [[1.0, 0.0], [0.0, 0.0]])
        gradient = _of_height(wide, height)
    elif [*stride] != [1, 1]:
        return NotImplemented
    turned = weight.flip(2, 3).transpose(0, 1).contiguous()
    return aten.convolution(gradient, turned, None, [1, 1], around, [1, 1], False, [0, 0], 1)


def _of_weight(gradient: Tensor, inputs: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Any:
    if [*stride] != [1, 1] or not _has_few_patches(inputs, weight):
        return NotImplemented
    patches, _ = _patches(inputs, weight, padding)
    return (gradient.transpose(0, 1).flatten(1) @ patches.t()).view(weight.shape)


def _is_plain(inputs: Tensor, dilation: Sequence[int], transposed: bool, groups: int) -> bool:
    return inputs.dim() == 4 and [*dilation] == [1, 1] and not transposed and groups == 1


def _has_few_patches(inputs: Tensor, weight: Tensor) -> bool:
    n_elements = inputs.numel() * weight.shape[2] * weight.shape[3]
    return inputs.shape[1] <= _FEW_CHANNELS and n_elements <= _MOST_PATCHES


def _patches(inputs: Tensor, weight: Tensor, padding: Sequence[int]) -> tuple[Tensor, tuple[int, int, int]]:
    """Return the patches that each output sees, shape (elements of a patch, outputs), and examples, height, width."""
    kernel = weight.shape[2:]
    padded = F.pad(inputs.transpose(0, 1), (padding[1], padding[1], padding[0], padding[0]))
    height, width = (size - own + 1 for size, own in zip(padded.shape[2:], kernel, strict=True))
    shifts = product(range(kernel[0]), range(kernel[1]))
    parts = [padded[:, :, row : row + height, column : column + width] for row, column in shifts]
    return torch.stack(parts, 1).flatten(2).flatten(0, 1), (inputs.shape[0], height, width)


def _avg_pool2d_backward(
    gradient: Tensor,
    inputs: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    halves = [*kernel] == [2, 2] and [*(stride or kernel)] == [2, 2]
    if not halves or any(padding) or ceil_mode or divisor_override is not None:
        return NotImplemented
    wide = _spread(gradient, inputs.shape[-1], [[0.25, 0.25], [0.25, 0.25]])
    return _of_height(wide, inputs.shape[-2])


def _slice_backward(gradient: Tensor, sizes: Sequence[int], dim: int, start: int, end: int, step: int) -> Any:
    dim %= len(sizes)
    if step != 2 or start != 0 or dim < len(sizes) - 2:
        return NotImplemented
    if dim == len(sizes) - 1:
        return _spread(gradient, sizes[dim], [[1.0, 0.0]])
    unit = torch.eye(gradient.shape[-1], dtype=gradient.dtype)
    with_zeros = gradient.reshape(-1, gradient.shape[-1]) @ torch.cat([unit, torch.zeros_like(unit)], 1)
    return _of_height(with_zeros.view(*sizes[:-2], -1, sizes[-1]), sizes[dim])


def _spread(values: Tensor, width: int, factors: Sequence[Sequence[float]]) -> Tensor:
    """Enlarge images: element (r, c) times factor (i, j) becomes element (2 r + i, 2 c + j).

    It is a product with a constant matrix, because Inductor does not vectorise such a selection.

    Args:
        values: Shape (..., height, width).
        width: Width of the result. Further columns are 0.
        factors: One row or two rows of two factors; one row leaves the height as it is.
    """
    place = torch.arange(width) - 2 * torch.arange(values.shape[-1])[:, None]
    rows = [row[0] * (place == 0) + row[1] * (place == 1) for row in factors]
    product = values.reshape(-1, values.shape[-1]) @ torch.cat(rows, 1).to(values.dtype)
    return product.view(*values.shape[:-2], len(rows) * values.shape[-2], width)


def _of_height(values: Tensor, height: int) -> Tensor:
    """Add rows of zeros to images, or remove their last rows."""
    return F.pad(values, (0, 0, 0, max(0, height - values.shape[-2])))[..., :height, :]


CONVOLUTIONS: Mapping[Any, Callable[..., Any]] = {
    aten.convolution.default: _convolution,
    aten.convolution_backward.default: _convolution_backward,
    aten.avg_pool2d_backward.default: _avg_pool2d_backward,
    aten.slice_backward.default: _slice_backward,
}
"""Operations and the functions that take their place, see `trace`."""
