"""The contract of an observation.

class TestMine(ObservationContract):
    ref = "./mine.py:trend"
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError, did_you_mean
from ganno_bench.policies.observations import (
    LIMIT,
    Feature,
    Memory,
    NumberView,
    View,
    before_it_begins,
    load_feature,
)
from ganno_bench.testing.contract import Check, CheckResult, Contract, check_all, unchanged
from ganno_bench.testing.playing import ContractError, first_line
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.training.signals import LAYER_SIGNALS, OPTIONAL_SIGNALS

__all__ = ["CHECKS", "ObservationContract", "check_observation", "load_entry"]

_LOOKS = (0, 10, 25, 60)
"""Number of updates done at each decision."""


def load_entry(ref: str) -> Feature:
    """Return a feature, given a registered name or `./file.py:name`.

    Raises:
        UnknownNameError: There is no such observation.
        PluginError: It is not a feature, or it needs an unknown signal.
    """
    found = load_feature(ref, files=True)
    if unknown := sorted(found.needs - set(OPTIONAL_SIGNALS)):
        nearest = did_you_mean(unknown[0], OPTIONAL_SIGNALS)
        raise PluginError(f"observation {ref!r} needs the unknown signal {unknown[0]!r}{nearest}")
    return found


def check_shape(feature: Feature) -> None:
    """It is a floating-point tensor with a value for each agent, shape (P, L), or each run, shape (P, 1)."""
    for view in views(synthetic_runs(60)):
        seen, (n_runs, n_layers) = feature.compute(view), view.lr.shape
        if not isinstance(seen, Tensor) or not seen.is_floating_point():
            got = str(seen.dtype) if isinstance(seen, Tensor) else type(seen).__name__
            raise ContractError(f"{_when(view)}: expected a floating-point tensor, got {got}")
        if seen.shape not in ((n_runs, n_layers), (n_runs, 1)):
            raise ContractError(
                f"{_when(view)}: expected shape {(n_runs, n_layers)} or {(n_runs, 1)}, got {tuple(seen.shape)}"
            )


def check_finite(feature: Feature) -> None:
    """It is finite after two updates. Before that it may be NaN, which agents see as 0."""
    runs = synthetic_runs(60)
    for view in views(runs, looks=range(runs.total + 1)):
        seen = feature.compute(view)
        if view.signals.n_updates > 1 and not bool(seen.isfinite().all()):
            raise ContractError(f"{_when(view)}: expected finite values, got {float(seen[~seen.isfinite()][0])}")


def check_range(feature: Feature) -> None:
    """Most values lie within the limits. Agents see only the limit of a value outside."""
    seen = torch.cat([feature.compute(view).flatten() for view in views(synthetic_runs(60))]).nan_to_num(0.0)
    beyond = (seen.abs() > LIMIT).double().mean().item()
    if beyond > 0.5:
        raise ContractError(
            f"expected values within [-{LIMIT:g}, {LIMIT:g}], got {beyond:.0%} outside, up to {seen.abs().max():.3g}"
        )


def check_needs(feature: Feature) -> None:
    """Its values are the same if the signals that `needs` does not name are None."""
    full, reduced = synthetic_runs(60), synthetic_runs(60)
    for view, less in zip(views(full), views(reduced, feature.needs), strict=True):
        try:
            seen = feature.compute(less)
        except Exception as error:
            raise ContractError(
                f"{_when(view)}, with needs = {sorted(feature.needs)} and the other signals None: "
                f"raised {first_line(error)}"
            ) from error
        unchanged(feature.compute(view), seen, f"{_when(view)}: with needs = {sorted(feature.needs)}")


def check_deterministic(feature: Feature) -> None:
    """The same runs give the same values again."""
    for view in views(synthetic_runs(60)):
        unchanged(feature.compute(view), feature.compute(view), f"{_when(view)}: the second time")


def check_inputs_unchanged(feature: Feature) -> None:
    """It does not change its view in place."""
    for view in views(synthetic_runs(60)):
        before = copy.deepcopy(view)
        feature.compute(view)
        unchanged(before, view, f"{_when(view)}: changed view")


def check_independent_runs(feature: Feature) -> None:
    """The values of a run are the same at any place among the runs, and alone."""
    runs = synthetic_runs(60)
    for others in ([2, 0, 1], [1]):
        for view, fewer in zip(views(runs), views(runs.select(others)), strict=True):
            expected, got = feature.compute(view)[others], feature.compute(fewer)
            if not torch.allclose(got, expected, rtol=1e-12, atol=1e-12, equal_nan=True):
                raise ContractError(f"{_when(view)}: expected the same for runs {others} as among [0, 1, 2]")


def check_numbers(feature: Feature) -> None:
    """`of_run`, if it has one, returns the same values from plain numbers and arrays, for a single run.

    If it declares itself constant, it reads only what is known before the first update.
    """
    if feature.of_run is None:
        return
    if feature.constant:
        try:
            feature.of_run(before_it_begins(_of_ones().run))
        except AttributeError as error:
            raise ContractError(f"constant, but not a function of view.run alone: {error}") from error
    for view in (*views(synthetic_runs(60).select([1])), _of_ones()):
        alike = replace(view, **{name: getattr(view, name)[:, :1].expand_as(view.lr) for name in ("lr", "log_factor")})
        for seen, one in ((view, _of_arrays(view)), (alike, _of_numbers(alike))):
            try:
                with np.errstate(all="ignore"):
                    got = np.asarray(feature.of_run(one), dtype=np.float64)
            except Exception as error:
                raise ContractError(f"{_when(view)}, from plain numbers: raised {first_line(error)}") from error
            if got.shape not in ((view.run.n_layers,), ()):
                raise ContractError(
                    f"{_when(view)}, from plain numbers: expected shape {(view.run.n_layers,)} or a number, "
                    f"got {got.shape}"
                )
            expected = feature.compute(seen)[0].expand(view.run.n_layers).double().numpy()
            same = np.isclose(np.broadcast_to(got, expected.shape), expected, rtol=1e-12, atol=1e-12, equal_nan=True)
            if not same.all():
                wanted, found = (np.broadcast_to(values, same.shape)[~same][0] for values in (expected, got))
                raise ContractError(f"{_when(view)}, from plain numbers: expected {wanted}, got {found}")


def _of_arrays(view: View) -> NumberView:
    """Return a view of one run, with an array for the values of its layers."""
    losses = {"train": view.signals.train_loss, "val": view.signals.val_loss, **vars(view.memory)}
    numbers: dict[Any, float] = {name: float(loss) for name, loss in losses.items()}
    layers = {name: view.layer(name)[0].numpy() for name in LAYER_SIGNALS}
    return NumberView(view.run, view.progress, view.lr[0].numpy(), view.log_factor[0].numpy(), numbers, layers)


def _of_numbers(view: View) -> NumberView:
    """Return a view of one run, with a number for the learning rate that all layers share."""
    one = _of_arrays(view)
    return replace(one, lr=float(view.lr[0, 0]), log_factor=float(view.log_factor[0, 0]))


_GATES = (check_shape,)
CHECKS: tuple[Check, ...] = (
    *_GATES,
    check_finite,
    check_range,
    check_needs,
    check_deterministic,
    check_inputs_unchanged,
    check_independent_runs,
    check_numbers,
)
"""Each check takes a `Feature`."""


def check_observation(ref: str) -> list[CheckResult]:
    """Check an observation against the contract.

    Args:
        ref: A registered name, or `./file.py:name`.
    """
    return check_all(lambda: load_entry(ref), CHECKS, _GATES)


class ObservationContract(Contract):
    """The contract as pytest tests. Derive a class `Test...` and set `ref`."""

    checks: ClassVar[Sequence[Check]] = CHECKS
    load = staticmethod(load_entry)


def views(
    runs: SyntheticRuns, needs: Collection[str] = OPTIONAL_SIGNALS, looks: Sequence[int] = _LOOKS
) -> Iterator[View]:
    """Yield views from which an observation is computed: by default the first, two in between, and the last.

    Args:
        runs: The runs.
        needs: Optional signals; the others are None.
        looks: Number of updates done at each decision.
    """
    run = runs.info()
    memory, since = Memory.blank(run), 0
    base = run.base_lr[:, None] * torch.linspace(0.1, 3.0, run.n_layers, dtype=torch.float64)
    for done in looks:
        signals = runs.signals(done, since, base / (1 + done), needs)
        lr = torch.where(signals.lr.isnan(), run.base_lr[:, None], signals.lr)
        log_factor = (lr / run.base_lr[:, None]).log()
        yield View(signals, run, memory, lr, log_factor, log_factor.mean(1))
        memory, since = memory.updated(signals), done


def _of_ones() -> View:
    """Return a view in which all losses are 1, so that their logarithms are 0."""
    *_, view = views(synthetic_runs(60).select([1]))
    one = torch.ones_like(view.signals.train_loss)
    return replace(view, signals=replace(view.signals, train_loss=one, val_loss=one), memory=Memory(*[one] * 5))


def _when(view: View) -> str:
    return f"after {view.signals.n_updates} updates"
