"""The optimizers of the package pytorch-optimizer as open-optimizer entries: `pytorch-optimizer:Lion`.

They compete zero-shot, from the learning rate that the package has for a default, in the place of every optimizer, with
the benchmark's weight decay where they take one. Whatever else they take is an argument: `pytorch-optimizer:Lion(
betas=(0.95, 0.98))`. What needs a closure, second derivatives or the network itself is refused.
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
    """An optimizer that takes gradients at another point than the one that counts: it has `train` and `eval`."""

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
    """Base of the classes that `library_optimizer` makes; their fields are the optimizer's arguments."""

    revision: ClassVar[int | None] = 1
    package: ClassVar[str | None] = "pytorch-optimizer"
    optimizer_class: ClassVar[type[torch.optim.Optimizer]]
    takes_decay: ClassVar[bool]

    def __post_init__(self) -> None:
        """Check the arguments by two updates of two small parameters.

        Raises:
            ConfigError: The optimizer refuses them, or cannot work from gradients alone.
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
                raise ConfigError(f"makes no update from gradients and its arguments: {one_line(error)}") from error

    def optimizer(self, parameters: Sequence[nn.Parameter], weight_decay: float, spec: WorkloadSpec) -> OpenOptimizer:
        """Return the optimizer of one run; see `OptimizerEntry.optimizer`."""
        return self._make(parameters, weight_decay)

    def _make(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> OpenOptimizer:
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.takes_decay:
            arguments["weight_decay"] = weight_decay
        # The learning rate is set at each update.
        optimizer = self.optimizer_class(list(parameters), **arguments)
        return _TwoPoints(optimizer) if hasattr(optimizer, "eval") else OpenOptimizer(optimizer)


@cache
def library_optimizer(name: str) -> type[LibraryOptimizer]:
    """Return an entry for an optimizer of the package, whose arguments become its fields.

    Raises:
        UnknownNameError: The package has no such optimizer.
        MissingPackageError: The package is not installed.
        PluginError: It is not made from parameters alone, or has no default learning rate.
    """
    title = _PREFIX + name
    library = import_library("pytorch_optimizer", "pytorch-optimizer", title)
    classes = {cls.__name__: cls for cls in map(library.load_optimizer, library.get_supported_optimizers())}
    if name.lower().endswith(("schedule", "scheduler")):
        raise UnknownNameError(
            f"{title!r}: only the optimizers of pytorch-optimizer take part, not its schedules; "
            "'rex', 'polynomial', 'wsd' and others are built in"
        )
    if name not in classes and hasattr(library, name):
        raise PluginError(f"{title!r} is not made from parameters alone: it wraps an optimizer, or needs a closure")
    if name not in classes:
        raise UnknownNameError(f"pytorch-optimizer has no optimizer {name!r}{did_you_mean(name, classes)}")
    parameters = {
        key: parameter
        for key, parameter in signature(classes[name]).parameters.items()
        if key != "params" and parameter.kind not in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    }
    if needed := [key for key, parameter in parameters.items() if parameter.default is Parameter.empty]:
        raise PluginError(f"scheduler {title!r} is not made from parameters alone, it needs {needed[0]!r}")
    lr = parameters.pop("lr").default if "lr" in parameters else None
    if not isinstance(lr, int | float) or not 0 < lr < math.inf:
        raise PluginError(f"scheduler {title!r} has no default learning rate to compete with")
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
