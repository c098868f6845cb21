"""Model families: arguments, layers, initialisation and computed functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError
from ganno_bench.workloads.data import TaskShape
from ganno_bench.workloads.layers import partition
from ganno_bench.workloads.models import MODELS, build_model, check_model
from ganno_bench.workloads.recurrent import LSTM, LSTMLayer
from ganno_bench.workloads.vision import SMALL_IMAGE, MatrixConv2d

IMAGE = TaskShape("image", (2, 8, 8), None, 5, False)
LARGE_IMAGE = TaskShape("image", (3, 16, 14), None, 5, False)
STREAM = TaskShape("tokens", (9,), 13, 13, True)
GRAPH = TaskShape("graph", (6, 6 + 3), None, 5, False)
TEXT = TaskShape("tokens", (7,), 11, 2, False)

CASES: dict[str, tuple[dict[str, Any], TaskShape]] = {
    "mlp": ({"family": "mlp", "depth": 3}, IMAGE),
    "mlp-wide": ({"family": "mlp", "depth": 1, "width": 100, "gain": 1.4}, LARGE_IMAGE),
    "cnn": ({"family": "cnn", "depth": 3}, IMAGE),
    "cnn-one-layer": ({"family": "cnn", "depth": 1}, IMAGE),
    "cnn-unnormalised": ({"family": "cnn", "depth": 2, "width": 6, "group_norm": False}, IMAGE),
    "cnn-large-images": ({"family": "cnn", "depth": 7, "width": 8}, LARGE_IMAGE),
    "resnet": ({"family": "resnet", "depth": 8, "width": 8}, LARGE_IMAGE),
    "resnet-of-one-group": ({"family": "resnet", "depth": 14, "width": 3, "groups": 1}, IMAGE),
    "resnet-batch-norm": ({"family": "resnet", "depth": 8, "width": 6, "batch_norm": True}, LARGE_IMAGE),
    "gcn": ({"family": "gcn", "depth": 3}, GRAPH),
    "gcn-residual": ({"family": "gcn", "depth": 2, "width": 12, "residual": True}, GRAPH),
    "decoder": ({"family": "transformer", "depth": 2}, STREAM),
    "encoder": ({"family": "transformer", "depth": 1, "width": 12, "heads": 3}, TEXT),
    "lstm": ({"family": "lstm", "depth": 2}, TEXT),
    "lstm-stream": ({"family": "lstm", "depth": 1, "width": 12}, STREAM),
}
every_model = pytest.mark.parametrize(("model", "shape"), CASES.values(), ids=CASES)


def example(shape: TaskShape, n: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if shape.vocab_size is None:
        return torch.randn(n, *shape.input_shape, generator=generator)
    return torch.randint(1, shape.vocab_size, (n, *shape.input_shape), generator=generator)


def test_every_registered_family_is_tested() -> None:
    assert {model["family"] for model, _ in CASES.values()} == set(MODELS.entries())


# Layers.


@every_model
def test_the_layers_cover_every_parameter_once(model: Mapping[str, Any], shape: TaskShape) -> None:
    network = build_model(model, shape, 0)
    layers = partition(network)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert Counter(name for layer in layers for name in layer.parameters) == dict.fromkeys(sizes, 1)
    assert [layer.size for layer in layers] == [sum(sizes[name] for name in layer.parameters) for layer in layers]
    assert len({layer.name for layer in layers}) == len(layers)


@every_model
def test_a_deeper_network_has_as_many_more_layers(model: Mapping[str, Any], shape: TaskShape) -> None:
    # One more residual block of two convolutions in each of three stages makes a resnet deeper by six.
    depths, step = ((8, 14, 32), 3) if model["family"] == "resnet" else ((1, 2, 5), 1)
    n_layers = [len(partition(build_model({**model, "depth": depth}, shape, 0))) for depth in depths]
    assert [n - n_layers[0] for n in n_layers] == [0, step, 4 * step]


@every_model
def test_layers_stand_in_the_order_of_the_forward_pass(model: Mapping[str, Any], shape: TaskShape) -> None:
    network = build_model(model, shape, 0)
    layer_of = {name: layer.name for layer in partition(network) for name in layer.parameters}
    called: list[str] = []
    for prefix, module in network.named_modules():
        own = [f"{prefix}.{name}".lstrip(".") for name, _ in module.named_parameters(recurse=False)]
        if own and prefix:  # the network itself contains all modules
            module.register_forward_hook(lambda *_, name=layer_of[own[0]]: called.append(name))
    network(example(shape))
    order = [layer.name for layer in partition(network)]
    assert called == sorted(called, key=order.index)
    assert set(called) == set(order)


class Declared(nn.Module):
    def __init__(self, groups: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(()))
        self._groups = groups

    def layers(self) -> Mapping[str, Sequence[nn.Module | nn.Parameter]]:
        return {name: [getattr(self, member) for member in members] for name, members in self._groups.items()}


def test_a_declared_partition_is_used_and_layers_without_parameters_are_none() -> None:
    layers = partition(Declared({"all": ["scale", "second", "first"], "nothing": []}))
    assert [(layer.name, layer.size) for layer in layers] == [("all", 13)]
    assert layers[0].parameters[0] == "scale"


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"a": ["first", "second"]}, "parameter 'scale' must belong to 1 layer (found: 0)"),
        (
            {"a": ["first", "scale"], "b": ["first", "second"]},
            "parameter 'first.weight' must belong to 1 layer (found: 2)",
        ),
    ],
)
def test_a_parameter_in_no_layer_or_in_two_is_refused(groups: Mapping[str, Sequence[str]], message: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"model Declared: {message}")):
        partition(Declared(groups))


def test_a_weight_that_two_members_of_a_layer_share_is_one_of_its_parameters() -> None:
    network = Declared({"tied": ["first", "second", "scale"]})
    network.second.weight = network.first.weight
    layers = partition(network)
    assert [(layer.parameters, layer.size) for layer in layers] == [
        (("first.weight", "first.bias", "second.bias", "scale"), 9)
    ]


def test_without_a_declaration_the_natural_blocks_are_the_layers() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert [(layer.name, layer.size) for layer in partition(network)] == [("0", 9), ("2", 4)]


def test_what_is_not_trained_needs_no_layer() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    assert [layer.name for layer in partition(network)] == ["1"]


# Arguments.


@every_model
def test_a_right_description_passes(model: Mapping[str, Any], shape: TaskShape) -> None:
    check_model(model, "suite.toml")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"family": "mlp", "depth": 2, "widht": 8},
            "here: key 'model.widht': model family 'mlp' has no 'widht'; did you mean 'width'?",
        ),
        (
            {"family": "mlp", "depth": 2, "shape": 8},
            "here: key 'model.shape': model family 'mlp' has no 'shape'; valid: depth, gain, ",
        ),
        ({"family": "mlp", "width": 8}, "here: key 'model.depth': is missing; model family 'mlp' needs it"),
        ({"family": "mlp", "depth": "2"}, "here: key 'model.depth': must be of type int (value: '2')"),
        ({"family": "mlp", "depth": 2.0}, "here: key 'model.depth': must be of type int (value: 2.0)"),
        ({"family": "mlp", "depth": True}, "here: key 'model.depth': must be of type int (value: True)"),
        (
            {"family": "cnn", "depth": 2, "group_norm": 1},
            "here: key 'model.group_norm': must be of type bool (value: 1)",
        ),
        ({"family": "mlp", "depth": 2, "gain": "x"}, "here: key 'model.gain': must be of type float (value: 'x')"),
        ({"family": "transformer", "depth": 0}, "here: key 'model.depth': must be at least 1 (value: 0)"),
    ],
)
def test_a_wrong_argument_is_named(model: Mapping[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        check_model(model, "here")


def test_a_whole_number_is_a_float() -> None:
    check_model({"family": "mlp", "depth": 2, "gain": 1}, "here")


def test_an_unknown_family_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(
        UnknownNameError, match=r"^here: key 'model.family': unknown model 'transfomer'; did you mean 'transformer'\?"
    ):
        check_model({"family": "transfomer"}, "here")


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ("mlp", STREAM, "model family 'mlp' takes image inputs, the dataset has tokens inputs"),
        ("cnn", TEXT, "model family 'cnn' takes image inputs, the dataset has tokens inputs"),
        ("mlp", GRAPH, "model family 'mlp' takes image inputs, the dataset has graph inputs"),
        ("gcn", IMAGE, "model family 'gcn' takes graph inputs, the dataset has image inputs"),
        ("gcn", TEXT, "model family 'gcn' takes graph inputs, the dataset has tokens inputs"),
        ("transformer", IMAGE, "model family 'transformer' takes tokens inputs, the dataset has image inputs"),
        ("lstm", IMAGE, "model family 'lstm' takes tokens inputs, the dataset has image inputs"),
    ],
)
def test_a_family_that_does_not_take_such_data_says_so(model: str, shape: TaskShape, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model({"family": model, "depth": 1}, shape, 0)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        ({"family": "resnet", "depth": 8, "width": 6}, IMAGE, "width must be a multiple of groups, 4 (value: 6)"),
        ({"family": "cnn", "depth": 1, "width": 6}, IMAGE, "width must be a multiple of groups, 4 (value: 6)"),
        ({"family": "transformer", "depth": 1, "width": 9}, TEXT, "width must be a multiple of heads, 2 (value: 9)"),
    ],
)
def test_a_width_that_cannot_be_divided_is_refused(model: Mapping[str, Any], shape: TaskShape, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        build_model(model, shape, 0)


@pytest.mark.parametrize(("depth", "nearest"), [(2, 8), (7, 8), (18, 14)])
def test_a_resnets_depth_is_of_the_papers_form(depth: int, nearest: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"depth must be 6n \+ 2 with n >= 1 \(value: {depth}\); did you mean {nearest}\?"
    ):
        build_model({"family": "resnet", "depth": depth}, IMAGE, 0)


def test_a_family_whose_code_fails_is_named() -> None:
    with pytest.raises(PluginError, match=r"model 'mlp' cannot be built: TypeError: .*'colour'"):
        build_model({"family": "mlp", "depth": 1, "colour": 3}, IMAGE, 0)


# Initialisation.


@every_model
def test_the_seed_decides_the_initialisation_and_nothing_else_does(model: Mapping[str, Any], shape: TaskShape) -> None:
    first = build_model(model, shape, 1)
    torch.rand(7)
    again, other = build_model(model, shape, 1), build_model(model, shape, 2)
    values, same = first.state_dict(), again.state_dict()
    assert all(torch.equal(values[name], same[name]) for name in values)
    different = [name for name, value in other.named_parameters() if not torch.equal(value, values[name])]
    # Constant parameters have one value, or one for each of two kinds of gates.
    drawn = {name for name, value in first.named_parameters() if len(value.unique()) > 2}
    assert set(different) == drawn


@every_model
def test_building_a_network_draws_nothing_from_the_global_generator(model: Mapping[str, Any], shape: TaskShape) -> None:
    before = torch.random.get_rng_state()
    build_model(model, shape, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("gain", [1.0, 2**0.5])
@pytest.mark.parametrize(("family", "shape"), [("mlp", IMAGE), ("gcn", TaskShape("graph", (6, 96), None, 5, False))])
def test_weights_have_the_scale_that_the_gain_says(family: str, shape: TaskShape, gain: float) -> None:
    network = build_model({"family": family, "depth": 2, "width": 200, "gain": gain}, shape, 0)
    linears = [module for module in network.modules() if isinstance(module, nn.Linear) and module.out_features == 200]
    assert len(linears) == 2
    for linear in linears:
        assert float(linear.weight.detach().std()) == pytest.approx(gain / linear.in_features**0.5, rel=0.03)
        assert not linear.bias.any()


def test_a_transformers_weights_have_the_scale_that_is_documented() -> None:
    network = build_model({"family": "transformer", "depth": 8, "width": 64}, STREAM, 0)
    for name, parameter in network.named_parameters():
        value = parameter.detach()
        if value.dim() > 1:
            fan_in = 64 if name in ("positions", "tokens.weight") else value.shape[1]
            shrunk = 4 if "projection" in name or "contract" in name else 1
            assert float(value.std()) == pytest.approx(fan_in**-0.5 / shrunk, rel=0.1)
        elif name.endswith("bias"):
            assert not value.any()


def test_an_lstms_weights_have_the_scale_that_is_documented_and_its_forget_gates_are_open() -> None:
    network = build_model({"family": "lstm", "depth": 3, "width": 64}, STREAM, 0)
    assert isinstance(network, LSTM)
    for name, parameter in network.named_parameters():
        value = parameter.detach()
        if name.startswith("stack") and name.endswith("bias"):
            assert value.flatten().tolist() == [0.0] * 64 + [1.0] * 64 + [0.0] * 128
        elif name.endswith("bias"):
            assert not value.any()
        else:
            assert float(value.std()) == pytest.approx(64**-0.5, rel=0.1)


# What the networks compute.


@every_model
def test_logits_have_the_shape_of_the_targets_and_the_outputs(model: Mapping[str, Any], shape: TaskShape) -> None:
    logits = build_model(model, shape, 0)(example(shape, 3))
    assert logits.shape == ((3, 9, 13) if shape.next_token else (3, shape.n_outputs))


@every_model
def test_an_example_is_classified_alike_in_any_batch(model: Mapping[str, Any], shape: TaskShape) -> None:
    network, inputs = build_model(model, shape, 0).double().eval(), example(shape)  # BatchNorm mixes them in training
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    torch.testing.assert_close(network(inputs)[1:2], network(inputs[1:2]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "out", "height", "width"), [(1, 3, 8, 8), (4, 2, 5, 3), (3, 5, 1, 1), (2, 2, 2, 7)]
)
def test_a_convolution_by_a_matrix_product_is_a_convolution(
    channels: int, out: int, height: int, width: int, bias: bool
) -> None:
    torch.manual_seed(0)
    ours = MatrixConv2d(channels, out, bias=bias).double()
    theirs = nn.Conv2d(channels, out, kernel_size=3, padding=1, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    inputs = torch.randn(3, channels, height, width, dtype=torch.float64)
    results = []
    for convolution in (ours, theirs):
        images = inputs.clone().requires_grad_()
        output = convolution(images)
        weights = torch.linspace(-1, 1, output.numel(), dtype=torch.float64).view(output.shape)
        results.append((output, *torch.autograd.grad((output * weights).sum(), [images, *convolution.parameters()])))
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "kind"), [(SMALL_IMAGE, MatrixConv2d), (SMALL_IMAGE + 1, nn.Conv2d)])
def test_small_images_are_convolved_by_a_matrix_product(size: int, kind: type[nn.Module]) -> None:
    shape = TaskShape("image", (1, 8, size), None, 5, False)
    network = build_model({"family": "cnn", "depth": 2}, shape, 0)
    kinds = {type(module) for module in network.modules() if isinstance(module, nn.Conv2d)}
    assert kinds == {kind}


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 7])
def test_a_cnn_of_any_depth_takes_the_smallest_images(depth: int) -> None:
    shape = TaskShape("image", (1, 4, 4), None, 5, False)
    assert build_model({"family": "cnn", "depth": depth}, shape, 0)(example(shape)).shape == (4, 5)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85)])
def test_resnets_are_as_large_as_the_papers(depth: int, millions: float) -> None:
    # He et al. 2015, table 6.
    network = build_model({"family": "resnet", "depth": depth}, TaskShape("image", (3, 32, 32), None, 10, False), 0)
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_resnets_blocks_halve_the_resolution_twice_and_shortcuts_carry_the_input() -> None:
    network = build_model({"family": "resnet", "depth": 14, "width": 4}, LARGE_IMAGE, 0)
    sizes: list[tuple[int, ...]] = []
    for block in network.get_submodule("blocks").children():
        block.register_forward_hook(lambda _, inputs, output: sizes.append(tuple(output.shape[1:])))
        with torch.no_grad():  # with a second normalisation of zero, the block is its shortcut
            block.get_parameter("norm2.weight").zero_()
    logits = network(example(LARGE_IMAGE))
    assert sizes == [(4, 16, 14)] * 2 + [(8, 8, 7)] * 2 + [(16, 4, 4)] * 2
    stem = torch.relu(network.get_submodule("norm")(network.get_submodule("stem")(example(LARGE_IMAGE))))
    pooled = torch.zeros(4, 16)
    pooled[:, :4] = stem[..., ::4, ::4].mean((-2, -1))
    torch.testing.assert_close(logits, network.get_submodule("output")(pooled))


@pytest.mark.parametrize("residual", [False, True])
def test_a_gcn_is_the_formula_of_kipf_and_welling(residual: bool) -> None:
    network = build_model({"family": "gcn", "depth": 3, "width": 8, "residual": residual}, GRAPH, 0).double()
    edges = [(0, 1), (0, 2), (1, 2), (2, 3), (3, 4)]
    features = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    normalised = torch.zeros(5, 5, dtype=torch.float64)
    degrees = [1 + sum(node in edge for edge in edges) for node in range(5)]
    for a, b in [*edges, *((b, a) for a, b in edges), *((node, node) for node in range(5))]:
        normalised[a, b] = (degrees[a] * degrees[b]) ** -0.5
    inputs = torch.zeros(1, 6, 9, dtype=torch.float64)  # one node is missing
    inputs[0, :5, :5], inputs[0, :5, 6:] = normalised, features
    hidden = features
    for index in range(3):
        weight, bias = (network.get_parameter(f"convolutions.{index}.{name}") for name in ("weight", "bias"))
        convolved = (normalised @ hidden @ weight.T + bias).relu()
        hidden = hidden + convolved if residual and index else convolved
    expected = hidden[0] @ network.get_parameter("output.weight").T + network.get_parameter("output.bias")
    torch.testing.assert_close(network(inputs)[0], expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_gcn_sees_as_far_as_it_is_deep(depth: int) -> None:
    network = build_model({"family": "gcn", "depth": depth, "gain": 2.0}, GRAPH, 0)
    path = torch.eye(6) + torch.eye(6).roll(1, 0).tril() + torch.eye(6).roll(1, 1).triu()
    inputs = torch.cat([path / 3, torch.ones(6, 3)], dim=1)[None]
    seen = []
    for node in range(6):
        changed = inputs.clone()
        changed[0, node, 6:] += torch.tensor([1.0, -2.0, 3.0])
        seen.append(not torch.equal(network(changed), network(inputs)))
    assert seen == [node <= depth for node in range(6)]


@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_a_language_model_does_not_see_later_tokens(family: str) -> None:
    network = build_model({"family": family, "depth": 3}, STREAM, 0)
    inputs = example(STREAM)
    for position in range(9):
        changed = inputs.clone()
        changed[:, position] = (changed[:, position] + 1) % 13
        difference = (network(changed) - network(inputs)).abs().amax((0, 2))
        assert not difference[:position].any()
        assert (difference[position:] > 0).all()


@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_a_text_classifier_sees_all_tokens_and_ignores_padding(family: str) -> None:
    network = build_model({"family": family, "depth": 2, "width": 12}, TEXT, 0)
    inputs = example(TEXT)
    inputs[:, 4:] = 0
    before = network(inputs)
    for position in range(4):
        changed = inputs.clone()
        changed[:, position] = changed[:, position] % 10 + 1
        assert (network(changed) != before).any(1).all()
    with torch.no_grad():  # change the embedding of padding, and its positions
        network.get_parameter("tokens.weight")[0] += 1.0
        if family == "transformer":
            network.get_parameter("positions")[4:] -= 1.0
    assert torch.equal(network(inputs), before)


@pytest.mark.parametrize("family", ["transformer", "lstm"])
def test_a_text_of_nothing_but_padding_has_finite_logits_and_gradients(family: str) -> None:
    network = build_model({"family": family, "depth": 2}, TEXT, 0)
    logits = network(torch.zeros(2, 7, dtype=torch.int64))
    logits.square().sum().backward()
    assert logits.isfinite().all()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())


def library_lstm(network: LSTM) -> nn.LSTM:
    """Return torch's LSTM with the same weights; its gates have the order input, forget, candidate, output."""
    width = network.tokens.embedding_dim
    theirs = nn.LSTM(width, width, len(network.stack)).double()
    with torch.no_grad():
        for index, layer in enumerate(network.stack):
            assert isinstance(layer, LSTMLayer)
            for name, own in (
                ("weight_ih", layer.weight[:, :width]),
                ("weight_hh", layer.weight[:, width:]),
                ("bias_ih", layer.bias[:, 0]),
            ):
                take, keep, show, candidate = own.split(width)
                theirs.get_parameter(f"{name}_l{index}").copy_(torch.cat([take, keep, candidate, show]))
            theirs.get_parameter(f"bias_hh_l{index}").zero_()
    return theirs


@pytest.mark.parametrize("depth", [1, 3])
def test_an_lstm_for_language_modelling_is_torchs(depth: int) -> None:
    network = build_model({"family": "lstm", "depth": depth, "width": 12}, STREAM, 0).double()
    assert isinstance(network, LSTM)
    inputs = example(STREAM)
    states, _ = library_lstm(network)(network.tokens(inputs.t()))
    expected = network.output(states.transpose(0, 1))
    torch.testing.assert_close(network(inputs), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("depth", [1, 3])
def test_an_lstm_for_classification_is_torchs_on_the_text_without_padding(depth: int) -> None:
    network = build_model({"family": "lstm", "depth": depth, "width": 12}, TEXT, 0).double()
    assert isinstance(network, LSTM)
    inputs = example(TEXT)
    for text, length in zip(inputs, (7, 4, 1, 0), strict=True):
        text[length:] = 0
    logits = network(inputs)
    for text, own in zip(inputs[:3], logits, strict=False):
        states, _ = library_lstm(network)(network.tokens(text[text != 0]).unsqueeze(1))
        torch.testing.assert_close(own, network.output(states.mean((0, 1))), rtol=1e-12, atol=1e-12)
    assert torch.equal(logits[3], network.output.bias)
