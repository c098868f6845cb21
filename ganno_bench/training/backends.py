"""How the gradients of P networks are computed: all at once (`vmap`), or one network after another (`loop`).

Everything else about training is shared, so the two differ in speed and in rounding only.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError, PluginError, did_you_mean, one_line
from ganno_bench.training.buffers import Buffers, attach, batch_dependent, store
from ganno_bench.training.layout import Layout
from ganno_bench.training.recording import Recorded, record

__all__ = ["BACKENDS", "Backend", "Gradients", "make_backend", "missing_examples", "resolve_backend"]

Gradients = Callable[[Tensor, Tensor], Tensor]
"""(inputs (P, B, ...), targets (P, B, ...)) -> loss of each run, shape (P,). Writes gradients where it was bound to."""


class Backend(ABC):
    """Computes gradients and predictions of P networks whose parameters are the rows of a matrix.

    Gradients are computed in a model's training mode, predictions in its evaluation mode.
    """

    name: str

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        """Prepare.

        Args:
            model: A network of the architecture, on the device and in the dtype of the runs; its parameters' values
                do not matter.
            layout: How a row of the matrix is read.
        """
        self.model = model
        self.layout = layout

    def padded(self, n_runs: int) -> int:
        """Return how many rows are computed for so many runs."""
        return n_runs

    @abstractmethod
    def bind(self, parameters: Tensor, gradients: Tensor, buffers: Buffers) -> Gradients:
        """Return a function that reads `parameters`, shape (P, N), and overwrites `gradients`, shape (P, N).

        It also reads and updates `buffers`, the state buffers of the P networks.
        """

    @abstractmethod
    def logits(self, parameters: Tensor, buffers: Buffers, inputs: Tensor) -> Tensor:
        """Return the predictions of every run for the same inputs.

        Args:
            parameters: Shape (P, N).
            buffers: The state buffers of the P networks; they stay as they are.
            inputs: Shape (B, ...).

        Returns:
            Shape (P, B, ..., outputs).
        """


class VmapBackend(Backend):
    """All networks in one pass.

    The vectorised forward and backward pass is recorded once for each shape and replayed after that, which spares the
    cost of vectorising it anew at each update: for small networks about half of the time.
    """

    name = "vmap"

    def __init__(self, model: nn.Module, layout: Layout) -> None:
        super().__init__(model, layout)
        self._recorded: dict[tuple[Any, ...], Recorded] = {}

    def padded(self, n_runs: int) -> int:
        # A population of one would take other kernels than a larger one. The multiple of the threads is for grouped
        # convolutions, which divide the runs among them.
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
            tensors = [*sources, _aligned(inputs, targets), targets.contiguous()]
            *grads, losses = self._replay("gradients", all_runs, tensors)
            torch._foreach_copy_(sinks, grads)
            return losses

        return compute

    def logits(self, parameters: Tensor, buffers: Buffers, inputs: Tensor) -> Tensor:
        # Not `in_dims=None` for the inputs: the networks' first layers would be folded into one product, whose
        # rounding depends on how many there are.
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
            except Exception as error:  # a model may do anything
                raise PluginError(
                    f"model {type(self.model).__name__} cannot be vectorised, backend 'loop' may do: {one_line(error)}"
                ) from error
        return self._recorded[key](*tensors)


class LoopBackend(Backend):
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
            gradients.zero_()  # the backward pass adds to it, in place
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
            # Copies, since a module may count its calls, whatever its mode.
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

    `torch.nn.functional.cross_entropy` is the same, but looks for targets to ignore: a dozen operations more.
    """
    return -F.log_softmax(logits, -1).gather(-1, targets.unsqueeze(-1)).mean()


def _aligned(inputs: Tensor, targets: Tensor) -> Tensor:
    """Pad the inputs (P, B, ...) so that the activations of every run begin at the same alignment in memory.

    A matrix library's kernels may depend on the alignment, and so a run's last bits on its place in the population,
    unless the size of every matrix is a multiple of a cache line: 16 numbers in float32. The predictions for what is
    added are thrown away. Batches of a multiple of 16 examples (tokens) stay as they are.
    """
    missing = missing_examples(targets[0].shape)
    if not missing:
        return inputs.contiguous()
    return torch.cat([inputs, inputs[:, :1].expand(-1, missing, *inputs.shape[2:])], dim=1)


def missing_examples(shape: torch.Size) -> int:
    """Return how many examples a batch lacks, whose targets have this shape, for a multiple of 16 predictions."""
    multiple = 16 // math.gcd(16, math.prod(shape[1:]))
    return -shape[0] % multiple


BACKENDS: dict[str, type[Backend]] = {"vmap": VmapBackend, "loop": LoopBackend}


def make_backend(name: str, model: nn.Module, layout: Layout) -> Backend:
    """Return a backend by its name.

    Raises:
        ConfigError: There is none of that name, or it cannot keep its promise for such a network.
    """
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}{did_you_mean(name, [*BACKENDS, 'auto'])}")
    if name == "vmap" and (odd := _misaligned(model)):
        raise ConfigError(
            f"backend 'vmap' needs weight matrices of a multiple of 4 elements, {odd[0]!r} has another number; "
            "use 'loop' or 'auto'"
        )
    if name == "vmap" and (dependent := batch_dependent(model)):
        raise ConfigError(
            f"backend 'vmap' takes no network that keeps running statistics, or mixes examples, as {dependent[0]!r} "
            f"of {type(model).__name__} does; use 'loop' or 'auto'"
        )
    return BACKENDS[name](model, layout)


def _misaligned(model: nn.Module) -> list[str]:
    """Return the weights whose gradients, side by side, begin at different alignments in memory; see `_aligned`."""
    return [name for name, weight in model.named_parameters() if weight.dim() > 1 and weight.numel() % 4]


def resolve_backend(name: str, model: nn.Module, device: torch.device) -> str:
    """Return the backend that `auto` stands for, or `name` if it is another.

    The rule (measurements in `benchmarks/README.md`): on a CPU, networks with a library's convolutions go one after
    another, because a grouped convolution is slower there than separate ones; and so do networks of odd sizes, for
    which a vectorised run would depend on its place among the others, and those with BatchNorm or other buffers that
    training changes, on any device. All else is vectorised.
    """
    if name != "auto":
        return name
    convolutions = {nn.Conv1d, nn.Conv2d, nn.Conv3d}  # these very classes, not what is derived from them
    grouped = any(type(module) in convolutions for module in model.modules())
    alone = (device.type == "cpu" and grouped) or _misaligned(model) or batch_dependent(model)
    return "loop" if alone else "vmap"
