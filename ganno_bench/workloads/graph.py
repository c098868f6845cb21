"""Graph convolutional networks by depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["GCN"]


class GCN(nn.Module):
    """Graph convolutional network (Kipf and Welling 2017) that classifies the first node of a small graph.

    Each convolution averages over the neighbours of each node by the normalised adjacency matrix, then applies a fully
    connected layer with ReLU. The output layer reads the first node. There is no normalisation, and each average makes
    the nodes more similar, so deeper networks are harder to train. Residual connections reduce this. (The
    first convolution has none, because it changes the width.)

    Weights are drawn from N(0, gain^2 / fan_in), biases start at 0.

    Layers: one for each convolution, and the output layer.
    """

    def __init__(
        self, shape: TaskShape, *, depth: int, width: int = 32, residual: bool = False, gain: float = 1.0
    ) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; graphs of any size.
            depth: Number of convolutions, at least 1.
            width: Features of each node after each convolution.
            residual: Whether a convolution's output is added to its input.
            gain: Scale of the initial weights.
        """
        super().__init__()
        require_inputs("gcn", shape, "graph")
        self._n_nodes, row = shape.input_shape
        sizes = [row - self._n_nodes] + [width] * depth
        self.convolutions = nn.ModuleList(nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes))
        self.output = nn.Linear(width, shape.n_outputs)
        self._residual = residual
        for linear in [*self.convolutions, self.output]:
            nn.init.normal_(linear.weight, std=gain / math.sqrt(linear.in_features))
            nn.init.zeros_(linear.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, shape (batch, classes), for graphs, shape (batch, nodes, nodes + features)."""
        adjacency, hidden = inputs[..., : self._n_nodes], inputs[..., self._n_nodes :]
        for index, linear in enumerate(self.convolutions):
            convolved = torch.relu(linear(adjacency @ hidden))
            hidden = hidden + convolved if self._residual and index else convolved
        logits: Tensor = self.output(hidden[:, 0])
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the layers: name -> modules."""
        convolutions = {f"conv{index}": [linear] for index, linear in enumerate(self.convolutions)}
        return convolutions | {"output": [self.output]}
