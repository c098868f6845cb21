"""LSTMs by depth: language modelling at each position, classification by the mean state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["LSTM"]


class LSTMLayer(nn.Module):
    """What `torch.nn.LSTM` computes with one layer and one bias, written out.

    The library's kernels, though faster for one network after another on a CPU, cannot be vectorised over many, and
    compute otherwise on each device: with them there would not be two backends that train the same network.

    The batch stands last, so that each gate of a network is one block of memory. The gates of a position are one matrix
    product of its input and the state before it: a product apart, for all positions' inputs at once, was no faster.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(4 * width, 2 * width))  # input, forget, output gate, candidate
        self.bias = nn.Parameter(torch.zeros(4 * width, 1))
        nn.init.normal_(self.weight, std=width**-0.5)
        with torch.no_grad():
            self.bias[width : 2 * width] = 1.0

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Return the hidden state after each position, shape (width, batch), as the inputs have."""
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

    For language modelling it predicts the next token at each position; for classification the last layer's states are
    averaged over the tokens that are no padding (id 0, at the end of a text).

    Weights are drawn from N(0, 1 / fan_in) (LeCun et al. 1998), those of inputs and recurrence alike with a fan-in of
    `width`; embeddings from N(0, 1 / width), as the transformer's. Biases start at 0, those of the forget gates at 1,
    so that the state is kept at first and gradients reach far back (Jozefowicz et al. 2015).

    Layers: the embeddings, one for each layer of the stack, and the output layer.
    """

    def __init__(self, shape: TaskShape, *, depth: int, width: int = 32) -> None:
        """Build the network.

        Args:
            shape: What goes in and out; token sequences.
            depth: Layers of the stack, at least 1.
            width: Size of the embeddings and of each layer's state.
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
        """Return what gets a learning rate of its own."""
        stack = {f"lstm{index}": [layer] for index, layer in enumerate(self.stack)}
        return {"embedding": [self.tokens], **stack, "output": [self.output]}
