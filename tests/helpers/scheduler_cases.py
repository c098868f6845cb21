"""What the tests of schedulers share: learning rates of ours, and of torch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.playing import play
from ganno_bench.testing.synthetic import SyntheticRuns, synthetic_runs
from ganno_bench.training.signals import Signals


def learning_rates(ref: str, total: int, runs: SyntheticRuns | None = None) -> Tensor:
    """Return what a scheduler makes of synthetic runs, shape (total, P, L)."""
    return play(load_scheduler(ref), runs or synthetic_runs(total)).controls[..., :-2]


def factors(ref: str, total: int) -> list[float]:
    """Return a closed form's learning rates over the base learning rate."""
    return (learning_rates(ref, total)[:, 0, 0] / synthetic_runs(1).base_lr[0]).tolist()


def torch_curve(make: Callable[[Optimizer], LRScheduler], base_lr: float, total: int) -> list[float]:
    """Return the learning rates of a torch scheduler that is stepped after every update."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=base_lr)
    scheduler = make(optimizer)
    curve = []
    for _ in range(total):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return curve


def signals(n_updates: int, total: int, **measured: Any) -> Signals:
    """Return signals of 2 runs with 3 layers; what isn't given is NaN or None."""
    blank = torch.full((2, 3), torch.nan, dtype=torch.float64)
    fields = {"diverged": torch.zeros(2, dtype=torch.bool), "lr": blank, "train_loss": blank[:, 0], **measured}
    return Signals(n_updates=n_updates, total_updates=total, **fields)
