"""A reactive learning-rate schedule of your own: it cuts the learning rate whenever the training loss has risen."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from optuna.distributions import FloatDistribution

from ganno_bench.schedulers import Controls, Scheduler


@dataclass(frozen=True)
class CutOnRise(Scheduler):
    """Cuts a run's learning rate whenever its training loss has risen."""

    interval: ClassVar[int | None] = 10  # updates between two decisions
    cut: float = 0.8

    @classmethod
    def search_space(cls):
        """Return what Optuna tunes, besides the base learning rate and the weight decay."""
        return {"cut": FloatDistribution(0.3, 0.99)}

    def init(self, run):
        """Return the state before the first update: the learning rate and the last loss of each run, shape (P,)."""
        return {"lr": run.base_lr.clone(), "loss": torch.full_like(run.base_lr, torch.nan)}

    def step(self, state, signals):
        """Return learning rates of shape (P, L), and the next state."""
        rose = signals.train_loss > state["loss"]  # False for NaN: before the first update, and in a diverged run
        lr = torch.where(rose, self.cut * state["lr"], state["lr"])
        per_layer = lr[:, None].repeat(1, signals.lr.shape[1])
        return Controls(per_layer), {"lr": lr, "loss": signals.train_loss.to(lr.dtype)}
