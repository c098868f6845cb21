"""Encode images as standardised tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.fingerprint import Pixels

__all__ = ["encode_images", "stack_images"]


def encode_images(
    splits: Mapping[str, Sequence[Pixels]], size: int | None, grayscale: bool
) -> tuple[dict[str, Tensor], tuple[float, ...]]:
    """Return images as tensors, standardised so that each channel of the training split has mean 0 and variance 1.

    Args:
        splits: Canonical pixels of the splits, including `train`.
        size: Height and width for resizing (bilinear, antialiased, proportions ignored); None: keep the size.
        grayscale: Whether to drop colours. If False and only some images are gray, these become RGB.

    Returns:
        For each split float32, shape (n_images, channels, height, width); and a black pixel's value in each channel.

    Raises:
        DatasetError: The images differ in size and `size` is None.
    """
    stacks = stack_images(splits, size, grayscale)
    table = _standardisation(stacks["train"])
    return {name: _look_up(table, stack) for name, stack in stacks.items()}, tuple(table[:, 0].tolist())


def stack_images(splits: Mapping[str, Sequence[Pixels]], size: int | None, grayscale: bool) -> dict[str, Pixels]:
    """Return images of one size and mode: for each split uint8, shape (n_images, height, width, channels).

    Arguments and errors are the same as for `encode_images`.
    """
    all_gray = all(pixels.ndim == 2 for images in splits.values() for pixels in images)
    mode = "L" if grayscale or all_gray else "RGB"
    converted = {name: [_convert(pixels, mode, size) for pixels in images] for name, images in splits.items()}
    shapes = sorted({pixels.shape[:2] for images in converted.values() for pixels in images})
    if len(shapes) > 1:
        (height, width), (other_height, other_width) = shapes[0], shapes[-1]
        raise DatasetError(
            f"has images of different sizes, such as {height}x{width} and {other_height}x{other_width}; "
            "set an image_size"
        )
    return {name: np.stack(images).reshape(len(images), *shapes[0], -1) for name, images in converted.items()}


def _convert(pixels: Pixels, mode: str, size: int | None) -> Pixels:
    has_mode = pixels.ndim == (2 if mode == "L" else 3)
    has_size = size is None or pixels.shape[:2] == (size, size)
    if has_mode and has_size:
        return pixels
    # Pillow computes both steps in integers, so the result does not depend on the machine.
    image = Image.fromarray(pixels).convert(mode)
    return np.asarray(image if size is None else image.resize((size, size), Image.Resampling.BILINEAR))


def _standardisation(images: Pixels) -> NDArray[np.float32]:
    """Return the encoded pixel values, shape (channels, 256), for images (n_images, height, width, channels).

    The moments are computed in integers, so they are the same on every machine. Scaling to [0, 1] first would cancel.
    """
    values = np.arange(256)
    table = np.empty((images.shape[-1], 256), dtype=np.float32)
    for channel, row in enumerate(table):
        # In portions, because bincount needs 8 bytes for each pixel.
        portions = (images[start : start + 4096, ..., channel] for start in range(0, len(images), 4096))
        counts = sum((np.bincount(portion.ravel(), minlength=256) for portion in portions), np.zeros(256, np.int64))
        n, total, squares = (int(counts @ values**power) for power in range(3))
        deviation = math.sqrt(n * squares - total**2) / n
        row[:] = (values - total / n) / (deviation or 1.0)
    return table


def _look_up(table: NDArray[np.float32], images: Pixels) -> Tensor:
    n_images, height, width, channels = images.shape
    encoded = np.empty((n_images, channels, height, width), dtype=np.float32)
    for channel, row in enumerate(table):
        encoded[:, channel] = row[images[..., channel]]
    return torch.from_numpy(encoded)
