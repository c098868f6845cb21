"""The optimizers of the package pytorch-optimizer as open-optimizer entries: `pytorch-optimizer:Lion`.

They compete zero-shot and replace every optimizer. They use the package's default learning rate, and the benchmark's
weight decay if they take one. Their other parameters are arguments: `pytorch-optimizer:Lion(betas=(0.95, 0.98))`.
Optimizers that need a closure, second derivatives or the network are refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cache
from inspect import Parameter, signature
from typing import Any, ClassVar

import torch
from torch import nn

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, did_you_mean, one_line
from ganno_bench.schedulers.library_schedule import argument_type, import_library
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry, Released
from ganno_bench.training.open_optimizer import OpenOptimizer
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["LibraryOptimizer", "library_optimizer"]

_PREFIX = "pytorch-optimizer:"


class _TwoPoints(OpenOptimizer):
    """An optimizer that computes gradients at another point than it evaluates; it has `train` and `eval`."""

    optimizer: Any

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.train()

    def eval(self) -> None:
        self.optimizer.eval()

    def train(self) -> None:
        self.optimizer.train()


@dataclass(frozen=True)
class LibraryOptimizer(OptimizerEntry):
    """Base of the classes that `library_optimizer` makes. Their fields are the arguments of the optimizer."""

    revision: ClassVar[int | None] = 1
    package: ClassVar[str | None] = "pytorch-optimizer"
    optimizer_class: ClassVar[type[torch.optim.Optimizer]]
    takes_decay: ClassVar[bool]

    def __post_init__(self) -> None:
        """Check the arguments, by making two updates of two small parameters.

        Raises:
            ConfigError: The optimizer refuses them, or needs more than gradients.
        """
        parameters = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))]
        with torch.random.fork_rng(devices=[]):
            try:
                optimizer = self._make(parameters, 0.0)
                for _ in range(2):
                    for parameter in parameters:
                        parameter.grad = torch.linspace(0.1, 1.0, parameter.numel()).view_as(parameter)
                    optimizer.step(next(iter(self.replaces.values())).base_lr)
            except Exception as error:
                raise ConfigError(
                    f"makes no update from its arguments and gradients alone: {one_line(error)}"
                ) from error

    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run; see `OptimizerEntry.optimizer`."""
        return self._make(parameters, weight_decay)

    def _make(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> OpenOptimizer:
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.takes_decay:
            arguments["weight_decay"] = weight_decay
        # No learning rate: it is set at each update.
        optimizer = self.optimizer_class(list(parameters), **arguments)
        return _TwoPoints(optimizer) if hasattr(optimizer, "eval") else OpenOptimizer(optimizer)


@cache
def library_optimizer(name: str) -> type[LibraryOptimizer]:
    """Return the entry class of an optimizer, whose arguments become its fields.

    Raises:
        UnknownNameError: The package has no such optimizer.
        MissingPackageError: The package is not installed.
        PluginError: The optimizer needs more than parameters, or has no default learning rate.
    """
    title = _PREFIX + name
    library = import_library("pytorch_optimizer", "pytorch-optimizer", title)
    classes = {cls.__name__: cls for cls in map(library.load_optimizer, library.get_supported_optimizers())}
    if name.lower().endswith(("schedule", "scheduler")):
        raise UnknownNameError(
            f"scheduler {title!r}: only optimizers of pytorch-optimizer can be named, not its schedules; "
            "use a built-in one, such as 'rex', 'polynomial' or 'wsd'"
        )
    if name not in classes and hasattr(library, name):
        raise PluginError(f"scheduler {title!r} needs more than parameters: it wraps an optimizer, or needs a closure")
    if name not in classes:
        raise UnknownNameError(f"pytorch-optimizer has no optimizer {name!r}{did_you_mean(name, classes)}")
    parameters = {
        key: parameter
        for key, parameter in signature(classes[name]).parameters.items()
        if key != "params" and parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    if needed := [key for key, parameter in parameters.items() if parameter.default is Parameter.empty]:
        raise PluginError(f"scheduler {title!r} needs more than parameters: it has no default for {needed[0]!r}")
    lr = parameters.pop("lr").default if "lr" in parameters else None
    if not isinstance(lr, int | float) or not 0 < lr < math.inf:
        raise PluginError(f"scheduler {title!r} has no default learning rate, from which a zero-shot entry starts")
    takes_decay = parameters.pop("weight_decay", None) is not None
    made = make_dataclass(
        name,
        [
            (key, argument_type(classes[name], parameter), field(default=parameter.default))
            for key, parameter in parameters.items()
        ],
        bases=(LibraryOptimizer,),
        frozen=True,
        namespace={
            "__doc__": f"`{name}` of the package `pytorch-optimizer`. Open-optimizer.",
            "__module__": __name__,
            "optimizer_class": classes[name],
            "takes_decay": takes_decay,
            "replaces": dict.fromkeys(("sgd", "adam", "adamw"), Released(name, float(lr))),
        },
    )
    assert issubclass(made, LibraryOptimizer)
    return made
