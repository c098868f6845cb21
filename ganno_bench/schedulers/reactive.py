"""Reactive schedulers: they change the learning rate according to the losses or gradients of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from optuna.distributions import BaseDistribution, FloatDistribution

from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.values import require
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["Hypergradient", "Plateau"]


@dataclass(frozen=True)
class Plateau(Scheduler):
    """Multiplies a run's learning rate by `factor` when its validation loss has stopped falling.

    It checks the validation loss up to `n_checks` times, at equal distances. A check is bad unless the loss is below
    `1 - threshold` times the lowest loss so far. More than `round(patience * number of checks)` bad checks in a row are
    a plateau. Each run equals torch's `ReduceLROnPlateau` with that patience and the same losses.

    Attributes:
        factor: The number by which a plateau multiplies the learning rate, in (0, 1).
        patience: How long the loss may fail to fall, as a share of the horizon.
        threshold: Smallest relative decrease of the loss that counts, in [0, 1).
        n_checks: Largest number of checks per run.
    """

    revision: ClassVar[int | None] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"val_loss"})
    interval: ClassVar[int | None] = None
    _EPS: ClassVar[float] = 1e-8
    """Changes of the learning rate that are not larger than this are skipped, as in torch."""

    factor: float = 0.1
    patience: float = 0.1
    threshold: float = 1e-4
    n_checks: int = 100

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "factor", 0 < self.factor < 1, "in (0, 1)")
        require(self, "patience", 0 <= self.patience <= 1, "in [0, 1]")
        require(self, "threshold", 0 <= self.threshold < 1, "in [0, 1)")
        require(self, "n_checks", self.n_checks >= 1, "at least 1")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune the factor and the patience."""
        return {"factor": FloatDistribution(0.1, 0.8, log=True), "patience": FloatDistribution(0.02, 0.2)}

    def init(self, run: RunInfo) -> State:
        """Return learning rate, lowest loss (nats) and number of bad checks in a row of each run, shape (P,) each."""
        return {
            "lr": run.base_lr.clone(),
            "best": torch.full_like(run.base_lr, torch.inf),
            "n_bad": torch.zeros_like(run.base_lr, dtype=torch.int64),
        }

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Check the validation losses, and return a block of learning rates up to the next check."""
        total = signals.total_updates
        every = -(-total // self.n_checks)  # updates between checks
        lr, best, n_bad = state["lr"], state["best"], state["n_bad"]
        if signals.n_updates > 0:
            assert signals.val_loss is not None
            loss = signals.val_loss.to(best.dtype)
            better = loss < best * (1.0 - self.threshold)  # a diverged run's NaN is never better
            best = torch.where(better, loss, best)
            n_bad = torch.where(better, 0, n_bad + 1)
            plateau = n_bad > round(self.patience * total / every)
            lower = lr * self.factor
            lr = torch.where(plateau & (lr - lower > self._EPS), lower, lr)
            n_bad = torch.where(plateau, 0, n_bad)
        n = max(1, min(every, total - signals.n_updates))
        block = lr[None, :, None].repeat(n, 1, signals.lr.shape[1])
        return Controls(block), {"lr": lr, "best": best, "n_bad": n_bad}


@dataclass(frozen=True)
class Hypergradient(Scheduler):
    """Raises a layer's learning rate while its gradients keep their direction, and lowers it while they reverse.

    After each update `lr <- lr * (1 + beta * cosine)`. The cosine is the one between the layer's gradient and its
    momentum before the update. This is the multiplicative rule of Baydin et al. 2018, "Online Learning Rate Adaptation
    with Hypergradient Descent", with two differences. Each layer is a parameter group with its own learning rate. The
    cosine of an update changes the learning rate of the next update, because it is known only afterwards.

    A cosine that was not measured (before the first update, or in a diverged run) changes nothing. Learning rates stay
    within 1e-6 to 1e6 times the base learning rate.

    Attributes:
        beta: Largest relative change of the learning rate in one update, in [0, 1].
    """

    revision: ClassVar[int | None] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"grad_cosine"})

    beta: float = 0.02

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "beta", 0 <= self.beta <= 1, "in [0, 1]")

    @classmethod
    def search_space(cls) -> Mapping[str, BaseDistribution]:
        """Tune beta."""
        return {"beta": FloatDistribution(1e-3, 0.1, log=True)}

    def init(self, run: RunInfo) -> State:
        """Return the base learning rate and the factor of each layer, shape (P, L) each."""
        base = run.base_lr[:, None].repeat(1, run.n_layers)
        return {"base": base, "factor": torch.ones_like(base)}

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Change the factors according to the cosines of the last update."""
        assert signals.grad_cosine is not None
        cosine = signals.grad_cosine.nan_to_num(0.0, 0.0, 0.0)
        factor = (state["factor"] * (1.0 + self.beta * cosine)).clamp(1e-6, 1e6)
        return Controls(state["base"] * factor), {"base": state["base"], "factor": factor}
