"""Every image classifier of torchvision as a model family: `torchvision:resnet18`, `torchvision:VisionTransformer`."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models
from torchvision.ops import StochasticDepth

from ganno_bench.core.errors import ConfigError, UnknownNameError, did_you_mean, one_line
from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.vision import require_inputs

__all__ = ["PREFIX", "torchvision_family", "torchvision_names"]

PREFIX = "torchvision:"
_RANDOM = ("dropout", "drop_rate", "stochastic_depth")  # parts of names of arguments and attributes
_FROM_DATA = ("num_classes", "image_size", "input_size")


def torchvision_names() -> list[str]:
    """Return the names that may follow `torchvision:`, sorted: models, and model classes with plain arguments."""
    found = [name for name, value in vars(models).items() if inspect.isclass(value) and _by_class(value)]
    return sorted([*models.list_models(module=models), *found])


@cache
def torchvision_family(family: str) -> Callable[..., nn.Module]:
    """Return a function that builds a classifier of torchvision, in the form of a family of `MODELS`.

    Its keyword arguments are the arguments of the model's class that are numbers, strings or lists of these. The data
    determine the number of classes and the size of images. Dropout and stochastic depth are 0. Weights are initialised
    by torchvision, never downloaded. For grayscale images, the first convolution has one channel, and its weights are
    the sums over the three channels that torchvision has drawn. So the network computes the same as the colour network
    on gray images.

    Args:
        family: `torchvision:` and a model, such as `resnet18`, or a class, such as `VisionTransformer`, which has more
            arguments.

    Raises:
        UnknownNameError: torchvision has no such classifier; the message has the nearest one.
    """
    name = family.removeprefix(PREFIX)
    if name not in torchvision_names():
        nearest = did_you_mean(family, [PREFIX + known for known in torchvision_names()])
        raise UnknownNameError(f"unknown model {family!r}{nearest}")
    by_class = inspect.isclass(getattr(models, name, None))
    builder = getattr(models, name) if by_class else models.get_model_builder(name)
    known = _parameters(builder if by_class else typing.get_type_hints(builder)["return"])
    fixed: dict[str, Any] = {"init_weights": True}
    if by_class:  # a model's function may fix this argument; `_switch_off_randomness` handles that
        fixed |= {argument: 0.0 for argument in known if _is_random(argument)}

    def make(shape: TaskShape, **arguments: Any) -> nn.Module:
        values = fixed | _from_data(family, shape, known)
        try:
            network: nn.Module = builder(**{name: values[name] for name in known if name in values} | arguments)
        except TypeError as error:
            if taken := re.search(r"multiple values for keyword argument '(\w+)'", str(error)):
                raise ConfigError(
                    f"model family {family!r} sets {taken[1]!r} itself; use a family by class with this argument, such "
                    f"as {PREFIX + 'VisionTransformer'!r}"
                ) from error
            raise
        _switch_off_randomness(network)
        if shape.input_shape[0] == 1:
            _take_one_channel(network)
        _check_logits(family, network, shape)
        return network

    allowed = {
        parameter.name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in known.values()
        if _is_plain(parameter.annotation) and parameter.name not in _FROM_DATA and not _is_random(parameter.name)
    }
    if not by_class:  # a model's function gives the arguments that the class requires
        allowed = {name: parameter.replace(default=None) for name, parameter in allowed.items()}
    first = inspect.Parameter("shape", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=TaskShape)
    make.__signature__ = inspect.Signature([first, *allowed.values()])  # type: ignore[attr-defined]
    make.__annotations__ = {parameter.name: parameter.annotation for parameter in allowed.values()}
    return make


def _from_data(family: str, shape: TaskShape, known: Collection[str]) -> dict[str, Any]:
    """Return the arguments that the data determine; raise a `ConfigError` if the family does not take the data."""
    require_inputs(family, shape, "image")
    channels, height, width = shape.input_shape
    if channels not in (1, 3):
        raise ConfigError(f"model family {family!r} takes images of 1 or 3 channels, the dataset's have {channels}")
    if "image_size" in known and height != width:
        raise ConfigError(f"model family {family!r} takes square images, the dataset's are {height} x {width}")
    return {"num_classes": shape.n_outputs, "image_size": height, "input_size": (height, width)}


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class's constructor, with resolved annotations."""
    hints = typing.get_type_hints(cls.__init__)
    return {
        parameter.name: parameter.replace(annotation=hints.get(parameter.name, Any))
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _by_class(cls: type) -> bool:
    """Whether a class is a classifier, and a suite can contain all its required arguments."""
    if not issubclass(cls, nn.Module):
        return False
    known = _parameters(cls)
    return "num_classes" in known and all(
        _is_plain(parameter.annotation) for parameter in known.values() if parameter.default is inspect.Parameter.empty
    )


def _is_plain(annotation: Any) -> bool:
    if typing.get_origin(annotation) in (list, tuple, typing.Union, types.UnionType):
        return all(_is_plain(part) for part in typing.get_args(annotation))
    return annotation in (int, float, bool, str, type(None), ...)


def _is_random(name: str) -> bool:
    return any(part in name for part in _RANDOM)


def _switch_off_randomness(network: nn.Module) -> None:
    """Set the probabilities of all dropout and stochastic depth in a network to 0."""
    for module in network.modules():
        if isinstance(module, (nn.modules.dropout._DropoutNd, StochasticDepth)):
            module.p = 0.0
        for name, value in vars(module).items():
            if isinstance(value, float) and _is_random(name):
                setattr(module, name, 0.0)


def _take_one_channel(network: nn.Module) -> None:
    convolution = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
    convolution.in_channels = 1
    convolution.weight = nn.Parameter(convolution.weight.detach().sum(1, keepdim=True))


def _check_logits(family: str, network: nn.Module, shape: TaskShape) -> None:
    """Check the output of a network for two images, on the meta device, which computes nothing."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    state = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}
    images = torch.empty(2, *shape.input_shape, device="meta")
    size = " x ".join(map(str, shape.input_shape))
    hint = (
        "; set aux_logits = false to remove its auxiliary classifiers" if getattr(network, "aux_logits", False) else ""
    )
    try:
        output = functional_call(network, state, (images,))
    except Exception as error:  # models raise different exceptions if images are too small
        raise ConfigError(f"model family {family!r} does not take images of {size}: {one_line(error)}{hint}") from error
    if not isinstance(output, Tensor) or output.shape != (2, shape.n_outputs):
        raise ConfigError(f"model family {family!r} must return plain logits (found: {type(output).__name__}){hint}")
