"""Time operations that compiled code replaces by others, next to the library's, on one thread of a CPU.

    python benchmarks/operations.py [--quick]

Run nothing else meanwhile. Each number is the shortest of many calls: an operation of microseconds is only ever slowed
down. The replacements are those of `ganno_bench.training.convolutions` and `ganno_bench.training.products`. Here they
run operation by operation; compiled code also fuses their parts. A second table shows what the limits leave alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ganno_bench.training.convolutions import CONVOLUTIONS
from ganno_bench.training.products import PRODUCTS

aten = torch.ops.aten

# (input channels, output channels, size of the image, batch, kernel, stride)
CONVOLVED = [
    (4, 4, 14, 32, 3, 1),
    (4, 4, 14, 32, 3, 2),
    (8, 8, 28, 64, 3, 1),
    (8, 16, 14, 64, 3, 1),
    (8, 8, 14, 64, 5, 1),
    (16, 16, 14, 64, 3, 1),
    (16, 16, 14, 64, 3, 2),
    (64, 64, 8, 64, 3, 1),
]
POOLED = [(8, 28, 64), (16, 14, 64)]  # (channels, size, batch)
MULTIPLIED = [(128, 64, 8), (128, 64, 15), (128, 64, 16), (512, 128, 8), (32, 32, 8)]  # (rows, terms, columns)


def shortest(function: Callable[[], object], repetitions: int) -> float:
    """Return the shortest time of some calls, ms."""
    function()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times) * 1e3


def row(name: str, operation: object, arguments: tuple[object, ...], repetitions: int) -> None:
    """Print an operation's time, and its replacement's if it has one."""
    replacement = {**CONVOLUTIONS, **PRODUCTS}[operation]
    library = shortest(lambda: operation(*arguments), repetitions)  # type: ignore[operator]
    if replacement(*arguments) is NotImplemented:
        print(f"| {name} | {library:.3f} | | |")
        return
    other = shortest(lambda: replacement(*arguments), repetitions)
    print(f"| {name} | {library:.3f} | {other:.3f} | {library / other:.1f}x |", flush=True)


def convolutions(repetitions: int) -> None:
    """Print forward passes and both gradients of convolutions, and the gradient of average pooling."""
    print("| operation | library ms | replacement ms | faster |\n| --- | ---: | ---: | ---: |")
    for inputs, outputs, size, batch, kernel, stride in CONVOLVED:
        images, weight = torch.randn(batch, inputs, size, size), torch.randn(outputs, inputs, kernel, kernel)
        settings = ([stride] * 2, [kernel // 2] * 2, [1, 1], False, [0, 0], 1)
        gradient = torch.randn_like(aten.convolution(images, weight, None, *settings))
        name = f"{kernel}x{kernel}, {inputs} to {outputs} channels, {batch} images of {size}x{size}, stride {stride}"
        row(f"convolution {name}", aten.convolution.default, (images, weight, None, *settings), repetitions)
        for part, wanted in (("inputs", [True, False, False]), ("weight", [False, True, False])):
            arguments: tuple[object, ...] = (gradient, images, weight, None, *settings, wanted)
            row(f"its gradient of the {part}", aten.convolution_backward.default, arguments, repetitions)
    for channels, size, batch in POOLED:
        images: Tensor = torch.randn(batch, channels, size, size)
        gradient = torch.randn(batch, channels, size // 2, size // 2)
        settings_ = ([2, 2], [2, 2], [0, 0], False, True, None)
        name = f"average pooling, {channels} channels, {batch} images of {size}x{size}"
        row(f"gradient of {name}", aten.avg_pool2d_backward.default, (gradient, images, *settings_), repetitions)


def products(repetitions: int) -> None:
    """Print products of two matrices each."""
    print("\n| two products | library ms | replacement ms | faster |\n| --- | ---: | ---: | ---: |")
    for rows, terms, columns in MULTIPLIED:
        factors = (torch.randn(2, rows, terms), torch.randn(2, terms, columns))
        row(f"({rows} x {terms}) times ({terms} x {columns})", aten.bmm.default, factors, 20 * repetitions)


def main() -> None:
    """Parse options and print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="repeat little, to test the script")
    repetitions = 2 if parser.parse_args().quick else 100
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    print(f"PyTorch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, one thread\n")
    convolutions(repetitions)
    products(repetitions)


if __name__ == "__main__":
    main()
