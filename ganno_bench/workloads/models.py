"""The registry of model families, and how a suite's description becomes a network."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, did_you_mean
from ganno_bench.core.registry import Registry
from ganno_bench.workloads.data import TaskShape

__all__ = ["MODELS", "build_model", "check_model"]

MODELS = Registry(
    "model",
    {
        "cnn": "ganno_bench.workloads.vision:CNN",
        "gcn": "ganno_bench.workloads.graph:GCN",
        "mlp": "ganno_bench.workloads.vision:MLP",
        "transformer": "ganno_bench.workloads.text:Transformer",
    },
    group="ganno_bench.models",
)
"""Model families: classes (or functions) that take a `TaskShape` and keyword arguments and give an `nn.Module`.

A model computes with what its arguments and parameters say and nothing else: no dropout, no running statistics.
"""


def check_model(model: Mapping[str, Any], file: str, key: str = "model") -> None:
    """Check a suite's description of a model: `family`, and arguments that the family takes, of the right types.

    Args:
        model: The description.
        file: Where it stands, for messages.
        key: Its key there.

    Raises:
        ConfigError: An argument is unknown, missing or of the wrong type.
        UnknownNameError: There is no such family.
    """

    def where(name: str) -> str:
        return f"{file}: key '{key}.{name}'"

    family = model["family"]
    try:
        maker = MODELS.load(family)
    except UnknownNameError as error:
        raise UnknownNameError(f"{where('family')}: {error}") from None
    hints = typing.get_type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    allowed = {
        name: parameter
        for name, parameter in inspect.signature(maker).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name, value in model.items():
        if name == "family":
            continue
        if name not in allowed:
            raise ConfigError(f"{where(name)}: model family {family!r} has no {name!r}{did_you_mean(name, allowed)}")
        wanted = hints.get(name, object)
        # A whole number is a float, too. A bool is an int to Python, but not to whoever reads a suite.
        kinds = (int, float) if wanted is float else wanted
        if isinstance(wanted, type) and (not isinstance(value, kinds) or isinstance(value, bool) != (wanted is bool)):
            raise ConfigError(f"{where(name)}: is no {wanted.__name__} (value: {value!r})")
        if wanted is int and not isinstance(value, bool) and value < 1:
            raise ConfigError(f"{where(name)}: is less than 1 (value: {value!r})")
    for name, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and name not in model:
            raise ConfigError(f"{where(name)}: is missing; model family {family!r} needs it")


def build_model(model: Mapping[str, Any], shape: TaskShape, seed: int) -> nn.Module:
    """Build a network with the initialisation that a seed gives, the same on every device.

    Args:
        model: A suite's description, checked.
        shape: What goes in and out.
        seed: Decides the initial parameters and nothing else.

    Raises:
        ConfigError: The family and the data do not go together.
        PluginError: The family's code raised.
    """
    maker = MODELS.load(model["family"])
    arguments = {name: value for name, value in model.items() if name != "family"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network: nn.Module = maker(shape, **arguments)
        except ConfigError:
            raise
        except Exception as error:
            raise PluginError(f"model {model['family']!r} cannot be built: {type(error).__name__}: {error}") from error
    return network
