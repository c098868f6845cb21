from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ganno_bench.workloads.data import Examples, Split, TokenStream


def examples(n: int) -> Examples:
    return Examples(torch.arange(n * 6.0).view(n, 1, 2, 3), torch.arange(n) * 10)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(order: Tensor, n: int) -> Tensor:
    return torch.bincount(order.flatten(), minlength=n)


@pytest.mark.parametrize(("n", "n_updates", "batch_size"), [(10, 6, 5), (10, 7, 3), (10, 1, 4), (3, 4, 8), (1, 2, 5)])
def test_an_order_uses_every_example_equally_often(n: int, n_updates: int, batch_size: int) -> None:
    order = examples(n).order(seeded(), n_updates, batch_size)
    assert order.shape == (n_updates, batch_size)
    assert order.dtype == torch.int64
    used = counts(order, n)
    assert used.max() - used.min() <= 1
    assert used.sum() == n_updates * batch_size


def test_each_epoch_of_an_order_is_a_new_permutation_also_where_updates_straddle_epochs() -> None:
    epochs = examples(10).order(seeded(), n_updates=10, batch_size=3).view(3, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert not torch.equal(epochs[0], epochs[1])


@pytest.mark.parametrize("split", [examples(50), TokenStream(torch.arange(60), 5)])
def test_an_order_is_what_the_generator_says(split: Split) -> None:
    first, again, other = (split.order(seeded(seed), 8, 4) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_longer_run_begins_with_the_order_of_a_shorter_one() -> None:
    for split in (examples(7), TokenStream(torch.arange(60), 5)):
        assert torch.equal(split.order(seeded(), 9, 4)[:3], split.order(seeded(), 3, 4))


def test_an_index_of_any_shape_gathers_examples_of_that_shape() -> None:
    data = examples(5)
    inputs, targets = data.gather(torch.tensor([[4, 0, 4], [1, 2, 3]]))
    assert inputs.shape == (2, 3, 1, 2, 3)
    assert targets.tolist() == [[40, 0, 40], [10, 20, 30]]
    assert torch.equal(inputs[0, 0], data.inputs[4])


def test_targets_of_a_token_stream_are_the_next_tokens() -> None:
    stream = TokenStream(torch.tensor([5, 6, 7, 8, 9]), sequence_length=3)
    assert stream.n_examples == 2
    inputs, targets = stream.gather(torch.tensor([[0], [1]]))
    assert inputs.tolist() == [[[5, 6, 7]], [[6, 7, 8]]]
    assert targets.tolist() == [[[6, 7, 8]], [[7, 8, 9]]]


@pytest.mark.parametrize(
    ("n_tokens", "offsets"), [(10, [0, 3, 6]), (11, [0, 3, 6]), (12, [0, 3, 6]), (13, [0, 3, 6, 9])]
)
def test_windows_of_a_token_stream_predict_each_token_once(n_tokens: int, offsets: list[int]) -> None:
    stream = TokenStream(torch.arange(n_tokens), sequence_length=3)
    assert stream.windows().tolist() == offsets
    _, targets = stream.gather(stream.windows())
    assert targets.flatten().tolist() == list(range(1, 3 * len(offsets) + 1))


def test_windows_of_examples_are_all_of_them() -> None:
    assert examples(4).windows().tolist() == [0, 1, 2, 3]


def test_offsets_of_a_token_stream_reach_its_last_token() -> None:
    stream = TokenStream(torch.arange(9), sequence_length=3)
    order = stream.order(seeded(), 50, 10)
    assert sorted(set(order.flatten().tolist())) == list(range(6))
    assert stream.gather(order)[1].max() == 8


def test_only_floating_point_inputs_are_cast() -> None:
    images = examples(3).to("cpu", torch.float64)
    assert images.inputs.dtype == torch.float64
    assert images.targets.dtype == torch.int64
    texts = Examples(torch.ones(3, 4, dtype=torch.int64), torch.arange(3)).to("cpu", torch.float64)
    assert texts.inputs.dtype == torch.int64
    assert TokenStream(torch.arange(9), 3).to("cpu", torch.float64).tokens.dtype == torch.int64


def test_an_index_follows_the_data_to_its_device() -> None:
    for split in (examples(4), TokenStream(torch.arange(9), 3)):
        inputs, targets = split.to("meta", torch.float32).gather(torch.tensor([0, 1]))
        assert inputs.device.type == targets.device.type == "meta"
