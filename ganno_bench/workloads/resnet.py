"""Residual image classifiers for small images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["ResNet"]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each followed by a normalisation, around an identity shortcut (He et al. 2015, figure 2).

    A block with more channels than its input halves the resolution. Its shortcut takes every other pixel and adds
    channels of zeros (option A of He et al., without parameters).
    """

    def __init__(self, channels: int, out: int, groups: int | None) -> None:
        super().__init__()
        stride = 1 if channels == out else 2
        # No bias before a normalisation, which would remove it.
        self.conv1 = nn.Conv2d(channels, out, kernel_size=3, stride=stride, padding=1, bias=False)
        self.norm1 = _norm(out, groups)
        self.conv2 = nn.Conv2d(out, out, kernel_size=3, padding=1, bias=False)
        self.norm2 = _norm(out, groups)
        self._new_channels = out - channels

    def forward(self, inputs: Tensor) -> Tensor:
        """Return shape (batch, out, height', width') for shape (batch, channels, height, width)."""
        hidden = torch.relu(self.norm1(self.conv1(inputs)))
        hidden = self.norm2(self.conv2(hidden))
        shortcut = inputs
        if self._new_channels:
            shortcut = F.pad(inputs[..., ::2, ::2], (0, 0, 0, 0, 0, self._new_channels))
        return torch.relu(hidden + shortcut)


class ResNet(nn.Module):
    """Residual network for small images (He et al. 2015, section 4.2): depth 8, 14, 20, 32, 56 = 6n + 2.

    A 3x3 convolution, three stages of n residual blocks of `width`, 2 `width` and 4 `width` channels, global average
    pooling, one linear layer. The second and third stages halve the resolution. GroupNorm (Wu and He 2018) replaces
    BatchNorm by default. With BatchNorm, a prediction in training depends on the other examples of the batch, and runs
    are trained one after another. Convolutions are drawn from N(0, 2 / fan_in) (He et al. 2015b).

    Layers: the first convolution with its normalisation, each residual block, and the output layer.
    """

    def __init__(
        self, shape: TaskShape, *, depth: int, width: int = 16, groups: int = 4, batch_norm: bool = False
    ) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; images of at least 4x4.
            depth: Number of layers with weights on the longest path: 6n + 2 for n blocks in each stage.
            width: Channels of the first stage.
            groups: Groups of GroupNorm; a divisor of `width`.
            batch_norm: Whether to use BatchNorm, as in the paper; `groups` is then ignored.

        Raises:
            ConfigError: The depth is not 6n + 2, the width is not a multiple of the groups, or the data are not images.
        """
        super().__init__()
        require_inputs("resnet", shape, "image")
        if depth < 8 or (depth - 2) % 6:
            below = max(8, depth - (depth - 2) % 6)
            raise ConfigError(
                f"model family 'resnet': depth must be 6n + 2 with n >= 1 (value: {depth}); did you mean {below}?"
            )
        if not batch_norm and width % groups:
            raise ConfigError(f"model family 'resnet': width must be a multiple of groups, {groups} (value: {width})")
        self.stem = nn.Conv2d(shape.input_shape[0], width, kernel_size=3, padding=1, bias=False)
        self.norm = _norm(width, None if batch_norm else groups)
        n_blocks = (depth - 2) // 6
        channels = [width] + [width * 2**stage for stage in range(3) for _ in range(n_blocks)]
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, None if batch_norm else groups) for before, after in pairwise(channels)
        )
        self.output = nn.Linear(channels[-1], shape.n_outputs)
        self._names = [f"stage{stage}.block{index}" for stage in range(3) for index in range(n_blocks)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * 9)))
        nn.init.normal_(self.output.weight, std=channels[-1] ** -0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, shape (batch, classes), for images, shape (batch, channels, height, width)."""
        hidden = torch.relu(self.norm(self.stem(inputs)))
        for block in self.blocks:
            hidden = block(hidden)
        logits: Tensor = self.output(hidden.mean((-2, -1)))
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the layers: name -> modules."""
        blocks = {name: [block] for name, block in zip(self._names, self.blocks, strict=True)}
        return {"stem": (self.stem, self.norm), **blocks, "output": [self.output]}


def _norm(channels: int, groups: int | None) -> nn.Module:
    return nn.BatchNorm2d(channels) if groups is None else nn.GroupNorm(groups, channels)
