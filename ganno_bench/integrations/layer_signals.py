"""Signals of the layers of one network in a user's own loop, measured as the engine does, see `Signals`: estimates."""

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
CELL = 512  # short enough for sums in float32, long enough that few are to be added up
_NORMS = {"param_norm": "parameters", "update_norm": "update"}
_OF_GRADIENTS = ("grad_norm", "grad_cosine", "grad_snr")
_OF_ONE_UPDATE = ("grad_norm", "grad_cosine", "update_norm", "direction_norm")


class LayerSignals:
    """Measures one interval at a time, on samples: it takes no longer for larger parameters.

    All that is kept lies in one table, with a row for the sample of each update's gradients and one each for what else
    is looked at, and a row is cut into cells of as many entries, none of which has entries of two layers: so what a
    decision needs takes few operations, however many layers there are. An ordinary update takes one: it copies the
    gradients' sample, since gradients are going to change.

    What requires no gradient is not looked at until it does. A layer that is not trained at all has nothing to show: it
    shows what the others do, on the average, so that a policy that looks at the mean of all layers does not notice it.

    Attributes:
        needs: The signals that are measured.
    """

    def __init__(
        self, groups: Sequence[Sequence[Tensor]], optimizer: torch.optim.Optimizer, needs: frozenset[str], interval: int
    ) -> None:
        """Prepare to measure.

        Args:
            groups: The parameters of each layer, frozen ones, too.
            optimizer: It has their momentum, or first moments.
            needs: Optional signals; others than those of layers are left to others.
            interval: Updates between decisions.

        Raises:
            ConfigError: No parameter requires gradients, or one cannot be looked at.
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
        # Samples of a layer that lie side by side and have the same weight share cells; zeros fill up the last one.
        owners = [index for index, group in enumerate(groups) for _ in group]
        self._begins: list[int] = []  # where in a row each parameter's sample begins
        weights: list[float] = []  # what the squares in each cell are multiplied by
        layers: list[int] = []  # whose each cell is
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
        self._filled: list[set[int]] = []  # for each row the parameters of which it may hold something but zeros
        self._new: set[int] = set()  # parameters that came in the course of this interval
        self._n_seen = 0  # most gradients that an update had
        self._only_zeros = True  # in all gradients of the first interval, as far as it has come
        self._is_fresh = not optimizer.state
        self._no_grad = torch.no_grad()  # to make one takes as long as to copy what is small

    def record(self, update: int) -> None:
        """Take in the gradients of an update that was just made; to do so twice does no harm.

        Args:
            update: Its index.

        Raises:
            ConfigError: Something is observed of them and they are gone, or sparse.

        Warns:
            UserWarning: All gradients of the first interval are zero.
        """
        if not self._n_gradients:
            return
        gradients = [parameter.grad for parameter in self._parameters]
        given = [gradient for gradient in gradients if gradient is not None]
        if not given:
            raise ConfigError("there are no gradients: call step() after optimizer.step() and before zero_grad()")
        if len(given) > self._n_seen:
            _check_strided(given)
            self._n_seen = len(given)
        if self._only_zeros and update < self._interval:
            self._look_for_zeros(given, last=update + 1 == self._interval)
        if self._n_gradients == self._interval or (update + 1) % self._interval == 0:
            self._copy(update % self._n_gradients, gradients)

    def prepare(self) -> None:
        """Keep what an update, the last one of an interval, is going to change."""
        if "update" in self._rows:
            self._copy(self._rows["update"], self._parameters)
        if "momentum" in self._rows:
            self._copy(self._rows["momentum"], [self._momentum_of(parameter) for parameter in self._parameters])

    @np.errstate(all="ignore")
    def at_first(self) -> dict[str, Array]:
        """Return the signals before the first update, each of shape (L,): norms of parameters, and NaN."""
        signals = {name: np.full(self._n_layers, np.nan) for name in self.needs}
        if "param_norm" in self.needs:
            row = self._rows["parameters"]
            self._copy(row, self._parameters)
            table, frozen = self._looked_at(), self._frozen()
            self._leave_out(table[row], frozen)
            signals["param_norm"] = self._norm(table[row])
            self._fill_in(signals, frozen)
        return signals

    @np.errstate(all="ignore")
    def measure(self, lr: Sequence[float]) -> dict[str, Array]:
        """Return the signals, each of shape (L,), of an interval whose last update has just been made; begin another.

        Args:
            lr: Its learning rates.
        """
        rows, n_gradients = self._rows, self._n_gradients
        if "parameters" in rows:
            self._copy(rows["parameters"], self._parameters)
        table = self._looked_at()
        if "update" in rows:
            table[rows["update"]] -= table[rows["parameters"]]
        untrained = self._frozen()
        if "parameters" in rows:
            self._leave_out(table[rows["parameters"]], untrained)
        # The rows' squared norms, that of the gradients' sum, and the inner product of the last one and the momentum.
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
        # A scaler skipped the update.
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
        """Return what measures more layers, among them those of now, from the same samples on.

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
        """Return the state: samples, and what they are of."""
        samples = self._table.clone() if self._parts else None
        return {"rows": list(self._rows), "sizes": self._sizes, "samples": samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.

        Raises:
            ConfigError: It is the state of a network with parameters of other sizes, or of another policy.
        """
        for name, own in (("rows", list(self._rows)), ("sizes", self._sizes)):
            if state[name] != own:
                raise ConfigError(f"the state is of samples of other {name}: it is of another network or policy")
        samples = state["samples"]
        if samples is not None:
            if samples.shape != (len(self._rows), len(self._weights), CELL):
                raise ConfigError("the state's samples lie otherwise: it is of an earlier version")
            self._allocate()
            self._table.copy_(samples)
            self._filled = [set(range(len(self._parameters))) for _ in self._rows]

    @property
    def _sizes(self) -> list[int]:
        return [blocks.size for blocks in self._samples]

    def _allocate(self) -> None:
        """Make room for the samples, at least in float32, where the parameters are now."""
        dtype = torch.float32
        for parameter in self._parameters:
            if parameter.dtype.itemsize > 1:  # bytes that are frozen have no type in common with others
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
        """Copy the samples of tensors, one for each parameter, into a row; None is 0."""
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
            return parameter.grad  # of the update before: what momentum there would be, with a factor of 0
        return kept if isinstance(kept, Tensor) and kept.shape == parameter.shape else None

    def _looked_at(self) -> npt.NDArray[Any]:
        """Return the table, on the CPU; a complex number is two entries side by side."""
        table = (self._table if self._table.is_cpu else self._table.cpu()).numpy()
        return table.view(table.real.dtype)

    def _norm(self, row: npt.NDArray[Any]) -> Array:
        """Estimate the norm of each layer, shape (L,), from a row, shape (cells, entries of a cell)."""
        (squares,) = self._per_layer(np.vecdot(row, row)[None])
        norms: Array = np.sqrt(squares)
        return norms

    def _per_layer(self, products: Array) -> Array:
        """Add up what the cells have, shape (n, cells), scaled up, within layers, shape (n, L)."""
        sums: Array = np.add.reduceat(products * self._weights, self._first_cells, axis=1)
        if sums.shape[1] == self._n_layers:
            return sums
        of_layers = np.zeros((len(sums), self._n_layers))
        of_layers[:, self._present] = sums
        return of_layers

    def _frozen(self) -> set[int]:
        return {index for index, parameter in enumerate(self._parameters) if not parameter.requires_grad}

    def _leave_out(self, row: npt.NDArray[Any], parameters: set[int]) -> None:
        """Set to 0 what a row, shape (cells, entries of a cell), has of some parameters."""
        entries, n_each = row.reshape(-1), row.shape[-1] // CELL
        for index in parameters:
            begin = self._begins[index]
            entries[n_each * begin : n_each * (begin + self._samples[index].size)] = 0.0

    def _fill_in(self, signals: Mapping[str, Array], untrained: set[int]) -> None:
        """Give layers none of which is trained the mean of the others; of norms it is the geometric one.

        Args:
            signals: Each of shape (L,); written into.
            untrained: Parameters.
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
        """Complain of gradients that were cleared too early, if nothing else can be the reason, or all is 0 for long.

        Args:
            gradients: Those of an update of the first interval.
            last: Whether it was the interval's last one.
        """
        self._only_zeros = not any(bool(gradient.any()) for gradient in gradients)
        if not self._only_zeros:
            return
        # A new optimizer's momentum can only be of gradients, or of a weight decay that counts as one.
        decays = any(
            group.get("weight_decay", 0.0) and not group.get("decoupled_weight_decay", False)
            for group in self._optimizer.param_groups
        )
        momenta = [self._momentum_of(parameter) for parameter in self._parameters]
        if self._is_fresh and not decays and any(bool(kept.any()) for kept in momenta if kept is not None):
            raise ConfigError("all gradients are zero: call step() after optimizer.step() and before zero_grad()")
        if last:
            warnings.warn(
                f"all gradients of the first {self._interval} updates are zero: call step() after optimizer.step() "
                "and before zero_grad(), or the policy does not see them",
                stacklevel=4,
            )

    def _snr(self, gradients: npt.NDArray[Any], norms: Array, norm_of_sum: Array) -> Array:
        """Return the signal-to-noise ratio, shape (L,); gradients that are not finite do not count.

        Args:
            gradients: Samples, shape (updates, cells, entries of a cell).
            norms: Theirs, shape (updates, L).
            norm_of_sum: Shape (L,).
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
            raise ConfigError("a parameter has no shape yet: give the network a batch before")
        if parameter.is_meta:
            raise ConfigError("a parameter is on the meta device: it has no values to look at")
        if is_sharded(parameter):
            raise ConfigError(
                "parameters are sharded, and each process sees its own part of them; a policy that looks at no layer, "
                "ganno-light with n_layers=, will do"
            )


def _check_strided(gradients: Sequence[Tensor]) -> None:
    if any(gradient.layout != torch.strided for gradient in gradients):
        raise ConfigError("sparse gradients are not measured; a policy that looks at no layer, ganno-light, will do")
