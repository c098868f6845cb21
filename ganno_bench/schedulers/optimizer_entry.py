"""Open-optimizer entries, which replace the workload's optimizer by a released one.

They compete zero-shot, with the learning rates of their literature and the benchmark's default weight decay. They share
everything else with the other entries: initialisation, data order, number of updates, evaluation.
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
    """The replacement of a workload's optimizer.

    Attributes:
        name: Name of the class in its package.
        base_lr: Base learning rate on all workloads with the replaced optimizer.
    """

    name: str
    base_lr: float


@dataclass(frozen=True)
class OptimizerEntry(ClosedForm):
    """A schedule together with an optimizer that replaces the workload's.

    The optimizer gets `factor` times the base learning rate. Records contain the effective learning rate.
    """

    package: ClassVar[str | None] = None
    """Distribution that releases the optimizer. Its version is recorded, and another version counts as other code. None
    if the optimizer is defined in the same file as the entry."""

    replaces: ClassVar[Mapping[str, Released]] = {}
    """Name of the workload's optimizer -> its replacement."""

    zero_shot: ClassVar[bool] = True

    @abstractmethod
    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run.

        Args:
            parameters: Parameters of the network, from input to output.
            weight_decay: The benchmark's default for the replaced optimizer.
            spec: The workload.
        """

    @classmethod
    def released(cls, optimizer: str) -> Released:
        """Return the replacement of a workload's optimizer.

        Raises:
            PluginError: The entry does not replace this optimizer.
        """
        if optimizer not in cls.replaces:
            known = ", ".join(cls.replaces) or "no optimizer"
            raise PluginError(f"scheduler {cls.__name__!r} replaces {known}, not {optimizer!r}")
        return cls.replaces[optimizer]

    @classmethod
    def release(cls) -> str:
        """Return the package and its version; empty without a package."""
        return "" if cls.package is None else f"{cls.package} {version(cls.package)}"

    def factor(self, update: int, total: int) -> float:
        """Return 1: the optimizer always gets its base learning rate."""
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

    Defazio et al., The Road Less Scheduled (2024), from the package `schedulefree`, with its default learning rates:
    1.0 for SGD, 0.0025 for AdamW. It computes gradients at one point and losses at another, the average. It uses the
    workload's momentum, betas and epsilon. The method needs a momentum, so 0.9 is used for a workload without one.
    Weight decay is an L2 penalty for SGD and decoupled for AdamW, as in the package.
    """

    revision: ClassVar[int | None] = 1

    warmup: float = 0.05
    """Share of the run in which the learning rate grows linearly, in [0, 1). The authors recommend a warmup."""

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
        estimate = float(self.optimizer.param_groups[0]["d"])  # before the update, which may raise it for the next one
        return estimate * super().step(lr)


@dataclass(frozen=True)
class Prodigy(OptimizerEntry):
    """Prodigy: Adam, with a learning rate estimated from the distance travelled, first guess d0. Open-optimizer.

    Mishchenko and Defazio (2023), from the package `prodigyopt`, with the learning rate 1.0 that its authors recommend
    for all networks. Records contain the estimate times this rate. It replaces every optimizer, also SGD, and uses the
    workload's betas and epsilon. Weight decay is decoupled, as in the package.
    """

    revision: ClassVar[int | None] = 1

    safeguard_warmup: bool = True
    """Keep the learning rate out of the denominator of the estimate; recommended if the rate is not constant."""

    bias_correction: bool = True
    """Adam's bias correction."""

    anneal: bool = False
    """Cosine annealing to 0. The authors recommend both this and a constant."""

    d0: float = 1e-6
    """First estimate of the distance, above 0. The package's default suits long runs: the estimate needs some hundred
    updates to grow from it. So the leaderboard also has `prodigy(d0=0.001)`; see `docs/protocol.md`."""

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
        optimizer.param_groups[0]["weight_decay"] = weight_decay  # given as an argument, Prodigy would print a message
        return _ProdigyRun(optimizer)

    def factor(self, update: int, total: int) -> float:
        """Return 1, or a cosine from 1 to 0."""
        return 0.5 * (1.0 + math.cos(math.pi * update / total)) if self.anneal else 1.0
