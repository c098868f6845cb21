"""Transformers by depth: decoders for language modelling, encoders for classification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError
from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["Transformer"]


class Block(nn.Module):
    """Pre-LN transformer block: x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        # No bias: a bias of the keys does not change the attention, and adaptive optimizers amplify its rounding noise.
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.projection = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Return the block's output, shape (batch, positions, width); `mask` is added to the attention's logits."""
        batch, positions, width = inputs.shape
        split = self.query_key_value(self.attention_norm(inputs)).view(batch, positions, 3, self.heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        # In basic operations: fused kernels differ between devices and batch sizes, and the sequences are short.
        weights = torch.softmax(query @ key.transpose(-2, -1) * (width // self.heads) ** -0.5 + mask, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, positions, width)
        hidden = inputs + self.projection(mixed)
        output: Tensor = hidden + self.contract(F.gelu(self.expand(self.feed_forward_norm(hidden))))
        return output


class Transformer(nn.Module):
    """Pre-LN transformer with learned positions.

    For language modelling it is a causal decoder that predicts the next token at each position. For classification it
    is an encoder whose outputs are averaged over the tokens that are not padding (id 0).

    Weights are drawn from N(0, 1 / fan_in), embeddings from N(0, 1 / width). Residual projections are smaller by
    sqrt(2 depth), so that the sum over all blocks keeps its scale, as in GPT-2 (Radford et al. 2019; its fixed 0.02
    suits wider networks). Biases start at 0.

    Layers: the embeddings, each block, and the output layer with its normalisation.
    """

    def __init__(self, shape: TaskShape, *, depth: int, width: int = 32, heads: int = 2) -> None:
        """Build the network.

        Args:
            shape: Shapes of inputs and outputs; token sequences.
            depth: Number of blocks, at least 1.
            width: Size of the embeddings; a multiple of `heads`.
            heads: Number of attention heads.
        """
        super().__init__()
        require_inputs("transformer", shape, "tokens")
        if width % heads:
            raise ConfigError(
                f"model family 'transformer': width must be a multiple of heads, {heads} (value: {width})"
            )
        assert shape.vocab_size is not None
        (length,) = shape.input_shape
        self.tokens = nn.Embedding(shape.vocab_size, width)
        self.positions = nn.Parameter(torch.empty(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, shape.n_outputs)
        self._causal = shape.next_token
        causal = torch.full((length, length), -math.inf).triu(1) if shape.next_token else torch.zeros(1, 1)
        self.register_buffer("mask", causal, persistent=False)
        nn.init.normal_(self.positions, std=width**-0.5)
        nn.init.normal_(self.tokens.weight, std=width**-0.5)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                residual = name.endswith(("projection", "contract"))
                nn.init.normal_(module.weight, std=(module.in_features * (2 * depth if residual else 1)) ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits for token ids, shape (batch, positions).

        Returns:
            Shape (batch, positions, vocabulary) for language modelling, (batch, classes) for classification.
        """
        mask: Tensor = self.get_buffer("mask")
        if not self._causal:
            present = (inputs != 0).unsqueeze(-1)
            # A large finite number, so that a text of padding only gives no NaN.
            mask = torch.where(present.transpose(1, 2).unsqueeze(1), 0.0, -1e4).to(self.positions.dtype)
        hidden = self.tokens(inputs) + self.positions
        for block in self.blocks:
            hidden = block(hidden, mask)
        hidden = self.norm(hidden)
        if not self._causal:
            hidden = (hidden * present).sum(1) / present.sum(1).clamp(min=1)
        logits: Tensor = self.output(hidden)
        return logits

    def layers(self) -> Mapping[str, Sequence[nn.Module | nn.Parameter]]:
        """Return the layers: name -> modules and parameters."""
        blocks = {f"block{index}": [block] for index, block in enumerate(self.blocks)}
        return {"embedding": (self.tokens, self.positions), **blocks, "output": (self.norm, self.output)}
