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
_RANDOM = ("dropout", "drop_rate", "stochastic_depth")  # parts of the names of arguments and attributes
_FROM_DATA = ("num_classes", "image_size", "input_size")


def torchvision_names() -> list[str]:
    """Return what may follow `torchvision:`, sorted: models, and classes of models whose arguments a suite can give."""
    found = [name for name, value in vars(models).items() if inspect.isclass(value) and _by_class(value)]
    return sorted([*models.list_models(module=models), *found])


@cache
def torchvision_family(family: str) -> Callable[..., nn.Module]:
    """Return what builds a classifier of torchvision, as a family of `MODELS`.

    Its keyword arguments are those of the model's class that are numbers, strings or lists of such. Number of classes
    and size of the images are the data's. Dropout and stochastic depth are 0, weights are initialised as torchvision
    does, never downloaded. Of grayscale images the first convolution takes the one channel, its weights being the sums
    of the three that torchvision has drawn: the network computes what the other does of a gray image in colour.

    Args:
        family: `torchvision:` and a model, such as `resnet18`, or a class, such as `VisionTransformer`, which leaves
            more to the arguments.

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
    if by_class:  # a model's function may fix it, too; then it is switched off below
        fixed |= {argument: 0.0 for argument in known if _is_random(argument)}

    def make(shape: TaskShape, **arguments: Any) -> nn.Module:
        values = fixed | _from_data(family, shape, known)
        try:
            network: nn.Module = builder(**{name: values[name] for name in known if name in values} | arguments)
        except TypeError as error:
            if taken := re.search(r"multiple values for keyword argument '(\w+)'", str(error)):
                raise ConfigError(
                    f"model family {family!r} says itself what {taken[1]!r} is; a family by class, such as "
                    f"{PREFIX + 'VisionTransformer'!r}, may leave it open"
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
    if not by_class:  # what the class requires, a model's function gives
        allowed = {name: parameter.replace(default=None) for name, parameter in allowed.items()}
    first = inspect.Parameter("shape", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=TaskShape)
    make.__signature__ = inspect.Signature([first, *allowed.values()])  # type: ignore[attr-defined]
    make.__annotations__ = {parameter.name: parameter.annotation for parameter in allowed.values()}
    return make


def _from_data(family: str, shape: TaskShape, known: Collection[str]) -> dict[str, Any]:
    """Return the arguments that the data decide, or say why the data do not go with the family."""
    require_inputs(family, shape, "image")
    channels, height, width = shape.input_shape
    if channels not in (1, 3):
        raise ConfigError(f"model family {family!r} takes images of 1 or 3 channels, the dataset's have {channels}")
    if "image_size" in known and height != width:
        raise ConfigError(f"model family {family!r} takes square images, the dataset's are {height} x {width}")
    return {"num_classes": shape.n_outputs, "image_size": height, "input_size": (height, width)}


def _parameters(cls: type[nn.Module]) -> dict[str, inspect.Parameter]:
    """Return the named parameters of a class's constructor, their annotations resolved."""
    hints = typing.get_type_hints(cls.__init__)
    return {
        parameter.name: parameter.replace(annotation=hints.get(parameter.name, Any))
        for parameter in inspect.signature(cls).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _by_class(cls: type) -> bool:
    """Whether a class is a classifier all of whose required arguments can be written in a suite."""
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
    """Set the probability of every dropout and stochastic depth to 0, wherever a network keeps it."""
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
    """Run two images through a network, without computing anything, and look at what comes out."""
    tensors = dict(network.named_parameters()) | dict(network.named_buffers())
    state = {name: torch.empty_like(value, device="meta") for name, value in tensors.items()}
    images = torch.empty(2, *shape.input_shape, device="meta")
    size = " x ".join(map(str, shape.input_shape))
    hint = "; aux_logits = false leaves its auxiliary classifiers out" if getattr(network, "aux_logits", False) else ""
    try:
        output = functional_call(network, state, (images,))
    except Exception as error:  # each model has its own way to say that images are too small
        raise ConfigError(f"model family {family!r} does not take images of {size}: {one_line(error)}{hint}") from error
    if not isinstance(output, Tensor) or output.shape != (2, shape.n_outputs):
        raise ConfigError(f"model family {family!r} gives no plain logits but {type(output).__name__}{hint}")
