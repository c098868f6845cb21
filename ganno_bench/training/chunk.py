"""A chunk: the part of a population that is trained together, as many runs as fit the processor's cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.training.buffers import stack_buffers, state_buffers
from ganno_bench.training.measure import Measurement
from ganno_bench.training.open_optimizer import MakeOptimizer, OpenOptimizers
from ganno_bench.training.optimizers import make_optimizer
from ganno_bench.workloads.augmentation import Augmentation

if TYPE_CHECKING:
    from ganno_bench.training.population import Engine

__all__ = ["Chunk"]


class Chunk:
    """Some of the runs, computed together. Rows beyond `n_runs` repeat the last run; their results are discarded."""

    def __init__(self, engine: Engine, runs: slice, seeds: Sequence[int], needs: frozenset[str]) -> None:
        self.engine = engine
        self.runs = runs
        self.n_runs = len(seeds)
        self.n_rows = engine.backend.padded(self.n_runs)
        row_seeds = [*seeds, *[seeds[-1]] * (self.n_rows - self.n_runs)]
        distinct = list(dict.fromkeys(row_seeds))
        rows = torch.tensor([distinct.index(seed) for seed in row_seeds], device=engine.device)
        # Runs with the same seed share one gather. None if each row has its own seed.
        self._rows = None if len(distinct) == len(row_seeds) else rows
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
        self.open: OpenOptimizers | None = None  # if set, it replaces `optimizer`
        spec = engine.workload.spec
        orders = [
            engine.train.order(_generator(seed, "data-order"), spec.n_updates, spec.batch_size) for seed in distinct
        ]
        self._order = torch.stack(orders, dim=1).to(engine.device)  # (n_updates, S, B)
        self._augmentation: Augmentation | None = None
        if spec.augmentation is not None:
            dataset = engine.workload.dataset
            self._augmentation = Augmentation(spec.augmentation, dataset, engine.device, engine.dtype)
            views = [
                self._augmentation.draw(_generator(seed, "augmentation"), spec.n_updates, spec.batch_size)
                for seed in distinct
            ]
            self._views = torch.stack(views, dim=1).to(engine.device)  # (n_updates, S, B)
        self._gradient_rows = torch.zeros_like(self.parameters)
        self._gradients = engine.backend.bind(self.parameters, self._gradient_rows, self.buffers)
        self.measurement = Measurement(engine.layout, needs, self.parameters)

    def advance(
        self, first: int, lr: Tensor, weight_decay: Tensor, momentum: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make n updates; return losses, shape (n, P), and signals, shape (P, L) each.

        `lr` has shape (n, P, L). Open optimizers overwrite it with the effective learning rates.
        """
        n_updates = lr.shape[0]
        parameters, gradients, optimizer = self.parameters, self._gradient_rows, self.optimizer
        step_lr = self._pad(lr.transpose(0, 1)).transpose(0, 1).to(parameters.dtype).neg()
        uniform = bool((lr == lr[..., :1]).all())
        decay = self._pad(weight_decay).to(parameters.dtype)[:, None] if bool((weight_decay != 0).any()) else None
        beta = None if momentum is None else self._pad(momentum).to(parameters.dtype)[:, None]
        measurement = self.measurement
        losses = []
        for index in range(n_updates):
            last = index == n_updates - 1
            inputs, targets = self.engine.train.gather(self._order[first + index])
            if self._augmentation is not None:
                inputs = self._augmentation.view(inputs, self._views[first + index])
            if self._rows is not None:
                inputs, targets = inputs[self._rows], targets[self._rows]
            losses.append(self._gradients(inputs, targets))
            if self.open is not None:
                lr[index] = self.open.step(losses[-1][: self.n_runs], lr[index, :, 0])[:, None]
                continue
            measurement.gradient(gradients, optimizer.momentum, last)
            direction = optimizer.direction(parameters, gradients, decay, beta)
            if last:
                measurement.direction(direction, -step_lr[index])
            if uniform:
                parameters.addcmul_(direction, step_lr[index, :, :1])
            else:
                for layer, part in enumerate(self.engine.layout.layer_slices):
                    parameters[:, part].addcmul_(direction[:, part], step_lr[index, :, layer, None])
        measured = measurement.finish(parameters)
        return torch.stack(losses)[:, : self.n_runs], {name: value[: self.n_runs] for name, value in measured.items()}

    def replace_optimizer(self, makers: Sequence[MakeOptimizer], weight_decay: Tensor) -> None:
        """Replace the workload's optimizer by an open one for each run; `weight_decay` has shape (P,)."""
        gradients = self._gradient_rows
        self.open = OpenOptimizers(makers, self.engine.layout, self.parameters, gradients, weight_decay)

    def evaluated(self) -> Tensor:
        """Return the parameters that are evaluated, one row for each row of the chunk."""
        return self.parameters if self.open is None else self.open.evaluated()

    def conclude(self) -> None:
        """Keep the parameters that are evaluated, and drop the open optimizer."""
        self.parameters, self.open = self.evaluated(), None

    def param_norm(self) -> Tensor:
        """Return the norm of each layer's parameters, shape (P, L)."""
        return self.measurement.param_norm(self.parameters)[: self.n_runs]

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


def _generator(seed: int, stream: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(seed, stream))
