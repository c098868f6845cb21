"""Random flips and crops of training images: drawn separately for each run, applied to all runs at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.data import Dataset
from ganno_bench.workloads.suite import AugmentationSpec

__all__ = ["Augmentation"]


class Augmentation:
    """Mirrors images and crops them at random places of a black frame.

    An image becomes one of `n_views` equally likely views. With `flip`, half of the views are mirrored. Then the image
    is padded by `crop` black pixels a side and cut back to its size at a random place. torchvision's
    `RandomHorizontalFlip` and `RandomCrop(size, padding=crop)` do the same, before normalisation. Views only move
    pixels. So they are the same on every device and, except for the rounding of the pixels, in every precision.

    Attributes:
        n_views: Number of views of an image: (2 crop + 1)^2, times 2 with flips.
    """

    def __init__(
        self,
        spec: AugmentationSpec,
        dataset: Dataset,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Prepare the views.

        Args:
            spec: Flips and crops.
            dataset: Dataset with the images.
            device: Device of the images.
            dtype: Floating-point type of the images.

        Raises:
            ConfigError: The dataset has no images, they are not larger than `crop`, or their black is not known.
        """
        if dataset.shape.inputs != "image":
            raise ConfigError(f"dataset {dataset.name!r} has no images; only images can be flipped and cropped")
        _, height, width = dataset.shape.input_shape
        if spec.crop >= min(height, width):
            raise ConfigError(
                f"crop must be less than the sides of the images, {height}x{width} in dataset {dataset.name!r} "
                f"(value: {spec.crop})"
            )
        if spec.crop and dataset.black is None:
            raise ConfigError(f"dataset {dataset.name!r} has no known black, which a crop pads with; remove the crop")
        self._shifts = 2 * spec.crop + 1  # along one side
        self.n_views = (2 if spec.flip else 1) * self._shifts**2
        # The source of each pixel of an image and of its mirror image; index height * width is the black pixel.
        own = torch.arange(height * width).view(height, width)
        frames = F.pad(torch.stack([own, own.flip(1)]), [spec.crop] * 4, value=own.numel()).to(device)
        self._sources = frames.unfold(1, height, 1).unfold(2, width, 1)  # (flip, shift, shift, height, width), no copy
        self._black = torch.tensor(dataset.black or (0.0,), dtype=torch.float32).to(device, dtype)[:, None]

    def draw(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Draw a view for each example of each update of a run.

        Args:
            generator: Random generator; on the CPU, so that the views do not depend on the device.
            n_updates: Length of the run; the views of a shorter run are a prefix of these.
            batch_size: Examples per update.

        Returns:
            Indices in [0, n_views), int32, shape (n_updates, batch_size), on the CPU.
        """
        return torch.randint(self.n_views, (n_updates, batch_size), generator=generator, dtype=torch.int32)

    def view(self, images: Tensor, views: Tensor) -> Tensor:
        """Return views of images.

        Args:
            images: Shape (..., channels, height, width).
            views: Index of the view of each image, shape (...). Flip, vertical shift and horizontal shift are the
                digits of the index. Images are flipped first, then cropped.

        Returns:
            Shape (..., channels, height, width), contiguous.
        """
        flip, shift = views // self._shifts**2, views % self._shifts**2
        source = self._sources[flip, shift // self._shifts, shift % self._shifts].flatten(-2)  # (..., height * width)
        flat = images.flatten(-2)
        index = source[..., None, :].expand_as(flat)
        flat = torch.cat([flat, self._black.expand(*flat.shape[:-1], 1)], dim=-1)
        return flat.gather(-1, index).view(images.shape)
