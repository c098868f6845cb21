"""Layers of networks that declare none: natural blocks, each parameter once, in the order of the forward pass."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision import models

from ganno_bench.workloads.layers import partition

N_LAYERS = {
    "alexnet": 8,  # five convolutions, three linear maps
    "convnext_tiny": 23,  # stem, 18 blocks, 3 reductions, output
    "densenet121": 63,  # stem, 58 dense layers, 3 transitions, output
    "efficientnet_b0": 19,  # stem, 16 blocks, last convolution, output
    "maxvit_t": 15,  # stem of 2 convolutions, 11 blocks, output of 2 maps
    "mnasnet0_5": 21,
    "mobilenet_v2": 20,
    "mobilenet_v3_small": 15,
    "resnet18": 10,  # stem, 8 blocks, output
    "resnet50": 18,
    "shufflenet_v2_x0_5": 19,
    "squeezenet1_1": 10,
    "swin_t": 17,  # patches, 12 blocks, 3 reductions, output
    "swin_v2_t": 17,
    "vgg11_bn": 11,
    "vit_b_16": 14,  # patches, 12 blocks, output
}


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        network: nn.Module = models.get_model(name, weights=None)
    return network


def called_layers(network: nn.Module, inputs: Tensor) -> list[str]:
    """Return the layers in the order in which they are first used."""
    layer_of = {name: layer.name for layer in partition(network) for name in layer.parameters}
    called: list[str] = []
    for prefix, module in network.named_modules():
        own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
        if own and isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_pre_hook(lambda *_, name=layer_of[own[0]]: called.append(name))
    functional_call(network, network.state_dict(), (inputs,))
    return list(dict.fromkeys(called))


@pytest.mark.parametrize(
    ("name", "n_layers"),
    [
        pytest.param(name, n_layers, id=name, marks=() if index % 4 == 0 else pytest.mark.slow(group="engine"))
        for index, (name, n_layers) in enumerate(N_LAYERS.items())
    ],
)
def test_a_classifier_falls_into_its_blocks(name: str, n_layers: int) -> None:
    network = on_meta(name)
    layers = partition(network)
    assert len(layers) == len({layer.name for layer in layers}) == n_layers
    names = [parameter for parameter, _ in network.named_parameters()]
    assert Counter(parameter for layer in layers for parameter in layer.parameters) == dict.fromkeys(names, 1)
    assert called_layers(network, torch.empty(2, 3, 224, 224, device="meta")) == [layer.name for layer in layers]


def test_the_blocks_of_a_residual_network() -> None:
    layers = {layer.name: layer.parameters for layer in partition(on_meta("resnet18"))}
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]
    assert list(layers) == ["conv1", *blocks, "fc"]
    assert layers["conv1"] == ("conv1.weight", "bn1.weight", "bn1.bias")
    assert {name.split(".")[2] for name in layers["layer2.0"]} == {"conv1", "bn1", "conv2", "bn2", "downsample"}


def test_the_blocks_of_a_vision_transformer() -> None:
    layers = {layer.name: layer.parameters for layer in partition(on_meta("vit_b_16"))}
    assert set(layers["conv_proj"]) == {"class_token", "conv_proj.weight", "conv_proj.bias", "encoder.pos_embedding"}
    assert set(layers["heads.head"]) == {"encoder.ln.weight", "encoder.ln.bias", "heads.head.weight", "heads.head.bias"}


def parts(network: nn.Module) -> dict[str, list[str]]:
    return {layer.name: list(layer.parameters) for layer in partition(network)}


class Residual(nn.Module):
    """A list of convolutions with normalisations does not divide the block."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(Normalised() for _ in range(2))


class Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2)


def test_a_list_of_normalised_convolutions_leaves_a_block_whole() -> None:
    network = nn.Sequential(Residual(), Residual())
    assert list(parts(network)) == ["0", "1"]


def test_an_encoder_of_one_block_is_opened_wherever_it_lies() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 1, 4), 1, enable_nested_tensor=False)
    network = nn.ModuleDict(
        {"embedding": nn.Embedding(3, 4), "body": nn.ModuleList([encoder]), "head": nn.Linear(4, 2)}
    )
    assert list(parts(network)) == ["embedding", "body.0.layers.0", "head"]


def test_a_norm_belongs_to_the_map_before_it_and_after_a_block_to_what_follows() -> None:
    network = nn.Sequential(
        nn.BatchNorm1d(2), nn.Linear(2, 2), nn.ReLU(), nn.LayerNorm(2), Residual(), nn.BatchNorm1d(2), nn.Linear(2, 2)
    )
    assert parts(network) == {
        "1": ["0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias"],
        "4": [
            f"4.convolutions.{i}.{name}" for i in (0, 1) for name in ("convolution.weight", "norm.weight", "norm.bias")
        ],
        "6": ["5.weight", "5.bias", "6.weight", "6.bias"],
    }


def test_a_norm_after_the_last_block_belongs_to_it() -> None:
    assert list(parts(nn.Sequential(Residual(), nn.BatchNorm1d(2)))) == ["0"]


def test_a_network_of_nothing_but_norms_is_one_layer() -> None:
    assert parts(nn.BatchNorm1d(2)) == {"BatchNorm1d": ["weight", "bias"]}


def test_a_shared_weight_belongs_to_the_first() -> None:
    network = nn.Sequential(nn.Embedding(3, 2), Residual(), nn.Linear(2, 3))
    network[2].weight = network[0].weight
    assert parts(network)["0"] == ["0.weight"]
    assert parts(network)["2"] == ["2.bias"]


class Named(nn.Module):
    """A child module called `layers` does not declare layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))


def test_a_child_called_layers_is_a_child() -> None:
    assert list(parts(Named())) == ["layers.0", "layers.2"]
