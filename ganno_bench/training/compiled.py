"""The backend `compiled`: whole updates of a few runs, and their evaluation, as machine code.

A call of compiled code computes a fixed number of runs, whatever the size of the population; the last group is padded.
So the bits of a run depend neither on the number of runs nor on the others. Parameters and optimizer state are changed
in place. They stay rows of the engine's matrices: the compiled code gets a view of each parameter. To Inductor these
views are separate tensors with gaps between their rows, which costs no time. (If it knew that they share memory, it
would copy the whole matrix at each update.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from ganno_bench.training.backends import Backend, Gradients, aligned, cross_entropy
from ganno_bench.training.buffers import Buffers
from ganno_bench.training.group_signals import GROUP_SIGNALS, GroupSignals
from ganno_bench.training.layout import Layout
from ganno_bench.training.optimizers import make_optimizer
from ganno_bench.training.packages import MakePackage, Package, package
from ganno_bench.training.updates import Updates

if TYPE_CHECKING:
    from ganno_bench.training.chunk import Chunk

__all__ = ["EVALUATED", "CompiledBackend"]

EVALUATED = 256
"""Predictions (examples or tokens) of each run in one call that evaluates."""


class CompiledBackend(Backend):
    """Groups of `together` runs, each group in one call of compiled code.

    Attributes:
        together: Runs in one call. With 1, the network is compiled as it is; otherwise it is vectorised.
        compiling: Whether to compile what is not in the user's cache.
        make: Compiles or loads; see `packages.package`.
    """

    name = "compiled"
    n_scored = EVALUATED
    fixed_shapes = True

    def __init__(self, model: nn.Module, layout: Layout, together: int) -> None:
        super().__init__(model, layout)
        self.together = together
        self.compiling = True
        self.make: MakePackage = package
        self._packages: dict[tuple[Any, ...], Package] = {}

    def padded(self, n_runs: int) -> int:  # noqa: D102
        return -(-n_runs // self.together) * self.together

    def updates(self, chunk: Chunk) -> Updates:  # noqa: D102
        return _CompiledUpdates(self, chunk)

    def package(
        self, key: tuple[Any, ...], function: Callable[..., Sequence[Tensor]], arguments: Sequence[Tensor]
    ) -> Package:
        """Return compiled code, which is made or loaded when it is first needed.

        Args:
            key: Names the function and its shapes.
            function: Takes tensors and returns tensors.
            arguments: Its arguments, or tensors like them.

        Raises:
            CompilationError: It can be neither compiled nor loaded.
        """
        key = (*key, torch.get_num_threads())
        if key not in self._packages:
            with torch.no_grad():
                self._packages[key] = self.make(function, arguments, compiling=self.compiling)
        return self._packages[key]

    def bind(self, parameters: Tensor, gradients: Tensor, buffers: Buffers) -> Gradients:  # noqa: D102
        groups = list(zip(self.groups(parameters), self.groups(gradients), strict=True))
        n = len(self.layout.names)

        def code(*tensors: Tensor) -> list[Tensor]:
            found, losses = self.gradients(tensors[:n], *tensors[2 * n :])
            for sink, gradient in zip(tensors[n : 2 * n], found, strict=True):
                sink.copy_(gradient)
            return [losses]

        def compute(inputs: Tensor, targets: Tensor) -> Tensor:
            losses = []
            parts = zip(torch.split(inputs, self.together), torch.split(targets, self.together), strict=True)
            for (sources, sinks), batch in zip(groups, parts, strict=True):
                arguments = [*sources, *sinks, *(part.contiguous() for part in batch)]
                key = ("gradients", arguments[-2].shape, arguments[-2].dtype, arguments[-1].shape)
                losses += self.package(key, code, arguments)(arguments)
            return torch.cat(losses)

        return compute

    def score(  # noqa: D102
        self, parameters: Tensor, buffers: Buffers, inputs: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_padding = len(inputs) - len(targets)
        wanted = torch.cat([targets, targets[:1].expand(n_padding, *targets.shape[1:])])

        def code(*tensors: Tensor) -> list[Tensor]:
            *values, inputs, wanted = tensors
            logits = self.predictions(values, inputs)
            own = wanted.expand(logits.shape[:-1])
            losses = -F.log_softmax(logits, -1).gather(-1, own.unsqueeze(-1)).squeeze(-1)
            return [losses, logits.argmax(-1) != own]

        parts = []
        for group in self.groups(parameters):
            arguments = [*group, inputs.contiguous(), wanted]
            key = ("score", inputs.shape, inputs.dtype, wanted.shape)
            parts.append(self.package(key, code, arguments)(arguments))
        losses, wrong = (torch.cat(part)[:, : len(targets)].flatten(1) for part in zip(*parts, strict=True))
        return losses, wrong

    def gradients(self, values: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the gradients of one group of runs, shapes (G, *shape), and its losses, shape (G,)."""

        def one_run(own: Sequence[Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
            return cross_entropy(self._call(own, inputs)[: len(targets)], targets)

        self.model.train()
        compute = grad_and_value(one_run)
        if self.together == 1:
            gradients, loss = compute([value[0] for value in values], inputs[0], targets[0])
            return [gradient[None] for gradient in gradients], loss[None]
        gradients, losses = vmap(compute)(tuple(values), aligned(inputs, targets), targets.contiguous())
        return list(gradients), losses

    def predictions(self, values: Sequence[Tensor], inputs: Tensor) -> Tensor:
        """Return the logits of one group of runs, shape (G, B, ..., outputs), for inputs of shape (B, ...)."""
        self.model.eval()
        if self.together == 1:
            return self._call([value[0] for value in values], inputs)[None]
        # Not `in_dims=None` for the inputs, see `VmapBackend.logits`.
        stacked = inputs.expand(self.together, *inputs.shape)
        return vmap(self._call)(tuple(values), stacked)

    def _call(self, values: Sequence[Tensor], inputs: Tensor) -> Tensor:
        output: Tensor = functional_call(self.model, dict(zip(self.layout.names, values, strict=True)), (inputs,))
        return output

    def groups(self, matrix: Tensor) -> list[list[Tensor]]:
        """Return the views of each parameter, shape (G, *shape), of each group of rows of a matrix, shape (P, N)."""
        return [self.layout.views(rows) for rows in torch.split(matrix, self.together)]


_Measured: TypeAlias = Literal["sums", "signals"] | None
"""What a compiled update measures."""


class _CompiledUpdates(Updates):
    """Makes the updates of a chunk, one group of runs after another, so that a group stays in the cache."""

    def __init__(self, backend: CompiledBackend, chunk: Chunk) -> None:
        self._backend, self._chunk = backend, chunk
        self._signals = GroupSignals(backend.layout, chunk.needs) if chunk.needs & {*GROUP_SIGNALS} else None
        self._at_each = "grad_snr" in chunk.needs  # all other signals are those of an interval's last update
        tensors = chunk.optimizer.tensors()
        self._state_names = [*tensors]
        parts = [backend.groups(tensor) for tensor in (chunk.parameters, *tensors.values())]
        # For each group the views of each parameter, then of each tensor of the optimizer's state.
        self._groups = [[view for views in group for view in views] for group in zip(*parts, strict=True)]
        like = chunk.parameters[: backend.together]
        self._sums = [self._signals.sums(like) if self._signals else [] for _ in self._groups]

    def begin(self) -> None:
        for sums in self._sums:
            for tensor in sums:
                tensor.zero_()

    def make(
        self, first: int, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        chunk, n = self._chunk, lr.shape[0]
        constant, changing = self._numbers(lr, weight_decay, momentum)
        batches, part = chunk.batches, slice(first, first + n)
        examples = [values[part] for values in (batches.order, batches.views) if values is not None]
        codes: dict[_Measured, Package] = {}
        losses, measured = [], []
        for group, fixed in enumerate(self._groups):
            rows = slice(group * self._backend.together, (group + 1) * self._backend.together)
            each_run = [values[rows].contiguous() for values in constant]
            each_update = [values[:, batches.rows[rows]] for values in examples]
            each_update += [values[:, rows].contiguous() for values in changing]
            results: list[Tensor] = []
            own: list[Tensor] = []
            for index, values in enumerate(zip(*(tensor.unbind() for tensor in each_update), strict=True)):
                reads: _Measured = "sums" if self._at_each else None
                if self._signals is not None and index == n - 1:
                    reads = "signals"
                arguments = [*fixed, *(self._sums[group] if reads else ()), *values, *each_run]
                if reads not in codes:
                    codes[reads] = self._code(reads, arguments)
                results = codes[reads](arguments)
                own.append(results[0])
            losses.append(torch.stack(own))
            measured.append(results[1 : 1 + len(GROUP_SIGNALS)] if self._signals else [])
        parts = [torch.cat(part) for part in zip(*measured, strict=True)]  # empty if nothing is measured
        signals = dict(zip(GROUP_SIGNALS, parts, strict=False))
        if "param_norm" in chunk.needs:
            signals["param_norm"] = chunk.param_norm()
        return torch.cat(losses, dim=1), {name: value for name, value in signals.items() if name in chunk.needs}

    def _numbers(self, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
        """Return weight decay and momentum, shape (R, 1), and what differs between updates, shape (n, R, ...)."""
        optimizer, dtype, n = self._chunk.optimizer, self._chunk.parameters.dtype, lr.shape[0]
        spec = optimizer.spec
        own = spec.momentum if spec.name == "sgd" else spec.betas[0]
        beta = (torch.full_like(weight_decay, own) if momentum is None else momentum)[:, None]
        steps = torch.arange(1, n + 1, dtype=lr.dtype, device=lr.device)[:, None, None] + optimizer.n_steps
        optimizer.n_steps += n
        corrections = [torch.as_tensor(value, device=lr.device) for value in optimizer.corrections(steps, beta)]
        changing = [lr.neg(), *(value.expand(n, len(beta), 1) for value in corrections)]
        return [values.to(dtype) for values in (weight_decay[:, None], beta)], [values.to(dtype) for values in changing]

    def _code(self, reads: _Measured, arguments: Sequence[Tensor]) -> Package:
        spec = self._chunk.engine.workload.spec
        key: tuple[Any, ...] = ("update", spec.optimizer, spec.batch_size, spec.augmentation, reads)
        if reads and self._signals is not None:
            key += self._signals.key
        return self._backend.package(key, lambda *tensors: self._update(reads, tensors), arguments)

    def _update(self, reads: _Measured, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Make one update of a group; `EagerUpdates.make` does the same with matrices.

        Args:
            reads: What to measure: nothing, the sums of a decision interval, or also the signals at its end.
            tensors: Parameters, state of the optimizer and sums of the signals, which are changed in place; then the
                examples, their views, learning rates, corrections, weight decay and momentum.

        Returns:
            The losses, shape (G,), then `GROUP_SIGNALS`, shape (G, L) each.
        """
        chunk, backend, rest = self._chunk, self._backend, iter(tensors)
        n = len(backend.layout.names)
        values = [*islice(rest, n)]
        state = {name: [tensor.flatten(1) for tensor in islice(rest, n)] for name in self._state_names}
        sums = [*islice(rest, n + 1)] if reads else []
        index = next(rest)
        views = None if chunk.batches.views is None else next(rest)
        rates, *corrections, decay, beta = rest
        found, losses = backend.gradients(values, *chunk.batches.examples(index, views))
        gradients = [gradient.flatten(1) for gradient in found]
        results = [losses]
        if reads and self._signals is not None:
            noise = self._signals.add(gradients, sums)
            if reads == "signals":
                results += [*self._signals.of_gradients(gradients, state["momentum"]), noise]
        directions = []
        layers = (number for number, layer in enumerate(backend.layout.layers) for _ in layer.parameters)
        for number, (layer, value, gradient) in enumerate(zip(layers, values, gradients, strict=True)):
            flat = value.flatten(1)
            own = {name: tensors[number] for name, tensors in state.items()}
            optimizer = make_optimizer(chunk.optimizer.spec, flat, own)
            direction = optimizer.corrected(flat, gradient.clone(), decay, beta, corrections)
            flat.addcmul_(direction, rates[:, layer, None])
            directions.append(direction)
        if reads == "signals" and self._signals is not None:
            norms = self._signals.norms(directions)
            # PyTorch 2.15 cannot compile the norm of a direction that is used nowhere else and depends on a parameter
            # that is changed in place. So the directions are results, too.
            results += [norms, norms * -rates, *directions]
        return results
