"""Datasets as tensors: the shapes that models need, the order of examples in training, and evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

__all__ = ["Dataset", "Examples", "Split", "TaskShape", "TokenStream"]


@dataclass(frozen=True)
class TaskShape:
    """Shapes of a model's inputs and outputs.

    Attributes:
        inputs: `image`: floating point, standardised per channel. `tokens`: integer ids. `graph`: for each node, its
            row of the normalised adjacency matrix, then its features; the model classifies the first node.
        input_shape: Shape of one example: (channels, height, width), (sequence_length,) or (nodes, nodes + features).
        vocab_size: Number of token ids, including padding and unknown tokens; None for images and graphs.
        n_outputs: Number of classes, or for language modelling the size of the vocabulary.
        next_token: Whether the task is language modelling, with one output of shape (n_outputs,) for each position.
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
        """Number of examples; their indices are in [0, n_examples)."""

    @property
    def n_predictions(self) -> int:
        """Number of predictions for each example."""
        return 1

    @abstractmethod
    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return examples, on the device of the data.

        Args:
            index: Indices of the examples, int64, any shape (...), on any device.

        Returns:
            Inputs, shape (..., *input_shape), and int64 targets, shape (...), or (..., sequence_length) for language
            modelling.
        """

    @abstractmethod
    def order(self, generator: torch.Generator, n_updates: int, batch_size: int) -> Tensor:
        """Return the examples that each update of a run uses.

        Args:
            generator: Random generator; on the CPU, so that the order does not depend on the device.
            n_updates: Length of the run.
            batch_size: Examples per update.

        Returns:
            Indices, int64, shape (n_updates, batch_size), on the CPU.
        """

    @abstractmethod
    def windows(self) -> Tensor:
        """Return the indices of the examples of an evaluation, each once: int64, shape (n,), on the CPU."""

    @abstractmethod
    def head(self, n_predictions: int) -> Self:
        """Return the first examples, with about `n_predictions` predictions; at least one example."""

    @abstractmethod
    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:
        """Return the split on another device, with floating-point inputs cast to `dtype`; integers stay integers."""


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
        """Return shuffled epochs, without replacement, one after the other.

        An update may straddle two epochs. No example is dropped, so the numbers of uses differ by at most one.
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
    """A text as one sequence of tokens. Example i is the tokens from i on; its targets are the tokens from i + 1 on.

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
        """Return the offsets 0, T, 2T, ... of examples without overlap; an incomplete last example is left out."""
        return torch.arange(0, self.n_examples, self.sequence_length)

    def head(self, n_predictions: int) -> Self:  # noqa: D102
        n_examples = max(1, n_predictions // self.sequence_length)
        return replace(self, tokens=self.tokens[: n_examples * self.sequence_length + 1])

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Self:  # noqa: D102
        return replace(self, tokens=self.tokens.to(device))


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Return `table[index]` in less than half the time, because whole rows are copied instead of single elements."""
    return table.index_select(0, index.flatten()).view(*index.shape, *table.shape[1:])


@dataclass(frozen=True, eq=False)
class Dataset:
    """An encoded dataset with its splits.

    Attributes:
        name: Name in the suite.
        task: `image-classification`, `node-classification`, `text-classification` or `language-modelling`.
        fingerprint: Hash of the decoded content that training and evaluation use; 64 hexadecimal digits.
        shape: Shapes for which models are built.
        train: Training split, for updates.
        validation: Validation split, for schedulers and tuning.
        test: Test split, for the harness only, after the last update.
        chance_loss: Loss of a network that has learned nothing, nats: ln(classes), or for language modelling the
            entropy of single training tokens.
        black: For images, the encoded value of a black pixel in each channel, in float32; None if it is not known.
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
