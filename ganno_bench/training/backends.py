"""Backends, which train and evaluate P networks, and those that do it operation by operation: `vmap` and `loop`.

`vmap` computes the gradients of all networks at once, `loop` of one after another. All else is shared, so the two
differ only in speed and rounding. `compiled.py` has the third backend, `choice.py` chooses among them.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from ganno_bench.core.errors import PluginError, one_line
from ganno_bench.training.buffers import Buffers, attach, store
from ganno_bench.training.layout import Layout
from ganno_bench.training.recording import Recorded, record
from ganno_bench.training.updates import EagerUpdates, Updates

if TYPE_CHECKING:
    from ganno_bench.training.chunk import Chunk

__all__ = ["Backend", "Gradients", "aligned", "cross_entropy", "missing_examples"]

Gradients = Callable[[Tensor, Tensor], Tensor]
"""(inputs (P, B, ...), targets (P, B, ...)) -> loss of each run, shape (P,). It writes to the bound gradients."""


class Backend(ABC):
    """Trains and evaluates P networks whose parameters are the rows of a matrix.

    Gradients are computed in a model's training mode, predictions in its evaluation mode.

    Attributes:
        n_scored: Predictions (examples or tokens) of each run in one call of `score`. It is fixed, because the size of
            a batch can change how a matrix library rounds. More would not fit the processor's cache.
        fixed_shapes: Whether the last batch of an evaluation is padded to the size of the others.
    """

    name: str
    n_scored = 512
    fixed_shapes = False

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        """Prepare.

        Args:
            model: A network of the architecture, on the device and in the dtype of the runs. The values of its
                parameters do not matter.
            layout: Maps a row of the matrix to parameters.
        """
        self.model = model
        self.layout = layout

    def padded(self, n_runs: int) -> int:
        """Return the number of rows that are computed for a number of runs."""
        return n_runs

    @abstractmethod
    def bind(self, parameters: Tensor, gradients: Tensor, buffers: Buffers) -> Gradients:
        """Return a function that reads `parameters`, shape (P, N), and overwrites `gradients`, shape (P, N).

        It also reads and updates `buffers`, the state buffers of the P networks.
        """

    @abstractmethod
    def updates(self, chunk: Chunk) -> Updates:
        """Return what makes the updates of a chunk with the workload's optimizer."""

    @abstractmethod
    def score(self, parameters: Tensor, buffers: Buffers, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of each prediction, nats, and whether it is wrong; every run predicts the same examples.

        Args:
            parameters: Shape (P, N).
            buffers: The state buffers of the P networks; they are not changed.
            inputs: Shape (B or more, ...); the last ones are padding.
            targets: Shape (B, ...).

        Returns:
            Two tensors of shape (P, predictions).
        """


class EagerBackend(Backend):
    """Computes operation by operation."""

    def updates(self, chunk: Chunk) -> Updates:
        return EagerUpdates(chunk)

    def score(self, parameters: Tensor, buffers: Buffers, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(parameters, buffers, inputs)[:, : len(targets)].flatten(1, -2)  # (P, predictions, outputs)
        wanted = targets.flatten().expand(logits.shape[0], -1)
        losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)
        return losses, logits.argmax(-1) != wanted

    @abstractmethod
    def logits(self, parameters: Tensor, buffers: Buffers, inputs: Tensor) -> Tensor:
        """Return the predictions of every run for the same inputs.

        Args:
            parameters: Shape (P, N).
            buffers: The state buffers of the P networks; they are not changed.
            inputs: Shape (B, ...).

        Returns:
            Shape (P, B, ..., outputs).
        """


class VmapBackend(EagerBackend):
    """All networks in one pass.

    The vectorised forward and backward pass is recorded once for each shape, then replayed. This avoids the cost of
    vectorising at each update, which is about half of the time for small networks.
    """

    name = "vmap"

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__(model, layout)
        self._recorded: dict[tuple[Any, ...], Recorded] = {}

    def padded(self, n_runs: int) -> int:
        # A population of one would use other kernels than a larger one. Grouped convolutions divide the runs among the
        # threads, so the number of rows is a multiple of the number of threads.
        multiple = max(2, torch.get_num_threads())
        return -(-n_runs // multiple) * multiple

    def bind(self, parameters: Tensor, gradients: Tensor, buffers: Buffers) -> Gradients:
        sources, sinks = self.layout.views(parameters), self.layout.views(gradients)

        def one_run(values: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            return cross_entropy(self._call(values, inputs)[: len(targets)], targets)

        def all_runs(*tensors: Tensor) -> list[Tensor]:
            grads, losses = vmap(grad_and_value(one_run))(tensors[:-2], *tensors[-2:])
            return [*grads, losses]

        def compute(inputs: Tensor, targets: Tensor) -> Tensor:
            tensors = [*sources, aligned(inputs, targets), targets.contiguous()]
            *grads, losses = self._replay("gradients", all_runs, tensors)
            torch._foreach_copy_(sinks, grads)
            return losses

        return compute

    def logits(self, parameters: Tensor, buffers: Buffers, inputs: Tensor) -> Tensor:
        # Not `in_dims=None` for the inputs: it would merge the first layers of all networks into one product, whose
        # rounding depends on the number of networks.
        stacked = inputs.expand(parameters.shape[0], *inputs.shape)
        tensors = [*self.layout.views(parameters), stacked]
        (logits,) = self._replay("logits", lambda *all_: [vmap(self._call)(all_[:-1], all_[-1])], tensors)
        return logits

    def _call(self, values: Sequence[Tensor], inputs: Tensor) -> Tensor:
        output: Tensor = functional_call(self.model, dict(zip(self.layout.names, values, strict=True)), (inputs,))
        return output

    def _replay(
        self, kind: str, function: Callable[..., Sequence[Tensor]], tensors: Sequence[Tensor]
    ) -> tuple[Tensor, ...]:
        key = (kind, len(tensors[0]), *((data.shape, data.stride()) for data in tensors[len(self.layout.names) :]))
        if key not in self._recorded:
            self.model.train(kind == "gradients")
            try:
                self._recorded[key] = record(function, tensors)
            except Exception as error:  # a model may raise any error
                raise PluginError(
                    f"model {type(self.model).__name__} cannot be vectorised, use backend 'loop': {one_line(error)}"
                ) from error
        return self._recorded[key](*tensors)


class LoopBackend(EagerBackend):
    """One network after another, each a module whose parameters and buffers are views of its row."""

    name = "loop"

    def bind(self, parameters: Tensor, gradients: Tensor, buffers: Buffers) -> Gradients:
        networks = []
        remembered = self._buffer_rows(buffers, parameters.shape[0])
        for values, grads, own in zip(self._rows(parameters), self._rows(gradients), remembered, strict=True):
            network = copy.deepcopy(self.model).train()
            attach(network, own)
            named = dict(network.named_parameters())
            for name, value, grad in zip(self.layout.names, values, grads, strict=True):
                named[name].data, named[name].grad = value, grad
            networks.append(network)

        def compute(inputs: Tensor, targets: Tensor) -> Tensor:
            gradients.zero_()  # because the backward pass adds to it in place
            losses = []
            with torch.enable_grad():
                for network, own, batch, target in zip(networks, remembered, inputs, targets, strict=True):
                    loss = cross_entropy(network(batch), target)
                    loss.backward()  # type: ignore[no-untyped-call]
                    losses.append(loss.detach())
                    store(network, own)
            return torch.stack(losses)

        return compute

    def logits(self, parameters: Tensor, buffers: Buffers, inputs: Tensor) -> Tensor:
        self.model.eval()
        logits = []
        for values, own in zip(self._rows(parameters), self._buffer_rows(buffers, parameters.shape[0]), strict=True):
            # Copies, because a module may change its buffers in any mode, for example count its calls.
            state = dict(zip(self.layout.names, values, strict=True)) | {name: row.clone() for name, row in own.items()}
            logits.append(functional_call(self.model, state, (inputs,)))
        return torch.stack(logits)

    def _rows(self, matrix: Tensor) -> list[list[Tensor]]:
        views = self.layout.views(matrix)
        return [[view[run] for view in views] for run in range(matrix.shape[0])]

    @staticmethod
    def _buffer_rows(buffers: Buffers, n_runs: int) -> list[dict[str, Tensor]]:
        return [{name: rows[run] for name, rows in buffers.items()} for run in range(n_runs)]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy, nats, of logits (B, ..., outputs) and targets (B, ...).

    `torch.nn.functional.cross_entropy` gives the same, but needs a dozen more operations to handle ignored targets.
    """
    return -F.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).mean()


def aligned(inputs: Tensor, targets: Tensor) -> Tensor:
    """Pad the inputs (P, B, ...), so that the activations of every run have the same alignment in memory.

    The kernels of a matrix library may depend on the alignment. Then the last bits of a run would depend on its place
    in the population, unless the size of every matrix is a multiple of a cache line: 16 numbers in float32. Predictions
    for added examples are discarded. Batches of a multiple of 16 examples (tokens) are not padded.
    """
    missing = missing_examples(targets[0].shape)
    if not missing:
        return inputs.contiguous()
    return torch.cat([inputs, inputs[:, :1].expand(-1, missing, *inputs.shape[2:])], dim=1)


def missing_examples(shape: torch.Size) -> int:
    """Return how many examples to add for a multiple of 16 predictions, given the shape of a batch's targets."""
    multiple = 16 // math.gcd(16, math.prod(shape[1:]))
    return -shape[0] % multiple
