"""Signals of the layers of one network in your own training loop, estimated as the engine does (see `Signals`)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from ganno_bench.core.errors import ConfigError
from ganno_bench.training.layout import Blocks
from ganno_bench.training.signals import LAYER_SIGNALS
from ganno_bench.workloads.blocks import is_sharded

__all__ = ["CELL", "LayerSignals"]

Array = npt.NDArray[np.float64]
_TINY = 1e-30
CELL = 512  # short enough for sums in float32, long enough that there are few cells to add up
_NORMS = {"param_norm": "parameters", "update_norm": "update"}
_OF_GRADIENTS = ("grad_norm", "grad_cosine", "grad_snr")
_OF_ONE_UPDATE = ("grad_norm", "grad_cosine", "update_norm", "direction_norm")
_WHEN_TO_STEP = "call scheduler.step() after optimizer.step() and before optimizer.zero_grad()"


class LayerSignals:
    """Measures one decision interval at a time, on samples, so that larger parameters take no longer.

    All samples lie in one table. It has a row for the gradients of each update and one row each for the momentum, the
    update and the parameters. Each row is cut into cells of `CELL` entries, and a cell holds entries of one layer only.
    So a decision takes few operations, however many layers there are. An ordinary update takes one operation: it copies
    the sample of the gradients, which will change.

    A parameter that requires no gradient is not measured. A layer without trained parameters gets the mean signals of
    the other layers, so that it does not change what a policy sees as the mean of all layers.

    Attributes:
        needs: The signals that are measured.
    """

    def __init__(
        self, groups: Sequence[Sequence[Tensor]], optimizer: torch.optim.Optimizer, needs: frozenset[str], interval: int
    ) -> None:
        """Prepare to measure.

        Args:
            groups: The parameters of each layer, including frozen ones.
            optimizer: Holds their momentum, or their first moments.
            needs: Optional signals to measure. Other names are ignored.
            interval: The number of updates between two decisions.

        Raises:
            ConfigError: No parameter requires gradients, or one cannot be measured.
        """
        self.needs = needs & frozenset(LAYER_SIGNALS)
        self._parameters = [parameter for group in groups for parameter in group]
        if not any(parameter.requires_grad for parameter in self._parameters):
            raise ConfigError("the optimizer has no parameters that require gradients")
        _check_parameters(self._parameters)
        self._optimizer = optimizer
        self._n_layers = len(groups)
        self._samples = [Blocks.of(parameter.numel()) for parameter in self._parameters]
        self._partial = [(index, blocks) for index, blocks in enumerate(self._samples) if not blocks.is_whole]
        # Adjacent samples of a layer that have the same weight share cells; zeros fill up the last cell.
        owners = [index for index, group in enumerate(groups) for _ in group]
        self._begins: list[int] = []  # where each parameter's sample begins in a row
        weights: list[float] = []  # the factor for the squares in each cell
        layers: list[int] = []  # the layer of each cell
        alike = groupby(zip(owners, self._samples, strict=True), lambda of: (of[0], of[1].weight))
        for (owner, weight), several in alike:
            ends = list(accumulate((blocks.size for _, blocks in several), initial=len(layers) * CELL))
            self._begins += ends[:-1]
            n_cells = math.ceil(ends[-1] / CELL) - len(layers)
            weights += [weight**2] * n_cells
            layers += [owner] * n_cells
        self._weights = np.array(weights)
        self._present, self._first_cells = np.unique(layers, return_index=True)  # layers that have parameters
        self._owners = owners
        self._interval = interval
        self._n_gradients = 0 if self.needs.isdisjoint(_OF_GRADIENTS) else interval if "grad_snr" in self.needs else 1
        rows = [f"gradient {index}" for index in range(self._n_gradients)]
        rows += ["momentum"] if "grad_cosine" in self.needs else []
        rows += ["update"] if self.needs & {"update_norm", "direction_norm"} else []
        rows += ["parameters"] if self.needs & {"param_norm", "update_norm", "direction_norm"} else []
        self._rows = {name: index for index, name in enumerate(rows)}
        self._table = torch.empty(0)  # (rows, cells, entries of a cell), from the first copy on
        self._parts: list[list[Tensor]] = []  # for each row a view for each parameter
        self._filled: list[set[int]] = []  # for each row the parameters whose entries may be nonzero
        self._new: set[int] = set()  # parameters that were added during this decision interval
        self._n_seen = 0  # the largest number of gradients that an update had
        self._only_zeros = True  # whether all gradients of the first decision interval were zero so far
        self._is_fresh = not optimizer.state
        self._no_grad = torch.no_grad()  # making a context takes as long as copying a small sample

    def record(self, update: int) -> None:
        """Copy the gradients of the update that was just made. Calling it twice has no further effect.

        Args:
            update: The index of the update, from 0.

        Raises:
            ConfigError: Signals of gradients are needed, but the gradients are missing, were cleared, or are sparse.

        Warns:
            UserWarning: All gradients of the first decision interval are zero.
        """
        if not self._n_gradients:
            return
        gradients = [parameter.grad for parameter in self._parameters]
        given = [gradient for gradient in gradients if gradient is not None]
        if not given:
            raise ConfigError(f"there are no gradients; {_WHEN_TO_STEP}")
        if len(given) > self._n_seen:
            _check_strided(given)
            self._n_seen = len(given)
        if self._only_zeros and update < self._interval:
            self._look_for_zeros(given, last=update + 1 == self._interval)
        if self._n_gradients == self._interval or (update + 1) % self._interval == 0:
            self._copy(update % self._n_gradients, gradients)

    def prepare(self) -> None:
        """Copy the values that the last update of a decision interval will change."""
        if "update" in self._rows:
            self._copy(self._rows["update"], self._parameters)
        if "momentum" in self._rows:
            self._copy(self._rows["momentum"], [self._momentum_of(parameter) for parameter in self._parameters])

    @np.errstate(all="ignore")
    def at_first(self) -> dict[str, Array]:
        """Return the signals before the first update, each of shape (L,): norms of parameters, and NaN for the rest."""
        signals = {name: np.full(self._n_layers, np.nan) for name in self.needs}
        if "param_norm" in self.needs:
            row = self._rows["parameters"]
            self._copy(row, self._parameters)
            table, frozen = self._table_on_cpu(), self._frozen()
            self._zero_out(table[row], frozen)
            signals["param_norm"] = self._norm(table[row])
            self._fill_in(signals, frozen)
        return signals

    @np.errstate(all="ignore")
    def measure(self, lr: Sequence[float]) -> dict[str, Array]:
        """Return the signals, each of shape (L,), of the decision interval that has just ended, and begin the next.

        Args:
            lr: The learning rates of its last update, one for each layer.
        """
        rows, n_gradients = self._rows, self._n_gradients
        if "parameters" in rows:
            self._copy(rows["parameters"], self._parameters)
        table = self._table_on_cpu()
        if "update" in rows:
            table[rows["update"]] -= table[rows["parameters"]]
        untrained = self._frozen()
        if "parameters" in rows:
            self._zero_out(table[rows["parameters"]], untrained)
        # The squared norm of each row and of the sum of gradients; the inner product of last gradient and momentum.
        products = np.zeros((len(rows) + 2, len(self._weights)), table.dtype)
        np.vecdot(table, table, out=products[:-2])
        if "grad_snr" in self.needs:
            total = table[:n_gradients].sum(axis=0)
            np.vecdot(total, total, out=products[-2])
        if "momentum" in rows:
            np.vecdot(table[n_gradients - 1], table[rows["momentum"]], out=products[-1])
        of_layers = self._per_layer(products)
        norms, dots = np.sqrt(of_layers[:-1]), of_layers[-1]
        found = {name: norms[rows[row]] for name, row in _NORMS.items() if row in rows}
        if n_gradients:
            found["grad_norm"] = norms[n_gradients - 1]
        if "grad_snr" in self.needs:
            found["grad_snr"] = self._snr(table[:n_gradients], norms[:n_gradients], norms[-1])
        if "momentum" in rows:
            lengths = np.maximum(found["grad_norm"] * norms[rows["momentum"]], _TINY)
            found["grad_cosine"] = np.minimum(np.maximum(dots / lengths, -1.0), 1.0)
        if "direction_norm" in self.needs:
            found["direction_norm"] = found["update_norm"] / np.maximum(lr, _TINY)
        # Without movement, a GradScaler skipped the update.
        moved = "update" not in rows or max(lr) == 0.0 or found["update_norm"].any()
        still = not moved and (not n_gradients or found["grad_norm"].any())
        if still or (n_gradients and not np.isfinite(found["grad_norm"]).all()):
            found |= {name: np.full(self._n_layers, np.nan) for name in _OF_ONE_UPDATE}
        if n_gradients:
            untrained |= {index for index, parameter in enumerate(self._parameters) if parameter.grad is None}
        signals = {name: found[name] for name in self.needs}
        self._fill_in(signals, untrained | self._new)
        self._new = set()
        return signals

    def extended(self, groups: Sequence[Sequence[Tensor]]) -> LayerSignals:
        """Return a `LayerSignals` for more layers, which include the present ones, with the samples so far.

        Args:
            groups: The parameters of each layer.
        """
        more = LayerSignals(groups, self._optimizer, self.needs, self._interval)
        more._n_seen, more._only_zeros = self._n_seen, self._only_zeros
        places = {id(parameter): index for index, parameter in enumerate(more._parameters)}
        known = {id(parameter) for parameter in self._parameters}
        more._new = {index for key, index in places.items() if key not in known}
        if self._parts:
            more._allocate()
            for row, filled in enumerate(self._filled):
                for index in filled:
                    place = places[id(self._parameters[index])]
                    more._parts[row][place].copy_(self._parts[row][index])
                    more._filled[row].add(place)
        return more

    def state_dict(self) -> dict[str, Any]:
        """Return the state: the samples, the names of their rows and their sizes."""
        samples = self._table.clone() if self._parts else None
        return {"rows": list(self._rows), "sizes": self._sizes, "samples": samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            ConfigError: The state comes from a network with parameters of other sizes, or from another policy.
        """
        for name, own in (("rows", list(self._rows)), ("sizes", self._sizes)):
            if state[name] != own:
                raise ConfigError(
                    f"the state has samples of other {name}: another network or policy wrote it; "
                    "make the scheduler for the same network and policy"
                )
        samples = state["samples"]
        if samples is not None:
            if samples.shape != (len(self._rows), len(self._weights), CELL):
                raise ConfigError("the state's samples have another layout: an earlier version of ganno-bench wrote it")
            self._allocate()
            self._table.copy_(samples)
            self._filled = [set(range(len(self._parameters))) for _ in self._rows]

    @property
    def _sizes(self) -> list[int]:
        return [blocks.size for blocks in self._samples]

    def _allocate(self) -> None:
        """Allocate the table, at least in float32, on the device of the parameters."""
        dtype = torch.float32
        for parameter in self._parameters:
            if parameter.dtype.itemsize > 1:  # frozen bytes (quantised weights) have no common type with floats
                dtype = torch.promote_types(dtype, parameter.dtype)
        shape, device = (len(self._rows), len(self._weights), CELL), self._parameters[0].device
        self._table = torch.zeros(shape, dtype=dtype, device=device)
        self._parts = [
            [
                row[begin : begin + blocks.size].view(
                    parameter.shape if blocks.is_whole else (blocks.n_blocks, blocks.length)
                )
                for parameter, blocks, begin in zip(self._parameters, self._samples, self._begins, strict=True)
            ]
            for row in self._table.flatten(1)
        ]
        self._filled = [set() for _ in self._rows]

    def _copy(self, row: int, tensors: Sequence[Tensor | None]) -> None:
        """Copy the samples of tensors, one for each parameter, into a row; None counts as 0."""
        if not self._parts:
            self._allocate()
        sample = list(tensors)
        with self._no_grad:
            for index, blocks in self._partial:
                tensor = sample[index]
                sample[index] = None if tensor is None else blocks.take(tensor)
            parts, given = self._parts[row], [tensor for tensor in sample if tensor is not None]
            if len(given) < len(sample):
                there = {index for index, tensor in enumerate(sample) if tensor is not None}
                for index in self._filled[row] - there:
                    parts[index].zero_()
                parts, self._filled[row] = [parts[index] for index in sorted(there)], there
            elif len(self._filled[row]) < len(sample):
                self._filled[row] = set(range(len(sample)))
            if given:
                torch._foreach_copy_(parts, given)

    def _momentum_of(self, parameter: Tensor) -> Tensor | None:
        state = self._optimizer.state.get(parameter, {})
        kept = state.get("momentum_buffer", state.get("exp_avg"))
        if kept is None and self._n_seen and self._has_no_momentum:
            return parameter.grad  # of the update before: the momentum buffer of a momentum factor of 0
        return kept if isinstance(kept, Tensor) and kept.shape == parameter.shape else None

    def _table_on_cpu(self) -> npt.NDArray[Any]:
        """Return the table, on the CPU; a complex number is two adjacent entries."""
        table = (self._table if self._table.is_cpu else self._table.cpu()).numpy()
        return table.view(table.real.dtype)

    def _norm(self, row: npt.NDArray[Any]) -> Array:
        """Estimate the norm of each layer, shape (L,), from a row, shape (cells, entries of a cell)."""
        (squares,) = self._per_layer(np.vecdot(row, row)[None])
        norms: Array = np.sqrt(squares)
        return norms

    def _per_layer(self, products: Array) -> Array:
        """Return the weighted sums of cells, shape (n, cells), over each layer, shape (n, L)."""
        sums: Array = np.add.reduceat(products * self._weights, self._first_cells, axis=1)
        if sums.shape[1] == self._n_layers:
            return sums
        of_layers = np.zeros((len(sums), self._n_layers))
        of_layers[:, self._present] = sums
        return of_layers

    def _frozen(self) -> set[int]:
        return {index for index, parameter in enumerate(self._parameters) if not parameter.requires_grad}

    def _zero_out(self, row: npt.NDArray[Any], parameters: set[int]) -> None:
        """Set the entries of some parameters to 0 in a row, shape (cells, entries of a cell)."""
        entries, n_each = row.reshape(-1), row.shape[-1] // CELL
        for index in parameters:
            begin = self._begins[index]
            entries[n_each * begin : n_each * (begin + self._samples[index].size)] = 0.0

    def _fill_in(self, signals: Mapping[str, Array], untrained: set[int]) -> None:
        """Set the signals of untrained layers to the mean of the others, the geometric mean for norms.

        Args:
            signals: Each of shape (L,); changed in place.
            untrained: The indices of untrained parameters. A layer is untrained if all of its parameters are.
        """
        if not untrained:
            return
        known = np.zeros(self._n_layers, bool)
        known[[owner for index, owner in enumerate(self._owners) if index not in untrained]] = True
        for name, values in signals.items():
            of_known = values[known]
            if name.endswith("norm") and (of_known > 0.0).any():
                values[~known] = np.exp(np.log(of_known[of_known > 0.0]).mean())
            elif len(of_known):
                values[~known] = of_known.mean()

    @property
    def _has_no_momentum(self) -> bool:
        return all(group.get("momentum") == 0.0 for group in self._optimizer.param_groups)

    def _look_for_zeros(self, gradients: Sequence[Tensor], *, last: bool) -> None:
        """Report gradients that were cleared too early.

        It is an error if a new optimizer has momentum, which proves that there were gradients. It is a warning if all
        gradients of the first decision interval are zero, which may have another reason.

        Args:
            gradients: The gradients of one update of the first decision interval.
            last: Whether it was the last update of that interval.
        """
        self._only_zeros = not any(bool(gradient.any()) for gradient in gradients)
        if not self._only_zeros:
            return
        # The momentum of a new optimizer comes from gradients, or from weight decay that is added to gradients.
        decays = any(
            group.get("weight_decay", 0.0) and not group.get("decoupled_weight_decay", False)
            for group in self._optimizer.param_groups
        )
        momenta = [self._momentum_of(parameter) for parameter in self._parameters]
        if self._is_fresh and not decays and any(bool(kept.any()) for kept in momenta if kept is not None):
            raise ConfigError(f"all gradients are zero, since they were cleared too early; {_WHEN_TO_STEP}")
        if last:
            warnings.warn(
                f"all gradients of the first {self._interval} updates are zero, perhaps since they were cleared too "
                f"early; {_WHEN_TO_STEP}",
                stacklevel=4,
            )

    def _snr(self, gradients: npt.NDArray[Any], norms: Array, norm_of_sum: Array) -> Array:
        """Return the signal-to-noise ratio, shape (L,); updates with gradients that are not finite are left out.

        Args:
            gradients: Samples, shape (updates, cells, entries of a cell).
            norms: The norms of the samples, shape (updates, L).
            norm_of_sum: The norm of the sum over updates, shape (L,).
        """
        sum_of_norms = norms.sum(axis=0)
        if not np.isfinite(sum_of_norms).all():
            finite = np.isfinite(norms).all(axis=1)
            total, sum_of_norms = gradients[finite].sum(axis=0), norms[finite].sum(axis=0)
            norm_of_sum = self._norm(total)
        ratio: Array = norm_of_sum / np.maximum(sum_of_norms, _TINY)
        return np.minimum(ratio, 1.0)


def _check_parameters(parameters: Sequence[Tensor]) -> None:
    for parameter in parameters:
        if is_lazy(parameter):
            raise ConfigError("a parameter has no shape yet; run a batch through the model first")
        if parameter.is_meta:
            raise ConfigError(
                "a parameter is on the meta device and has no values; move the model to another device first"
            )
        if is_sharded(parameter):
            raise ConfigError(
                "parameters are sharded, so each process has only a part of them; use a policy that reads no layers: "
                "ganno-light with n_layers="
            )


def _check_strided(gradients: Sequence[Tensor]) -> None:
    if any(gradient.layout != torch.strided for gradient in gradients):
        raise ConfigError("gradients are sparse and cannot be measured; use a policy that reads no layers: ganno-light")
