"""Test data stay on disk from loading until the evaluation of the harness, and are read back unchanged."""

from __future__ import annotations

import errno
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganno_bench.core.errors import DatasetError
from ganno_bench.core.records import read_records
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.population import Engine
from ganno_bench.workloads.data import Examples, Split, TokenStream
from ganno_bench.workloads.held_out import HeldOut, hold_out
from ganno_bench.workloads.workload import load_workload
from tests.helpers.tiny_suite import run_tiny, write_suite
from tests.helpers.workload_cases import images

N_TEST = 53


def streams() -> TokenStream:
    return TokenStream(torch.arange(40) % 7, 6)


def pictures() -> Examples:
    both = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return Examples(both[8:], torch.arange(12) % 3)  # a view, like a split that was cut


@pytest.mark.parametrize("make", [streams, pictures])
def test_they_come_back_bit_by_bit(make: Callable[[], Any]) -> None:
    split, held = make(), HeldOut(make())
    assert (held.n_examples, held.n_predictions) == (split.n_examples, split.n_predictions)
    for _ in range(2):  # it can be read repeatedly
        back = held.to("cpu", torch.float32)
        assert type(back) is type(split)
        for name, value in vars(split).items():
            same = torch.equal(value, vars(back)[name]) if isinstance(value, Tensor) else value == vars(back)[name]
            assert same, name
    assert held.to("cpu", torch.float64).gather(torch.tensor([3]))[0].dtype in (torch.float64, torch.int64)
    index = held.windows()
    assert torch.equal(index, split.windows())
    for mine, theirs in zip(held.gather(index), split.gather(index), strict=True):
        assert torch.equal(mine, theirs)
    assert torch.equal(held.head(6).gather(index[:1])[1], split.head(6).gather(index[:1])[1])
    orders = [part.order(torch.Generator().manual_seed(1), 3, 4) for part in (held, split)]
    assert torch.equal(*orders)


def test_the_other_splits_stay_as_they_are() -> None:
    dataset = images()
    held = hold_out(dataset)
    assert (held.train, held.validation, held.fingerprint) == (dataset.train, dataset.validation, dataset.fingerprint)
    assert isinstance(held.test, HeldOut)


def test_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/little")
    with pytest.raises(
        DatasetError, match=r"^dataset 'images': test data .* written to '/little': No space left on .*; free"
    ):
        hold_out(images())


# What can be found in memory while a plugin runs.

DATA = f'''
import datasets
from PIL import Image

def shades():
    """Gray images; only the test split has this number of rows."""
    def rows(n, first):
        rows = [{{"image": Image.new("L", (4, 4), first + 3 * i), "label": i % 2}} for i in range(n)]
        return datasets.Dataset.from_list(rows)
    return {{"train": rows(80, 0), "test": rows({N_TEST}, 1)}}
'''
PLUGIN = f'''
import gc
import datasets
import numpy as np
import torch
from dataclasses import dataclass
from ganno_bench.schedulers import Controls, OpenOptimizer, OptimizerEntry, Released, Scheduler

FOUND = []
"""(place, type) of all objects with as many rows as the test split."""

def look(where):
    kinds = (torch.Tensor, torch.nn.Parameter, np.ndarray, datasets.Dataset)
    for thing in [thing for thing in gc.get_objects() if type(thing) in kinds]:
        if thing.shape[:1] == ({N_TEST},):
            FOUND.append((where, type(thing).__name__))

@dataclass(frozen=True)
class Looking(Scheduler):
    interval = 3
    zero_shot = True
    def init(self, run):
        return run.base_lr
    def step(self, state, signals):
        look("step")
        return Controls(state[:, None].expand(signals.lr.shape)), state

class Run(OpenOptimizer):
    def eval(self):
        look("eval")

@dataclass(frozen=True)
class Replacing(OptimizerEntry):
    replaces = {{"sgd": Released("SGD", 0.01)}}
    def optimizer(self, parameters, weight_decay, spec):
        return Run(torch.optim.SGD(parameters))
'''


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "data.py").write_text(DATA)
    (tmp_path / "mine.py").write_text(PLUGIN)
    path = write_suite(
        tmp_path,
        ('"digits"\ntask', f'"{tmp_path / "data.py"}:shades"\ntask'),
        ("max_train = 64\nmax_validation = 64\nmax_test = 64\n", ""),
    )
    text = path.read_text().replace("n_evaluations = 6", "n_evaluations = 1")
    path.write_text(text[: text.rindex("[[workload]]")])
    return path


@pytest.mark.parametrize("name", ["Looking", "Replacing"])
def test_no_plugin_finds_them(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    evaluated: list[int] = []

    def keep(self: HeldOut, *arguments: Any) -> Split:
        split = to(self, *arguments)
        evaluated.append(split.n_examples)
        return split

    to = HeldOut.to
    monkeypatch.setattr(HeldOut, "to", keep)
    gc.collect()
    ref = f"{tmp_path / 'mine.py'}:{name}"
    done = run_tiny(suite, tmp_path / "out", schedulers=[ref], report_seeds=1)
    assert done.failures == []
    assert vars(sys.modules[load_scheduler(ref).cls.__module__])["FOUND"] == []
    assert evaluated == [N_TEST]
    (record,) = read_records([tmp_path / "out"])
    assert record.metrics.test_loss is not None


def test_what_an_engine_holds_is_not_the_test_split(suite: Path) -> None:
    engine: Any = Engine(load_workload(str(suite), "sgd-mlp"))
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    assert [tensor for tensor in tensors if tensor.shape[:1] == (N_TEST,)] == []
    assert any(tensor is engine.validation.targets for tensor in tensors)  # so the search would find test data, too
    assert engine.workload.dataset.test.n_examples == N_TEST
