"""LSTMs by depth, for language modelling and, by the mean state, for classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["LSTM"]


class LSTMLayer(nn.Module):
    """The computation of `torch.nn.LSTM` with one layer and one bias, written in basic operations.

    The library's kernels are faster for one network after another on a CPU. But they cannot be vectorised over many
    networks and compute differently on each device, so the two backends would train different networks.

    The batch is the last dimension, so that each gate of a network is one block of memory. The gates of a position are
    one matrix product of its input and the previous state. A separate product for the inputs of all positions was not
    faster.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * width, 2 * width))  # input, forget, output gate, candidate
        self.bias = nn.Parameter(torch.zeros(4 * width, 1))
        nn.init.normal_(self.weight, std=width**-0.5)
        with torch.no_grad():
            self.bias[width : 2 * width] = 1.0

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the hidden state after each position, shape (width, batch), the same shape as the inputs."""
        width = inputs[0].shape[0]
        hidden = cell = torch.zeros_like(inputs[0])
        states = []
        for position in inputs:
            sums = self.weight @ torch.cat([position, hidden]) + self.bias
            gates, candidate = torch.split_with_sizes(sums, (3 * width, width))
            take, keep, show = torch.sigmoid(gates).chunk(3)
            cell = keep * cell + take * torch.tanh(candidate)
            hidden = show * torch.tanh(cell)
            states.append(hidden)
        return states


class LSTM(nn.Module):
    """Stacked LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000) without normalisation.

    For language modelling it predicts the next token at each position. For classification it averages the states of the
    last layer over the tokens that are not padding (id 0, at the end of a text).

    Weights are drawn from N(0, 1 / fan_in) (LeCun et al. 1998), with a fan-in of `width` for inputs and recurrence;
    embeddings from N(0, 1 / width), as in the transformer. Biases start at 0, except 1 for the forget gates, so that
    the state is kept at first and gradients reach far back (Jozefowicz et al. 2015).

    Layers: the embeddings, each layer of the stack, and the output layer.
    """

    def __init__(self, shape: TaskShape, *, depth: int, width: int = 32) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; token sequences.
            depth: Number of layers in the stack, at least 1.
            width: Size of the embeddings and of the state of each layer.
        """
        super().__init__()
        require_inputs("lstm", shape, "tokens")
        assert shape.vocab_size is not None
        self.tokens = nn.Embedding(shape.vocab_size, width)
        self.stack = nn.ModuleList(LSTMLayer(width) for _ in range(depth))
        self.output = nn.Linear(width, shape.n_outputs)
        self._next_token = shape.next_token
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        nn.init.normal_(self.output.weight, std=width**-0.5)
        nn.init.zeros_(self.output.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits for token ids, shape (batch, positions).

        Returns:
            Shape (batch, positions, vocabulary) for language modelling, (batch, classes) for classification.
        """
        states: Sequence[Tensor] = self.tokens(inputs.t()).transpose(1, 2).unbind(0)
        for layer in self.stack:
            states = layer(states)
        hidden = torch.stack(list(states))  # (positions, width, batch)
        if self._next_token:
            hidden = hidden.permute(2, 0, 1)
        else:
            present = (inputs != 0).t()
            hidden = ((hidden * present.unsqueeze(1)).sum(0) / present.sum(0).clamp(min=1)).t()
        logits: Tensor = self.output(hidden)
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module]]:
        """Return the layers: name -> modules."""
        stack = {f"lstm{index}": [layer] for index, layer in enumerate(self.stack)}
        return {"embedding": [self.tokens], **stack, "output": [self.output]}
