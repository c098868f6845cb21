"""Lets an open optimizer train two runs of a small network, and checks the resulting parameters."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ganno_bench.schedulers.optimizer_entry import OptimizerEntry
from ganno_bench.testing.playing import ContractError
from ganno_bench.training.backends import LoopBackend
from ganno_bench.training.layout import Layout
from ganno_bench.training.open_optimizer import OpenOptimizers
from ganno_bench.workloads.layers import partition
from ganno_bench.workloads.suite import OptimizerSpec, WorkloadSpec

__all__ = ["check_training"]

_UPDATES, _BATCH, _INPUTS, _CLASSES = 20, 8, 4, 3


def check_training(scheduler: OptimizerEntry, spec: OptimizerSpec) -> None:
    """Check an open optimizer that replaces the optimizer `spec`.

    Raises:
        ContractError: Its updates are not finite or change nothing, or the parameters differ, bit by bit, if the runs
            are trained again, alone, or with evaluations in between.
    """
    expected, rates = _train(scheduler, spec, runs=(0, 1))
    if not bool((rates.isfinite() & (rates >= 0.0)).all()):
        raise ContractError(f"expected finite effective learning rates >= 0, got {rates.min().item()}")
    start, _ = _train(scheduler, spec, runs=(0, 1), n_updates=0)
    if not expected.isfinite().all() or bool((expected == start).all(1).any()):
        raise ContractError(f"expected finite parameters that changed in {_UPDATES} updates")
    for what, got, wanted in (
        ("if trained again", _train(scheduler, spec, runs=(0, 1))[0], expected),
        ("if trained alone", _train(scheduler, spec, runs=(1,))[0], expected[1:]),
        ("if evaluated after every update", _train(scheduler, spec, runs=(0, 1), evaluating=True)[0], expected),
    ):
        if not torch.equal(got, wanted):
            raise ContractError(f"expected the same parameters {what}, they differ by {(got - wanted).abs().max()}")


def _train(
    scheduler: OptimizerEntry,
    spec: OptimizerSpec,
    runs: tuple[int, ...],
    n_updates: int = _UPDATES,
    evaluating: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the parameters that are evaluated at the end, shape (P, N), and effective learning rates, (n, P)."""
    workload = WorkloadSpec(
        id="small", dataset="noise", model={}, optimizer=spec, batch_size=_BATCH, n_updates=_UPDATES
    )
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        network = nn.Sequential(nn.Linear(_INPUTS, 16), nn.Tanh(), nn.Linear(16, _CLASSES))
    layout = Layout(network, partition(network))
    parameters = torch.zeros(2, layout.n_columns)
    for view in layout.views(parameters):
        view.copy_(0.3 * torch.randn(view.shape, generator=generator))
    parameters = parameters[list(runs)]
    gradients = torch.zeros_like(parameters)
    backward = LoopBackend(network, layout).bind(parameters, gradients, {})
    makers = [partial(scheduler.optimizer, spec=workload)] * len(runs)
    optimizers = OpenOptimizers(makers, layout, parameters, gradients, torch.full((len(runs),), 1e-2))
    base_lr = scheduler.released(spec.name).base_lr
    rates = [torch.zeros(len(runs), dtype=torch.float64)]
    for update in range(n_updates):
        inputs = torch.randn(_BATCH, _INPUTS, generator=generator).expand(len(runs), -1, -1)
        targets = torch.randint(_CLASSES, (_BATCH,), generator=generator).expand(len(runs), -1)
        losses = backward(inputs, targets)
        lr = base_lr * scheduler.factor(update, _UPDATES)
        with torch.no_grad():
            rates.append(optimizers.step(losses, torch.full_like(rates[0], lr)))
            if evaluating:
                optimizers.evaluated()
    with torch.no_grad():
        return optimizers.evaluated(), torch.stack(rates)
