"""A chunk: the part of a population that is trained together, as many runs as fit the processor's cache."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganno_bench.training.backends import Gradients
from ganno_bench.training.batches import Batches
from ganno_bench.training.buffers import stack_buffers, state_buffers
from ganno_bench.training.layout import Layout, Sample
from ganno_bench.training.measure import part_to_read
from ganno_bench.training.open_optimizer import MakeOptimizer, OpenOptimizers
from ganno_bench.training.optimizers import make_optimizer
from ganno_bench.training.updates import Updates

if TYPE_CHECKING:
    from ganno_bench.training.population import Engine

__all__ = ["Chunk"]


class Chunk:
    """Some of the runs, computed together. Rows beyond `n_runs` repeat the last run; their results are discarded.

    Attributes:
        runs: The runs of the population.
        n_runs: Their number.
        n_rows: R, the number of rows that are computed.
        parameters: Shape (R, N).
        buffers: State buffers of the networks.
        optimizer: The workload's optimizer.
        open: The open optimizers that replace it, or None.
        batches: The batches of all updates.
        needs: The signals that are measured.
    """

    def __init__(self, engine: Engine, runs: slice, seeds: Sequence[int], needs: frozenset[str]) -> None:
        self.engine = engine
        self.runs = runs
        self.n_runs = len(seeds)
        self.needs = needs
        self.n_rows = engine.backend.padded(self.n_runs)
        row_seeds = [*seeds, *[seeds[-1]] * (self.n_rows - self.n_runs)]
        distinct = list(dict.fromkeys(row_seeds))
        self.batches = Batches(engine.workload, engine.train, row_seeds, engine.device, engine.dtype)
        rows = self.batches.rows
        shape = (len(distinct), engine.layout.n_columns)
        initial = torch.zeros(shape, dtype=engine.dtype)
        states = []
        for index, seed in enumerate(distinct):
            network = engine.workload.build(seed)
            engine.layout.write(initial, index, network)
            states.append(state_buffers(network))
        self.parameters = initial.to(engine.device)[rows].contiguous()
        self.buffers = stack_buffers([states[index] for index in rows.tolist()], engine.device, engine.dtype)
        self.optimizer = make_optimizer(engine.workload.spec.optimizer, self.parameters)
        self.open: OpenOptimizers | None = None

    @cached_property
    def gradient_rows(self) -> Tensor:
        """The gradients that `gradients` writes, shape (R, N)."""
        return torch.zeros_like(self.parameters)

    @cached_property
    def gradients(self) -> Gradients:
        """Computes the gradients of a batch."""
        return self.engine.backend.bind(self.parameters, self.gradient_rows, self.buffers)

    @cached_property
    def _updates(self) -> Updates:
        return self.engine.backend.updates(self)

    def begin(self) -> None:
        """Begin a new decision interval."""
        if self.open is None:
            self._updates.begin()

    def advance(
        self, first: int, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make n updates; return losses, shape (n, P), and signals, shape (P, L) each.

        `lr` has shape (n, P, L). Open optimizers overwrite it with the effective learning rates.
        """
        if self.open is not None:
            return self._advance_open(self.open, first, lr), {}
        rates = self._pad(lr.transpose(0, 1)).transpose(0, 1)
        beta = None if momentum is None else self._pad(momentum)
        losses, measured = self._updates.make(first, rates, self._pad(weight_decay), beta)
        return losses[:, : self.n_runs], {name: value[: self.n_runs] for name, value in measured.items()}

    def _advance_open(self, optimizers: OpenOptimizers, first: int, lr: Tensor) -> Tensor:
        losses = []
        for index in range(lr.shape[0]):
            losses.append(self.gradients(*self.batches.batch(first + index))[: self.n_runs])
            lr[index] = optimizers.step(losses[-1], lr[index, :, 0])[:, None]
        return torch.stack(losses)

    def replace_optimizer(self, makers: Sequence[MakeOptimizer], weight_decay: Tensor) -> None:
        """Replace the workload's optimizer by an open one for each run; `weight_decay` has shape (P,)."""
        self.open = OpenOptimizers(makers, self.engine.layout, self.parameters, self.gradient_rows, weight_decay)

    def evaluated(self) -> Tensor:
        """Return the parameters that are evaluated, one row for each row of the chunk."""
        return self.parameters if self.open is None else self.open.evaluated()

    def conclude(self) -> None:
        """Keep the parameters that are evaluated, and drop the open optimizer."""
        self.parameters, self.open = self.evaluated(), None

    @cached_property
    def _part(self) -> Layout | Sample:
        return part_to_read(self.engine.layout, self.needs, self.engine.device)

    def param_norm(self) -> Tensor:
        """Return the norm of each layer's parameters, shape (R, L)."""
        return self._part.norms(self._part.take(self.parameters))

    def clear(self, runs: Tensor) -> None:
        """Set the parameters and all state of some runs to 0; `runs` is a mask of shape (P,)."""
        rows = self._pad(runs)
        for tensor in self.tensors().values():
            tensor[rows] = 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Return the state of all rows: parameters, state of the optimizer, and buffers of the networks."""
        buffers = {f"buffers.{name}": rows for name, rows in self.buffers.items()}
        return {"parameters": self.parameters} | self.optimizer.tensors() | buffers

    def _pad(self, values: Tensor) -> Tensor:
        """Repeat the last entry along the first axis, shape (n_runs, ...) to (n_rows, ...)."""
        return torch.cat([values, values[-1:].expand(self.n_rows - self.n_runs, *values.shape[1:])])
