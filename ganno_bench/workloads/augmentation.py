"""Random flips and crops of training images, drawn for each run by itself and made for all runs at once."""

from __future__ import annotations

import torch
from torch import Tensor

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.data import Dataset
from ganno_bench.workloads.suite import AugmentationSpec

__all__ = ["Augmentation"]


class Augmentation:
    """Mirrors images and shifts them under a frame of black.

    An image becomes one of `n_views` equally likely views: mirrored or not (where flips are asked for), then padded
    by `crop` black pixels a side and cut back to its size at a random place, as torchvision's `RandomHorizontalFlip`
    and `RandomCrop(size, padding=crop)` do before they normalise. Pixels are moved and never computed with, so a view
    is the same on every device, and in every precision but for the rounding of its pixels.

    Attributes:
        n_views: Of an image: 2 if it may be flipped, times (2 crop + 1)^2.
    """

    def __init__(
        self,
        spec: AugmentationSpec,
        dataset: Dataset,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare.

        Args:
            spec: What is asked for.
            dataset: Whose training images are augmented.
            device: Of the images.
            dtype: Of the images.

        Raises:
            ConfigError: There are no images, they are not larger than `crop`, or nobody knows what black is in them.
        """
        if dataset.shape.inputs != "image":
            raise ConfigError(f"dataset {dataset.name!r} has no images; only images can be flipped and cropped")
        _, height, width = dataset.shape.input_shape
        if spec.crop >= min(height, width):
            raise ConfigError(
                f"crop is {spec.crop}, dataset {dataset.name!r} has images of {height}x{width}: it must be less, or "
                "nothing may be left of an image"
            )
        if spec.crop and dataset.black is None:
            raise ConfigError(f"dataset {dataset.name!r} does not say what black is, which a crop pads with")
        self._shifts = 2 * spec.crop + 1  # along one side
        self.n_views = (2 if spec.flip else 1) * self._shifts**2
        # Pixel i of a view is pixel i + shift of its image, where there is one.
        self._rows = torch.arange(height, device=device) - spec.crop
        self._columns = torch.arange(width, device=device) - spec.crop
        self._black = torch.tensor(dataset.black or (0.0,), dtype=torch.float32).to(device, dtype)[:, None]

    def draw(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Return the view of each example of each update of a run.

        Args:
            generator: Decides; on the CPU, so that the views do not depend on the device.
            n_updates: Length of the run; a shorter one has the beginning of the same views.
            batch_size: Examples per update.

        Returns:
            Indices in [0, n_views), int32, shape (n_updates, batch_size), on the CPU.
        """
        return torch.randint(self.n_views, (n_updates, batch_size), generator=generator, dtype=torch.int32)

    def view(self, images: Tensor, views: Tensor) -> Tensor:
        """Return views of images.

        Args:
            images: Shape (..., channels, height, width).
            views: Which one of each: flip, vertical and horizontal shift as the digits of an index, shape (...).

        Returns:
            Shape (..., channels, height, width), contiguous.
        """
        height, width = images.shape[-2:]
        n_pixels = height * width
        flip, shift = views // self._shifts**2, views % self._shifts**2
        rows = self._rows + (shift // self._shifts)[..., None]  # (..., height)
        columns = self._columns + (shift % self._shifts)[..., None]  # (..., width)
        # A crop of the mirror image, not the mirror image of a crop, which is distributed alike.
        columns = torch.where(flip.bool()[..., None], width - 1 - columns, columns)
        # Whatever lies outside of the image is the pixel after its last one, which is black.
        rows = torch.where((rows >= 0) & (rows < height), rows * width, n_pixels)
        columns = torch.where((columns >= 0) & (columns < width), columns, n_pixels)
        source = (rows[..., :, None] + columns[..., None, :]).clamp_(max=n_pixels).flatten(-2)
        flat = images.flatten(-2)
        flat = torch.cat([flat, self._black.expand(*flat.shape[:-1], 1)], dim=-1)
        return flat.gather(-1, source[..., None, :].expand(*images.shape[:-2], n_pixels)).view(images.shape)
