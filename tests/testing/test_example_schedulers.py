"""Each scheduler among the examples passes the contract, and does what its docstring says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.playing import play
from ganno_bench.testing.scheduler_contract import check_scheduler
from ganno_bench.testing.synthetic import synthetic_runs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
REFS = ["inverse_sqrt.py:InverseSqrt", "cut_on_rise.py:CutOnRise"]


@pytest.mark.parametrize("ref", REFS)
def test_it_passes_the_contract(ref: str) -> None:
    assert [result.message for result in check_scheduler(f"{EXAMPLES / ref}") if not result.ok] == []


def test_every_scheduler_is_tested() -> None:
    files = [file.name for file in EXAMPLES.glob("*.py") if "@dataclass" in file.read_text("utf-8")]
    assert sorted(files) == sorted(ref.partition(":")[0] for ref in REFS)


def test_the_reactive_one_cuts_each_run_when_its_loss_has_risen() -> None:
    entry, runs = load_scheduler(str(EXAMPLES / "cut_on_rise.py:CutOnRise(cut=0.25)")), synthetic_runs(50)
    means = [1.0, 0.8, 0.9, 0.7, 0.7]  # of the training losses between two decisions
    runs.train_loss[:] = torch.tensor(means, dtype=torch.float64).repeat_interleave(10)[:, None]
    runs.train_loss[20:, 2] = 0.1
    factors = play(entry, runs).controls[:, :, 0] / runs.base_lr
    assert factors[::10, 0].tolist() == [1.0, 1.0, 1.0, 0.25, 0.25]
    assert factors[::10, 2].tolist() == [1.0] * 5
