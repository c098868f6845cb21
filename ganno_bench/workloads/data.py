"""Data as tensors: what a model is built for, which examples an update sees, what an evaluation covers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

__all__ = ["Dataset", "Examples", "Split", "TaskShape", "TokenStream"]


@dataclass(frozen=True)
class TaskShape:
    """What goes into a model and comes out of it.

    Attributes:
        inputs: `image`: floating point, standardised per channel. `tokens`: integer ids. `graph`: for each node its row
            of the normalised adjacency matrix, then its features; the first node is the one that is classified.
        input_shape: Shape of one example: (channels, height, width), (sequence_length,) or (nodes, nodes + features).
        vocab_size: Number of token ids, those for padding and unknown tokens included; None for images and graphs.
        n_outputs: Number of classes, or the vocabulary's size for language modelling.
        next_token: Whether the task is language modelling: one output, of shape (n_outputs,), for each position.
    """

    inputs: Literal["image", "tokens", "graph"]
    input_shape: tuple[int, ...]
    vocab_size: int | None
    n_outputs: int
    next_token: bool


class Split(ABC):
    """The examples of one split, held as tensors on one device."""

    @property
    @abstractmethod
    def n_examples(self) -> int:
        """Number of examples; an example's index is in [0, n_examples)."""

    @property
    def n_predictions(self) -> int:
        """Number of predictions for each example."""
        return 1

    @abstractmethod
    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return examples, on the device of the data.

        Args:
            index: Which ones, int64, any shape (...), on any device.

        Returns:
            Inputs, shape (..., *input_shape), and int64 targets, shape (...), or (..., sequence_length) for language
            modelling.
        """

    @abstractmethod
    def order(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Return the examples that each update of a run uses.

        Args:
            generator: Decides the order; on the CPU, so that the order does not depend on the device.
            n_updates: Length of the run.
            batch_size: Examples per update.

        Returns:
            Indices, int64, shape (n_updates, batch_size), on the CPU.
        """

    @abstractmethod
    def windows(self) -> Tensor:
        """Return the indices of the examples that an evaluation covers, each once: int64, shape (n,), on the CPU."""

    @abstractmethod
    def head(self, n_predictions: int) -> Self:
        """Return the first examples, as many as have about `n_predictions` predictions, and at least one."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the split on another device; floating-point inputs are cast to `dtype`, integers stay integers."""


@dataclass(frozen=True, eq=False)
class Examples(Split):
    """Separate labelled examples.

    Attributes:
        inputs: Shape (n_examples, *input_shape).
        targets: Class indices, int64, shape (n_examples,).
    """

    inputs: Tensor
    targets: Tensor

    @property
    def n_examples(self) -> int:  # noqa: D102
        return len(self.targets)

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        index = index.to(self.targets.device)
        return _rows(self.inputs, index), _rows(self.targets, index)

    def order(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Return epochs, each shuffled without replacement, one after the other.

        An update may straddle two epochs: nothing is dropped, so no two examples' uses differ by more than one.
        """
        n_used = n_updates * batch_size
        n_epochs = -(-n_used // self.n_examples)
        epochs = [torch.randperm(self.n_examples, generator=generator) for _ in range(n_epochs)]
        return torch.cat(epochs)[:n_used].view(n_updates, batch_size)

    def windows(self) -> Tensor:
        """Return all indices."""
        return torch.arange(self.n_examples)

    def head(self, n_predictions: int) -> Self:  # noqa: D102
        return replace(self, inputs=self.inputs[:n_predictions], targets=self.targets[:n_predictions])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:  # noqa: D102
        inputs = self.inputs.to(device, dtype if self.inputs.is_floating_point() else None)
        return replace(self, inputs=inputs, targets=self.targets.to(device))


@dataclass(frozen=True, eq=False)
class TokenStream(Split):
    """A text as one run of tokens; example i is the tokens from i on, and its targets are those one further on.

    Attributes:
        tokens: Ids, int64, shape (n_tokens,), with n_tokens > sequence_length.
        sequence_length: Tokens per example.
    """

    tokens: Tensor
    sequence_length: int

    @property
    def n_examples(self) -> int:
        """Number of offsets at which an example and its last target fit: n_tokens - sequence_length."""
        return len(self.tokens) - self.sequence_length

    @property
    def n_predictions(self) -> int:  # noqa: D102
        return self.sequence_length

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:  # noqa: D102
        offsets = torch.arange(self.sequence_length + 1, device=self.tokens.device)
        chunk = self.tokens[index.to(self.tokens.device).unsqueeze(-1) + offsets]
        return chunk[..., :-1], chunk[..., 1:]

    def order(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Return random offsets, drawn with replacement."""
        return torch.randint(self.n_examples, (n_updates, batch_size), generator=generator)

    def windows(self) -> Tensor:
        """Return the offsets 0, T, 2T, ... of examples that don't overlap; an incomplete last one is left out."""
        return torch.arange(0, self.n_examples, self.sequence_length)

    def head(self, n_predictions: int) -> Self:  # noqa: D102
        n_examples = max(1, n_predictions // self.sequence_length)
        return replace(self, tokens=self.tokens[: n_examples * self.sequence_length + 1])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:  # noqa: D102
        return replace(self, tokens=self.tokens.to(device))


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Return `table[index]`, in less than half the time: whole rows are copied rather than single elements."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset, cut into its splits and encoded.

    Attributes:
        name: What the suite calls it.
        task: `image-classification`, `node-classification`, `text-classification` or `language-modelling`.
        fingerprint: Hash of the content that training and evaluation use; 64 hexadecimal digits.
        shape: What a model is built for.
        train: What updates are computed on.
        validation: What schedulers and tuning may see.
        test: What only the harness sees, after the last update.
        chance_loss: Loss of a predictor that knows nothing but the classes, or how frequent each token is, in nats:
            ln(classes), or the unigram entropy of the training tokens.
        black: For images, what a black pixel has become in each channel, in float32; None where that is not known.
    """

    name: str
    task: str
    fingerprint: str
    shape: TaskShape
    train: Split
    validation: Split
    test: Split
    chance_loss: float
    black: tuple[float, ...] | None = None
