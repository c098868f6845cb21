"""torchvision's classifiers as model families: arguments, values from the data, no randomness, plain logits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError
from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.models import build_model, check_model

COLOUR = TaskShape("image", (3, 32, 32), None, 7, False)
GRAY = TaskShape("image", (1, 32, 32), None, 7, False)
TEXT = TaskShape("tokens", (7,), 11, 2, False)
VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
SWIN = {"patch_size": [4, 4], "embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": [4, 4]}
MAXVIT = {"stem_channels": 8, "partition_size": 4, "block_channels": [8], "block_layers": [2], "head_dim": 4}
CASES: dict[str, dict[str, Any]] = {
    "squeezenet1_1": {},
    "shufflenet_v2_x0_5": {},
    "mobilenet_v3_small": {},
    "mobilenet_v2": {"width_mult": 0.25},
    "efficientnet_b0": {},
    "MNASNet": {"alpha": 0.1},
    "DenseNet": {"growth_rate": 4, "block_config": [1, 1, 1, 1], "num_init_features": 8},
    "VisionTransformer": VIT,
    "SwinTransformer": SWIN,
    "MaxVit": MAXVIT,
}
BY_DEFAULT = ("shufflenet_v2_x0_5", "resnet18")
every_model = pytest.mark.parametrize(
    "model",
    [
        pytest.param(
            {"family": f"torchvision:{name}", **arguments},
            id=name,
            marks=() if name in BY_DEFAULT else pytest.mark.slow(group="engine"),
        )
        for name, arguments in CASES.items()
    ],
)


def images(shape: TaskShape, n: int = 4) -> Tensor:
    return torch.randn(n, *shape.input_shape, generator=torch.Generator().manual_seed(0))


@every_model
def test_a_classifier_is_built_for_the_data_and_draws_nothing_at_random(model: Mapping[str, Any]) -> None:
    check_model(model, "suite.toml")
    network, inputs = build_model(model, COLOUR, 0), images(COLOUR)
    before = torch.random.get_rng_state()
    first, second = network(inputs), network(inputs)
    assert first.shape == (4, 7)
    assert torch.equal(first, second)  # in training mode, in which dropout would differ
    assert torch.equal(torch.random.get_rng_state(), before)


@every_model
def test_the_seed_decides_the_initialisation(model: Mapping[str, Any]) -> None:
    first, again, other = (build_model(model, COLOUR, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_model
def test_a_gray_image_is_seen_as_it_would_be_in_three_equal_channels(model: Mapping[str, Any]) -> None:
    gray, colour = build_model(model, GRAY, 0).double().eval(), build_model(model, COLOUR, 0).double().eval()
    inputs = images(GRAY).double()
    torch.testing.assert_close(gray(inputs), colour(inputs.expand(-1, 3, -1, -1)))
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (gray, colour)]
    convolution = next(module for module in colour.modules() if isinstance(module, nn.Conv2d))
    assert counts[1] - counts[0] == convolution.weight.numel() * 2 // 3


def test_arguments_reach_the_constructor() -> None:
    small = build_model({"family": "torchvision:mobilenet_v2", "width_mult": 0.25}, COLOUR, 0)
    large = build_model({"family": "torchvision:mobilenet_v2"}, COLOUR, 0)
    sizes = [next(network.parameters()).shape[0] for network in (small, large)]
    assert sizes == [8, 32]
    transformer = build_model({"family": "torchvision:VisionTransformer", **VIT}, COLOUR, 0)
    assert transformer.get_parameter("encoder.pos_embedding").shape == (1, 16 + 1, 8)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "resnet81"}, "model 'torchvision:resnet81'; did you mean 'torchvision:resnet18'?"),
        ({"family": "vit_b16"}, "model 'torchvision:vit_b16'; did you mean 'torchvision:vit_b_16'?"),
        ({"family": "ResNet"}, "model 'torchvision:ResNet'; did you mean 'torchvision:"),
        ({"family": "mobilenet_v2", "width_mul": 1.0}, "has no 'width_mul'; did you mean 'width_mult'?"),
        ({"family": "mobilenet_v2", "width_mult": "x"}, "model.width_mult': must be of type float (value: 'x')"),
        ({"family": "vit_b_16", "dropout": 0.1}, "has no 'dropout'"),
        ({"family": "vit_b_16", "image_size": 32}, "has no 'image_size'"),
        ({"family": "resnet18", "weights": "DEFAULT"}, "has no 'weights'"),
        ({"family": "MNASNet"}, "key 'model.alpha': is missing; model family 'torchvision:MNASNet' needs it"),
    ],
)
def test_a_wrong_name_or_argument_is_named(model: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError), match=re.escape(message)) as caught:
        check_model({**model, "family": f"torchvision:{model['family']}"}, "here")
    assert str(caught.value).startswith("here: key 'model.")


RECTANGLE = TaskShape("image", (3, 32, 16), None, 7, False)
TWO_CHANNELS = TaskShape("image", (2, 32, 32), None, 7, False)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            {"family": "googlenet"},
            COLOUR,
            "must return plain logits (found: GoogLeNetOutputs); set aux_logits = false to",
        ),
        (
            {"family": "inception_v3"},
            TaskShape("image", (3, 299, 299), None, 7, False),
            "must return plain logits (found: InceptionOutputs); set aux_logits = false to remove",
        ),
        ({"family": "alexnet"}, COLOUR, "does not take images of 3 x 32 x 32: RuntimeError: Given input size"),
        ({"family": "VisionTransformer", **VIT}, RECTANGLE, "takes square images, the dataset's are 32 x 16"),
        ({"family": "squeezenet1_1"}, TWO_CHANNELS, "takes images of 1 or 3 channels, the dataset's have 2"),
        ({"family": "squeezenet1_1"}, TEXT, "takes image inputs, the dataset has tokens inputs"),
        (
            {"family": "vit_b_16", "patch_size": 4},
            COLOUR,
            "sets 'patch_size' itself; use a family by class with this argument, such as 'torchvis",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(model: dict[str, Any], shape: TaskShape, message: str) -> None:
    family = f"torchvision:{model['family']}"
    with pytest.raises(ConfigError, match=re.escape(f"model family '{family}' {message}")) as caught:
        build_model({**model, "family": family}, shape, 0)
    assert "\n" not in str(caught.value)


def test_an_inception_without_auxiliary_classifiers_is_taken() -> None:
    network = build_model({"family": "torchvision:googlenet", "aux_logits": False}, COLOUR, 0)
    assert network(images(COLOUR)).shape == (4, 7)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "maxvit_t"}, "not divisible by partition size 7"),
        ({"family": "VisionTransformer", **VIT, "patch_size": 5}, "Input shape indivisible by patch size!"),
    ],
)
def test_what_a_constructor_says_stands_on_one_line(model: dict[str, Any], message: str) -> None:
    with pytest.raises(PluginError, match=f"cannot be built: .*{message}") as caught:
        build_model({**model, "family": f"torchvision:{model['family']}"}, COLOUR, 0)
    assert "\n" not in str(caught.value)
