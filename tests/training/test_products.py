"""Matrix products in other words: the same results."""

from __future__ import annotations

import pytest
import torch

from ganno_bench.training.products import PRODUCTS
from ganno_bench.training.recording import trace


@pytest.mark.parametrize("batch", [(), (3,)], ids=["mm", "bmm"])
@pytest.mark.parametrize(
    ("rows", "columns", "transposed"), [(64, 15, True), (128, 1, True), (64, 16, False), (63, 15, False)]
)
def test_results_with_few_columns_are_computed_transposed(
    batch: tuple[int, ...], rows: int, columns: int, transposed: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    left = torch.randn((*batch, rows, 7), generator=generator, dtype=torch.float64)
    right = torch.randn((*batch, 7, columns), generator=generator, dtype=torch.float64)
    product = torch.bmm if batch else torch.mm
    graph = trace(lambda *tensors: [product(*tensors)], [left, right], PRODUCTS)
    torch.testing.assert_close(graph(left, right)[0], product(left, right), rtol=1e-12, atol=1e-12)
    inputs = [node for node in graph.graph.nodes if node.op == "placeholder"]
    (called,) = [node for node in graph.graph.nodes if "m.default" in str(node.target) or "matmul" in str(node.target)]
    assert (called.args != tuple(inputs)) == transposed
