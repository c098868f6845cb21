"""Operations of convolutional networks in other words: the same results as PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional as F

from ganno_bench.training.convolutions import CONVOLUTIONS
from ganno_bench.training.recording import trace

aten = torch.ops.aten


def check(function: Callable[..., Tensor], shapes: Sequence[tuple[int, ...]]) -> fx.GraphModule:
    """Compare outputs and gradients with those of the recorded replacement, and return the recorded graph."""
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]

    def with_gradients(*tensors: Tensor) -> list[Tensor]:
        own = [tensor.detach().requires_grad_() for tensor in tensors]
        with torch.enable_grad():
            output = function(*own)
        weights = torch.arange(output.numel(), dtype=output.dtype).view(output.shape).cos()
        return [output.detach(), *torch.autograd.grad(output, own, weights)]

    graph = trace(with_gradients, tensors, CONVOLUTIONS)
    for got, expected in zip(graph(*tensors), with_gradients(*tensors), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)
    return graph


def targets(graph: fx.GraphModule) -> list[object]:
    return [node.target for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("stride", [1, 2, (1, 2), 3])
@pytest.mark.parametrize(("kernel", "padding"), [((3, 3), 1), ((5, 3), (2, 0)), ((1, 1), 0), ((2, 3), 1), ((1, 1), 1)])
@pytest.mark.parametrize("channels", [(3, 4), (6, 8), (16, 4), (3, 20)], ids=str)
@pytest.mark.parametrize("size", [(8, 8), (7, 10)], ids=str)
def test_convolutions(
    channels: tuple[int, int],
    kernel: tuple[int, int],
    padding: int | tuple[int, int],
    stride: int | tuple[int, int],
    size: tuple[int, int],
) -> None:
    inputs, outputs = channels
    shapes = [(2, inputs, *size), (outputs, inputs, *kernel), (outputs,)]
    check(lambda x, weight, bias: F.conv2d(x, weight, bias, stride, padding), shapes)


@pytest.mark.parametrize("options", [{"dilation": 2}, {"groups": 2}], ids=str)
def test_other_convolutions_stay(options: dict[str, int]) -> None:
    weight = (4, 4 // options.get("groups", 1), 3, 3)
    graph = check(lambda x, weight: F.conv2d(x, weight, padding=1, **options), [(2, 4, 8, 8), weight])  # type: ignore[call-overload]
    assert aten.convolution_backward.default in targets(graph)
    graph = check(lambda x, weight: F.conv_transpose2d(x, weight), [(2, 4, 8, 8), (4, 4, 3, 3)])
    assert aten.convolution.default in targets(graph)
    graph = check(lambda x, weight: F.conv1d(x, weight), [(2, 4, 8), (4, 4, 3)])
    assert aten.convolution_backward.default in targets(graph)


def test_few_channels_need_no_convolution() -> None:
    graph = check(lambda x, weight: F.conv2d(x, weight, padding=1), [(2, 4, 8, 8), (4, 4, 3, 3)])
    assert not {aten.convolution.default, aten.convolution_backward.default} & {*targets(graph)}


def test_the_gradient_of_many_channels_stays() -> None:
    graph = check(lambda x, weight: F.conv2d(x, weight, padding=1), [(2, 32, 8, 8), (16, 32, 3, 3)])
    assert targets(graph).count(aten.convolution_backward.default) == 1
    assert targets(graph).count(aten.convolution.default) == 1


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (10, 7)], ids=str)
@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"padding": 1}, {"ceil_mode": True}], ids=str)
def test_average_pooling(size: tuple[int, int], options: dict[str, int]) -> None:
    graph = check(lambda x: F.avg_pool2d(x, 2, **options), [(2, 3, *size)])  # type: ignore[arg-type]
    assert (aten.avg_pool2d_backward.default in targets(graph)) == bool(options)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (10, 7)], ids=str)
def test_every_second_element(size: tuple[int, int]) -> None:
    graph = check(lambda x: x[..., ::2, ::2], [(2, 3, *size)])
    assert aten.slice_backward.default not in targets(graph)
    check(lambda x: x[::2, 1::2], [size])
    check(lambda x: x[..., 1::2, :3:2], [(2, 3, *size)])
    check(lambda x: x[::2, ..., ::3], [(2, 3, *size)])
    check(lambda x: x[..., :6:2, :6:2], [(2, 3, *size)])
