"""Random flips and crops of training images, drawn for each run by itself and made for all runs at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

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
        # Where each pixel of an image and of its mirror image comes from; black is the pixel after the last one.
        own = torch.arange(height * width).view(height, width)
        frames = F.pad(torch.stack([own, own.flip(1)]), [spec.crop] * 4, value=own.numel()).to(device)
        self._sources = frames.unfold(1, height, 1).unfold(2, width, 1)  # (flip, shift, shift, height, width), no copy
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
            views: Which one of each, shape (...): flip, vertical and horizontal shift are the digits of its index. What
                is flipped is flipped first and then cropped.

        Returns:
            Shape (..., channels, height, width), contiguous.
        """
        flip, shift = views // self._shifts**2, views % self._shifts**2
        source = self._sources[flip, shift // self._shifts, shift % self._shifts].flatten(-2)  # (..., height * width)
        flat = images.flatten(-2)
        index = source[..., None, :].expand_as(flat)
        flat = torch.cat([flat, self._black.expand(*flat.shape[:-1], 1)], dim=-1)
        return flat.gather(-1, index).view(images.shape)
