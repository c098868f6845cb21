"""The registry of model families; build networks from the descriptions in suites."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, did_you_mean, one_line
from ganno_bench.core.process_state import undisturbed
from ganno_bench.core.registry import Registry
from ganno_bench.workloads.data import TaskShape

__all__ = ["MODELS", "build_model", "check_model", "load_family"]

MODELS = Registry(
    "model",
    {
        "cnn": "ganno_bench.workloads.vision:CNN",
        "gcn": "ganno_bench.workloads.graph:GCN",
        "lstm": "ganno_bench.workloads.recurrent:LSTM",
        "mlp": "ganno_bench.workloads.vision:MLP",
        "resnet": "ganno_bench.workloads.resnet:ResNet",
        "transformer": "ganno_bench.workloads.text:Transformer",
    },
    group="ganno_bench.models",
    prefixes=("torchvision:",),
    accepts=lambda value: inspect.isfunction(value) or (inspect.isclass(value) and issubclass(value, nn.Module)),
)
"""Model families: classes or functions that take a `TaskShape` and keyword arguments and return an `nn.Module`.

A model draws no random numbers in training, so there is no dropout. State other than parameters, such as the running
statistics of BatchNorm, must be in persistent buffers; each run has its own. Constants are non-persistent buffers.
"""


def load_family(family: str) -> Any:
    """Return the class or function that builds a model of a family.

    Args:
        family: A registered name, `./file.py:Name`, or `torchvision:` and a classifier.

    Raises:
        UnknownNameError: There is no such family; the message has the nearest one.
        PluginError: The import failed, or the object is not callable.
    """
    if family.startswith("torchvision:"):
        # Imported here, because importing torchvision takes a second.
        from ganno_bench.workloads.torchvision_models import torchvision_family

        return torchvision_family(family)
    maker = MODELS.load(family)
    if not callable(maker):
        raise PluginError(f"model {family!r} must be a class or a function (found: {type(maker).__name__})")
    return maker


def check_model(model: Mapping[str, Any], file: str, key: str = "model") -> None:
    """Check a suite's description of a model: the family, and names and types of its arguments.

    Args:
        model: The description.
        file: The file, for messages.
        key: Key of the description in the file.

    Raises:
        ConfigError: An argument is unknown, missing or of the wrong type.
        UnknownNameError: There is no such family.
        PluginError: The code of the family cannot be used.
    """

    def where(name: str) -> str:
        return f"{file}: key '{key}.{name}'"

    family = model["family"]
    try:
        maker = load_family(family)
    except UnknownNameError as error:
        raise UnknownNameError(f"{where('family')}: {error}") from None
    except PluginError as error:
        raise PluginError(f"{where('family')}: {error}") from error
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
        # An int is a valid float. A bool is an int in Python, but not in a suite.
        kinds = (int, float) if wanted is float else wanted
        if isinstance(wanted, type) and (not isinstance(value, kinds) or isinstance(value, bool) != (wanted is bool)):
            raise ConfigError(f"{where(name)}: must be of type {wanted.__name__} (value: {value!r})")
        if wanted is int and not isinstance(value, bool) and value < 1:
            raise ConfigError(f"{where(name)}: must be at least 1 (value: {value!r})")
    for name, parameter in allowed.items():
        if parameter.default is inspect.Parameter.empty and name not in model:
            raise ConfigError(f"{where(name)}: is missing; model family {family!r} needs it")


def build_model(model: Mapping[str, Any], shape: TaskShape, seed: int) -> nn.Module:
    """Build a network, initialised from a seed. The initial parameters are the same on every device.

    Args:
        model: A suite's description, checked by `check_model`.
        shape: Shapes of inputs and outputs.
        seed: Seed of the initial parameters; it affects nothing else.

    Raises:
        ConfigError: The family does not take such data.
        PluginError: The code of the family raised an exception.
    """
    maker = load_family(model["family"])
    arguments = {name: value for name, value in model.items() if name != "family"}
    try:
        # The seed determines PyTorch's random numbers only; the guard finds a model that draws others.
        with undisturbed(f"model {model['family']!r}: building it"), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: nn.Module = maker(shape, **arguments)
    except (ConfigError, PluginError):
        raise
    except Exception as error:
        raise PluginError(f"model {model['family']!r} cannot be built: {one_line(error)}") from error
    return network
