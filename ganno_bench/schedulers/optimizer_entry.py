"""Entries that replace the workload's optimizer by a released one: *open-optimizer* entries, marked so in tables.

They compete zero-shot, from the learning rates of their literature, with the benchmark's default weight decay. All else
is as for everyone: initialisation, data order, number of updates, evaluation.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

from prodigyopt import Prodigy as ReleasedProdigy
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn

from ganno_bench.core.errors import PluginError
from ganno_bench.schedulers.base import ClosedForm
from ganno_bench.schedulers.values import require
from ganno_bench.training.open_optimizer import OpenOptimizer
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["OptimizerEntry", "Prodigy", "Released", "ScheduleFree"]


@dataclass(frozen=True)
class Released:
    """What takes the place of a workload's optimizer.

    Attributes:
        name: Name of the class in its package.
        base_lr: Base learning rate, the same for all workloads with the optimizer that is replaced.
    """

    name: str
    base_lr: float


@dataclass(frozen=True)
class OptimizerEntry(ClosedForm):
    """A schedule and the optimizer that it is for, which trains in the place of the workload's.

    `factor` times the base learning rate is what the optimizer is given; what it makes of it is recorded.
    """

    package: ClassVar[str | None] = None
    """Distribution that releases the optimizer; its version is recorded, and another version is other code. None: it is
    defined beside the entry."""

    replaces: ClassVar[Mapping[str, Released]] = {}
    """Name of the workload's optimizer -> what takes its place."""

    zero_shot: ClassVar[bool] = True

    @abstractmethod
    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run.

        Args:
            parameters: Of the network, from input to output.
            weight_decay: The benchmark's default for the optimizer that is replaced.
            spec: The workload.
        """

    @classmethod
    def released(cls, optimizer: str) -> Released:
        """Return what takes the place of a workload's optimizer.

        Raises:
            PluginError: It replaces others only.
        """
        if optimizer not in cls.replaces:
            known = ", ".join(cls.replaces) or "no optimizer"
            raise PluginError(f"scheduler {cls.__name__!r} replaces {known}, not {optimizer!r}")
        return cls.replaces[optimizer]

    @classmethod
    def release(cls) -> str:
        """Return the package and its version, or nothing without a package."""
        return "" if cls.package is None else f"{cls.package} {version(cls.package)}"

    def factor(self, update: int, total: int) -> float:
        """Return 1: the optimizer is given its base learning rate, always."""
        return 1.0


class _ScheduleFreeRun(OpenOptimizer):
    optimizer: SGDScheduleFree | AdamWScheduleFree

    def __init__(self, optimizer: SGDScheduleFree | AdamWScheduleFree) -> None:
        super().__init__(optimizer)
        self.train()

    def step(self, lr: float) -> float:
        super().step(lr)
        return float(self.optimizer.param_groups[0]["scheduled_lr"])

    def eval(self) -> None:
        self.optimizer.eval()

    def train(self) -> None:
        self.optimizer.train()


@dataclass(frozen=True)
class ScheduleFree(OptimizerEntry):
    """Schedule-Free SGD (for `sgd`) or AdamW (for the others), which average instead of decaying. Open-optimizer.

    Defazio et al., The Road Less Scheduled (2024), through the package `schedulefree`, at its default learning rates:
    1.0 for SGD, 0.0025 for AdamW. Gradients are taken at one point and losses at another, the average. The workload's
    momentum (0.9 where it has none, since the method needs one), betas and epsilon hold; weight decay is an L2 penalty
    for SGD and decoupled for AdamW, as in the package.
    """

    revision: ClassVar[int | None] = 1

    warmup: float = 0.05
    """Share of the run in which the learning rate grows linearly; the authors recommend some."""

    package: ClassVar[str | None] = "schedulefree"
    replaces: ClassVar[Mapping[str, Released]] = {
        "sgd": Released("SGDScheduleFree", 1.0),
        "adam": Released("AdamWScheduleFree", 0.0025),
        "adamw": Released("AdamWScheduleFree", 0.0025),
    }

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "warmup", 0 <= self.warmup < 1, "in [0, 1)")

    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run; see `OptimizerEntry.optimizer`."""
        own, base_lr = spec.optimizer, self.released(spec.optimizer.name).base_lr
        common = {"weight_decay": weight_decay, "warmup_steps": round(self.warmup * spec.n_updates)}
        if own.name == "sgd":
            return _ScheduleFreeRun(SGDScheduleFree(parameters, base_lr, own.momentum or 0.9, **common))
        return _ScheduleFreeRun(AdamWScheduleFree(parameters, base_lr, own.betas, own.eps, **common))


class _ProdigyRun(OpenOptimizer):
    def step(self, lr: float) -> float:
        estimate = float(self.optimizer.param_groups[0]["d"])  # the update raises it for the next one
        return estimate * super().step(lr)


@dataclass(frozen=True)
class Prodigy(OptimizerEntry):
    """Prodigy: Adam, with a learning rate estimated from the distance travelled, first guess d0. Open-optimizer.

    Mishchenko and Defazio (2023), through the package `prodigyopt`, with the learning rate 1.0 that its authors
    recommend for all networks; what is recorded is the estimate that it is multiplied by. It takes the place of every
    optimizer, SGD too, with the workload's betas and epsilon; weight decay is decoupled, as in the package.
    """

    revision: ClassVar[int | None] = 1

    safeguard_warmup: bool = True
    """Keep the learning rate out of the estimate's denominator; recommended wherever the rate is not constant."""

    bias_correction: bool = True
    """Adam's bias correction."""

    anneal: bool = False
    """Cosine annealing to 0, which the authors recommend as often as a constant."""

    d0: float = 1e-6
    """First estimate of the distance, above 0. The package's default is for long runs: from there the estimate takes
    some hundred updates to grow. So `prodigy(d0=0.001)` stands on the board beside it; `docs/protocol.md` says more."""

    package: ClassVar[str | None] = "prodigyopt"
    replaces: ClassVar[Mapping[str, Released]] = dict.fromkeys(("sgd", "adam", "adamw"), Released("Prodigy", 1.0))

    def __post_init__(self) -> None:
        """Raise a ConfigError if a hyperparameter is out of its range."""
        require(self, "d0", self.d0 > 0, "above 0")

    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run; see `OptimizerEntry.optimizer`."""
        own = spec.optimizer
        optimizer = ReleasedProdigy(
            parameters,
            self.released(own.name).base_lr,
            betas=own.betas,
            eps=own.eps,
            use_bias_correction=self.bias_correction,
            safeguard_warmup=self.safeguard_warmup,
            d0=self.d0,
        )
        optimizer.param_groups[0]["weight_decay"] = weight_decay  # as an argument it would be announced on the screen
        return _ProdigyRun(optimizer)

    def factor(self, update: int, total: int) -> float:
        """Return 1, or a cosine from 1 to 0."""
        return 0.5 * (1.0 + math.cos(math.pi * update / total)) if self.anneal else 1.0
