"""A reactive learning-rate schedule of your own: it cuts the learning rate whenever the training loss has risen."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from optuna.distributions import FloatDistribution

from ganno_bench.schedulers import Controls, Scheduler


@dataclass(frozen=True)
class CutOnRise(Scheduler):
    """Multiplies a run's learning rate by `factor` when its mean training loss has risen."""

    interval: ClassVar[int] = 20  # updates between two decisions
    factor: float = 0.5

    @classmethod
    def search_space(cls):
        """Return what Optuna tunes, besides the base learning rate and the weight decay."""
        return {"factor": FloatDistribution(0.1, 0.9)}

    def init(self, run):
        """Return the state before the first update: the learning rate and the last loss of each run, shape (P,)."""
        return {"lr": run.base_lr, "loss": torch.full_like(run.base_lr, torch.inf)}

    def step(self, state, signals):
        """Return learning rates of shape (P, L), and the next state."""
        rose = signals.train_loss > state["loss"]  # False while the loss is NaN: before the first update
        lr = torch.where(rose, self.factor * state["lr"], state["lr"])
        return Controls(lr[:, None].repeat(1, signals.lr.shape[1])), {"lr": lr, "loss": signals.train_loss}
