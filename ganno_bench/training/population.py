"""The training loop: P runs of one workload, side by side.

Within one backend, device and number of threads, the results of a run do not depend on the number of other runs, on its
place among them, or on what happens in them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ganno_bench.core.errors import ConfigError, did_you_mean
from ganno_bench.training.choice import make_backend, resolve_backend
from ganno_bench.training.chunk import Chunk
from ganno_bench.training.evaluate import Evaluation, evaluate
from ganno_bench.training.layout import Layout
from ganno_bench.training.open_optimizer import MakeOptimizer
from ganno_bench.training.signals import LAYER_SIGNALS, NEEDS, Controls, RunInfo, Signals
from ganno_bench.workloads.data import Split
from ganno_bench.workloads.suite import WorkloadSpec
from ganno_bench.workloads.workload import Workload

__all__ = ["Engine", "Population"]

# Runs are trained in chunks, so that parameters, gradients and optimizer state stay in the processor's cache.
_CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 2 * 2**30}
_MAX_CHUNK = {"cpu": 64, "cuda": 1024}


class Engine:
    """The parts that all populations of a workload share: data on the device, backend, recorded passes.

    Attributes:
        backend: Computes gradients and predictions.
        chunk: Largest number of runs in one chunk.
    """

    def __init__(
        self,
        workload: Workload,
        *,
        backend: str = "auto",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        max_population: int | None = None,
    ) -> None:
        """Prepare a workload for training.

        Args:
            workload: The workload.
            backend: `compiled`, `vmap`, `loop`, or `auto` or `eager`, which are one of the last two, see
                `resolve_backend`. In `prepare.py`, `auto` is also `compiled`.
            device: A PyTorch device.
            dtype: Type of parameters and images.
            max_population: Largest number of runs in one chunk. None for as many as fit the cache (on a GPU, roughly
                its memory).

        Raises:
            ConfigError: The backend is unknown, the device is not available, or `max_population` is below 1.
        """
        if max_population is not None and max_population < 1:
            raise ConfigError(f"max_population must be at least 1 (value: {max_population})")
        self.workload = workload
        self.dtype = dtype
        self.device = _device(device)
        model = workload.build(0).to(self.device, dtype)
        self.layout = Layout(model, workload.layers)
        name = resolve_backend(backend, model, self.device)
        self.train = workload.dataset.train.to(self.device, dtype)
        self.validation = workload.dataset.validation.to(self.device, dtype)
        self.backend = make_backend(name, model, self.layout, self.example())
        bytes_per_run = 5 * self.layout.n_columns * dtype.itemsize
        fitting = _CHUNK_BYTES.get(self.device.type, _CHUNK_BYTES["cuda"]) // bytes_per_run
        fitting = max(2, min(fitting, _MAX_CHUNK.get(self.device.type, _MAX_CHUNK["cuda"])))
        self.chunk = fitting if max_population is None else max_population

    def example(self) -> Tensor:
        """Return inputs of an update, shape (B, ...): copies of the first example."""
        return self.train.gather(torch.zeros(self.workload.spec.batch_size, dtype=torch.int64))[0]

    def with_spec(self, spec: WorkloadSpec) -> Engine:
        """Return an engine for another horizon or batch size. It shares network, data, backend and recorded passes."""
        if spec == self.workload.spec:
            return self
        engine = copy.copy(self)
        engine.workload = replace(self.workload, spec=spec)
        return engine

    def population(
        self,
        seeds: Sequence[int],
        weight_decay: Tensor | float = 0.0,
        needs: Iterable[str] = (),
        optimizers: Sequence[MakeOptimizer] | None = None,
    ) -> Population:
        """Return a new population; see `Population`."""
        return Population(self, seeds, weight_decay, needs, optimizers)

    def warm_up(self, needs: Collection[frozenset[str]], has_open_optimizers: bool) -> None:
        """Use everything once, so that nothing is recorded or compiled later.

        Args:
            needs: The signals that schedulers need; one set for each scheduler that has the workload's optimizer.
            has_open_optimizers: Whether other schedulers replace the optimizer.
        """
        spec = self.workload.spec
        engine = self.with_spec(spec.model_copy(update={"n_updates": max(2, spec.n_updates)}))
        for one in {*needs}:
            population = engine.population([0], needs=one)
            population.advance(Controls(torch.zeros(1, self.layout.n_layers, dtype=torch.float64)), 2)
            population.evaluate(self.validation)
        if has_open_optimizers:
            chunk = Chunk(engine, slice(0, 1), [0], frozenset())
            chunk.gradients(*chunk.batches.batch(0))

    def run_info(self, base_lr: Tensor, weight_decay: Tensor) -> RunInfo:
        """Return the RunInfo of runs with these base learning rates and weight decays, shape (P,) each."""
        return RunInfo(
            layer_names=tuple(layer.name for layer in self.layout.layers),
            layer_sizes=tuple(layer.size for layer in self.layout.layers),
            base_lr=base_lr.to(self.device, torch.float64),
            weight_decay=weight_decay.to(self.device, torch.float64),
            total_updates=self.workload.spec.n_updates,
            optimizer=self.workload.spec.optimizer.name,
        )


class Population:
    """P training runs of one workload, in lockstep.

    The seed of a run alone determines initialisation, order of the data and augmentation, so runs with equal seeds are
    paired. A run whose loss is no longer finite has diverged: it is frozen, and its signals are NaN.

    Attributes:
        seeds: Seed of each run.
        n_updates: Number of updates done.
        diverged_at: Index of the first update whose loss was not finite, or -1, shape (P,).
        last_losses: Sum of the training losses over the updates of the last `advance`, nats, shape (P,).
        applied_lr: Learning rates of these updates, shape (n, P, L); effective ones for an open optimizer.
    """

    def __init__(
        self,
        engine: Engine,
        seeds: Sequence[int],
        weight_decay: Tensor | float = 0.0,
        needs: Iterable[str] = (),
        optimizers: Sequence[MakeOptimizer] | None = None,
    ) -> None:
        """Initialise the networks.

        Args:
            engine: The engine of the workload.
            seeds: Seed of each run.
            weight_decay: Weight decay of all runs, or of each run, shape (P,).
            needs: Optional fields of `Signals` to measure, and possibly `SAMPLED`.
            optimizers: A function for each run that makes its open optimizer, or None for the workload's optimizer.
                With open optimizers all layers have one learning rate, and `val_loss` is the only optional signal.

        Raises:
            ConfigError: No seed is given, or a signal is unknown or cannot be measured.
        """
        self.engine = engine
        self.seeds = tuple(seeds)
        self.needs = frozenset(needs)
        if not self.seeds:
            raise ConfigError("a population needs at least one run, but no seed was given")
        for name in sorted(self.needs - set(NEEDS)):
            raise ConfigError(f"unknown signal {name!r}{did_you_mean(name, NEEDS)}")
        if optimizers is not None and (layers := sorted(self.needs & set(LAYER_SIGNALS))):
            raise ConfigError(f"signal {layers[0]!r} cannot be measured with an open optimizer; remove it from `needs`")
        self.n_updates = 0
        device = engine.device
        self.diverged_at = torch.full((len(seeds),), -1, dtype=torch.int64, device=device)
        self._weight_decay = torch.as_tensor(weight_decay, dtype=torch.float64, device=device).expand(len(seeds))
        self._momentum: Tensor | None = None
        self._last_lr = torch.full((self.n_runs, engine.layout.n_layers), torch.nan, dtype=torch.float64, device=device)
        self.last_losses = torch.zeros(self.n_runs, dtype=torch.float64, device=device)
        self.applied_lr = self._last_lr[None][:0]
        self._interval_loss: tuple[Tensor | float, int] = (0.0, 0)
        size = -(-self.n_runs // -(-self.n_runs // engine.chunk))  # chunks of nearly equal size, none above the limit
        size = min(engine.chunk, engine.backend.padded(size)) if engine.backend.fixed_shapes else size
        self._chunks = [
            Chunk(engine, slice(first, min(first + size, self.n_runs)), self.seeds[first : first + size], self.needs)
            for first in range(0, self.n_runs, size)
        ]
        self._is_open = optimizers is not None
        if optimizers is not None:
            for chunk in self._chunks:
                chunk.replace_optimizer(optimizers[chunk.runs], self._weight_decay[chunk.runs])

    @property
    def n_runs(self) -> int:
        """P."""
        return len(self.seeds)

    @property
    def diverged(self) -> Tensor:
        """Whether each run has diverged, bool, shape (P,)."""
        return self.diverged_at >= 0

    @torch.no_grad()
    def observe(self) -> Signals:
        """Return the signals before the first update. Only norms of parameters and validation loss are measured yet."""
        blank = torch.full_like(self._last_lr, torch.nan)
        layers = dict.fromkeys(self.needs & set(LAYER_SIGNALS), blank)
        if "param_norm" in self.needs:
            layers["param_norm"] = torch.cat([chunk.param_norm()[: chunk.n_runs] for chunk in self._chunks])
        return self._signals(blank[:, 0], layers)

    @torch.no_grad()
    def advance(self, controls: Controls, n_updates: int, *, same_interval: bool = False) -> Signals:
        """Make `n_updates` updates under these controls.

        Args:
            controls: The controls. Learning rates have shape (P, L) or (n_updates, P, L).
            n_updates: Number of updates, at least 1.
            same_interval: Whether these updates continue the decision interval of the last call, so that the signals
                cover both. This allows evaluations within a decision interval.

        Raises:
            ConfigError: The controls have another shape, or the updates exceed the horizon.
        """
        lr = controls.lr.to(self.engine.device, torch.float64)
        expected = (n_updates, *self._last_lr.shape)
        if lr.shape == expected[1:]:
            lr = lr.expand(expected)
        if n_updates < 1:
            raise ConfigError(f"n_updates must be at least 1 (value: {n_updates})")
        if lr.shape != expected:
            raise ConfigError(f"learning rates must have shape {expected} (shape: {tuple(controls.lr.shape)})")
        if self.n_updates + n_updates > self.engine.workload.spec.n_updates:
            left = self.engine.workload.spec.n_updates - self.n_updates
            raise ConfigError(f"n_updates must be at most {left}, the rest of the horizon (value: {n_updates})")
        # The parameters of a frozen run stay 0, whatever a scheduler decides from its NaN signals.
        lr = torch.where(self.diverged[:, None], 0.0, lr)
        if controls.weight_decay is not None:
            self._weight_decay = self._per_run("weight decay", controls.weight_decay)
        if controls.momentum is not None:
            self._momentum = self._per_run("momentum", controls.momentum)
        parts = []
        for chunk in self._chunks:
            momentum = None if self._momentum is None else self._momentum[chunk.runs]
            if not same_interval:
                chunk.begin()
            parts.append(chunk.advance(self.n_updates, lr[:, chunk.runs], self._weight_decay[chunk.runs], momentum))
        losses = torch.cat([losses for losses, _ in parts], dim=1)
        layers = {name: torch.cat([signals[name] for _, signals in parts]) for name in parts[0][1]}
        self.applied_lr, self._last_lr = lr, lr[-1].clone()
        self._freeze(losses)
        self.n_updates += n_updates
        total, count = self._interval_loss if same_interval else (0.0, 0)
        self.last_losses = losses.sum(0, dtype=torch.float64)
        self._interval_loss = (total + self.last_losses, count + n_updates)
        return self._signals(self._interval_loss[0] / self._interval_loss[1], layers)

    def evaluate(self, split: Split) -> Evaluation:
        """Return loss and error on a split, which must be on the population's device; NaN for diverged runs."""
        parts = [evaluate(self.engine.backend, chunk.evaluated(), chunk.buffers, split) for chunk in self._chunks]
        values = []
        for name in ("loss", "error"):
            rows = [getattr(part, name)[: chunk.n_runs] for part, chunk in zip(parts, self._chunks, strict=True)]
            values.append(torch.where(self.diverged, torch.nan, torch.cat(rows)))
        return Evaluation(*values)

    @torch.no_grad()
    def conclude(self) -> None:
        """Keep the networks as they are evaluated, after the last update, and drop open optimizers.

        No code of open optimizers runs afterwards.
        """
        for chunk in self._chunks:
            chunk.conclude()

    def state_dict(self) -> dict[str, Any]:
        """Return the state between two decision intervals, as tensors, numbers and lists.

        A population that loads it continues bit by bit.

        Raises:
            ConfigError: The population has open optimizers, whose state is not accessible.
        """
        if self._is_open:
            raise ConfigError("a population with open optimizers cannot be saved")
        return copy.deepcopy(
            {
                "seeds": list(self.seeds),
                "n_updates": self.n_updates,
                "diverged_at": self.diverged_at,
                "weight_decay": self._weight_decay,
                "momentum": self._momentum,
                "last_lr": self._last_lr,
                "chunks": [chunk.tensors() for chunk in self._chunks],
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that `state_dict` returned, for a population of the same engine and seeds.

        Raises:
            ConfigError: The state has other seeds, another optimizer, or other chunks.
        """
        shapes = [{name: tensor.shape for name, tensor in tensors.items()} for tensors in state["chunks"]]
        own = [{name: tensor.shape for name, tensor in chunk.tensors().items()} for chunk in self._chunks]
        if tuple(state["seeds"]) != self.seeds or shapes != own:
            raise ConfigError("the state belongs to a population with other seeds, size or optimizer")
        self.n_updates = state["n_updates"]
        self.diverged_at = state["diverged_at"].clone()
        self._weight_decay = state["weight_decay"].clone()
        self._momentum = None if state["momentum"] is None else state["momentum"].clone()
        self._last_lr = state["last_lr"].clone()
        for chunk, tensors in zip(self._chunks, state["chunks"], strict=True):
            chunk.optimizer.n_steps = self.n_updates
            for name, tensor in chunk.tensors().items():
                tensor.copy_(tensors[name])

    def _per_run(self, name: str, values: Tensor) -> Tensor:
        if values.shape != (self.n_runs,):
            raise ConfigError(f"{name} must have shape {(self.n_runs,)} (shape: {tuple(values.shape)})")
        return torch.where(self.diverged, 0.0, values.to(self.engine.device, torch.float64))

    def _freeze(self, losses: Tensor) -> None:
        bad = ~losses.isfinite()
        first = bad.to(torch.int8).argmax(0) + self.n_updates
        newly = bad.any(0) & ~self.diverged
        if newly.any():
            self.diverged_at = torch.where(newly, first, self.diverged_at)
            for chunk in self._chunks:
                chunk.clear(newly[chunk.runs])

    def _signals(self, train_loss: Tensor, layers: dict[str, Tensor]) -> Signals:
        gone = self.diverged
        fields = {name: torch.where(gone[:, None], torch.nan, value.double()) for name, value in layers.items()}
        if "val_loss" in self.needs:
            fields["val_loss"] = self.evaluate(self.engine.validation).loss
        return Signals(
            n_updates=self.n_updates,
            total_updates=self.engine.workload.spec.n_updates,
            diverged=gone.clone(),
            lr=torch.where(gone[:, None], torch.nan, self._last_lr),
            train_loss=torch.where(gone, torch.nan, train_loss),
            **fields,
        )


def _device(device: str | torch.device) -> torch.device:
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from None
    return resolved
