"""Multilayer perceptrons and convolutional networks by depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.data import TaskShape

__all__ = ["CNN", "MLP", "SMALL_IMAGE"]

SMALL_IMAGE = 12
"""Largest side of images, in pixels, that are convolved by a matrix product; larger ones use PyTorch's convolution."""


class MLP(nn.Module):
    """Fully connected network with ReLU and no normalisation, sensitive to the learning rate.

    Weights are drawn from N(0, gain^2 / fan_in), biases start at 0. With gain 1 (LeCun et al. 1998) a signal shrinks by
    sqrt(2) in each layer, so deeper networks are harder to train. Gain sqrt(2) (He et al. 2015) keeps the signal.

    Layers: each hidden layer, and the output layer.
    """

    def __init__(self, shape: TaskShape, *, depth: int, width: int = 64, gain: float = 1.0) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; images of any size.
            depth: Number of hidden layers, at least 1.
            width: Number of units in each hidden layer.
            gain: Scale of the initial weights.
        """
        super().__init__()
        require_inputs("mlp", shape, "image")
        sizes = [math.prod(shape.input_shape)] + [width] * depth
        self.hidden = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        self.output = nn.Linear(width, shape.n_outputs)
        for linear in [*self.hidden, self.output]:
            nn.init.normal_(linear.weight, std=gain / math.sqrt(linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, shape (batch, classes), for images, shape (batch, channels, height, width)."""
        hidden = inputs.flatten(1)
        for linear in self.hidden:
            hidden = torch.relu(linear(hidden))
        logits: Tensor = self.output(hidden)
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the layers: name -> modules."""
        return {f"hidden{index}": [linear] for index, linear in enumerate(self.hidden)} | {"output": [self.output]}


class MatrixConv2d(nn.Conv2d):
    """3x3 convolution with padding 1, written as one matrix product.

    For small images it is faster than PyTorch's convolution. For many networks at once it remains a matrix product. A
    grouped convolution would be slow, and its rounding would depend on the number of groups.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return shape (batch, out_channels, height, width) for shape (batch, in_channels, height, width)."""
        batch, channels, height, width = inputs.shape
        padded = F.pad(inputs.transpose(0, 1), (1, 1, 1, 1))
        shifted = [padded[..., y : y + height, x : x + width] for y in range(3) for x in range(3)]
        columns = torch.stack(shifted, dim=1).reshape(channels * 9, batch * height * width)
        weight = self.weight.flatten(1)
        if self.bias is not None:
            # Inside the product: otherwise the rounding of the bias's gradient depends on the number of networks.
            weight = torch.cat([weight, self.bias.unsqueeze(1)], dim=1)
            columns = torch.cat([columns, torch.ones_like(columns[:1])])
        output = weight @ columns
        return output.view(-1, batch, height, width).transpose(0, 1)


class CNN(nn.Module):
    """Stack of 3x3 convolutions with ReLU, two halvings of the resolution, then global average pooling.

    GroupNorm is optional, because the effect of a schedule depends on normalisation. There is no BatchNorm, because
    with it training depends on more than parameters.

    Layers: each convolution with its normalisation, and the output layer.
    """

    def __init__(
        self, shape: TaskShape, *, depth: int, width: int = 16, group_norm: bool = True, groups: int = 4
    ) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; images of at least 4x4.
            depth: Number of convolutions, at least 1.
            width: Channels of the first convolutions; doubled at each halving of the resolution.
            group_norm: Whether GroupNorm follows each convolution.
            groups: Groups of GroupNorm; a divisor of `width`.
        """
        super().__init__()
        require_inputs("cnn", shape, "image")
        if group_norm and width % groups:
            raise ConfigError(f"model family 'cnn': width must be a multiple of groups, {groups} (value: {width})")
        halve_after = {(depth + 2) // 3 - 1, (2 * depth + 2) // 3 - 1} - {depth - 1}
        convolutions: list[nn.Module] = []
        norms, pools = [], []
        channels, out = shape.input_shape[0], width
        for index in range(depth):
            # No bias before a normalisation, which would remove it.
            if max(shape.input_shape[1:]) <= SMALL_IMAGE:
                convolutions.append(MatrixConv2d(channels, out, bias=not group_norm))
            else:
                convolutions.append(nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=not group_norm))
            norms.append(nn.GroupNorm(groups, out) if group_norm else nn.Identity())
            pools.append(index in halve_after)
            channels, out = out, out * 2 if index in halve_after else out
        self.convolutions = nn.ModuleList(convolutions)
        self.norms = nn.ModuleList(norms)
        self.output = nn.Linear(channels, shape.n_outputs)
        self._pools = tuple(pools)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, shape (batch, classes), for images, shape (batch, channels, height, width)."""
        hidden = inputs
        for convolution, norm, pool in zip(self.convolutions, self.norms, self._pools, strict=True):
            hidden = torch.relu(norm(convolution(hidden)))
            if pool:
                hidden = F.avg_pool2d(hidden, 2)
        logits: Tensor = self.output(hidden.mean((-2, -1)))
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the layers: name -> modules."""
        blocks = zip(self.convolutions, self.norms, strict=True)
        return {f"conv{index}": block for index, block in enumerate(blocks)} | {"output": [self.output]}


def require_inputs(family: str, shape: TaskShape, inputs: str) -> None:
    """Raise a `ConfigError` unless the inputs are of the kind that a model family takes."""
    if shape.inputs != inputs:
        raise ConfigError(f"model family {family!r} takes {inputs} inputs, the dataset has {shape.inputs} inputs")
