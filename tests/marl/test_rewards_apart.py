"""A plugin's reward cannot change anything: it gets copies, and the state of the process is restored."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ganno_bench.core.errors import PluginError
from ganno_bench.marl.rewards import load_rewards
from ganno_bench.testing.contract import unchanged
from ganno_bench.testing.reward_contract import transitions
from ganno_bench.testing.synthetic import synthetic_runs

REWARDS = """
import torch
from ganno_bench.marl.rewards import reward

@reward()
def spoils(transition):
    for part in (transition.before, transition.after, transition):
        for value in vars(part).values():
            if isinstance(value, torch.Tensor):
                value.fill_(1)
    return transition.val_after[:, None]

@reward()
def shifts(transition):
    torch.set_num_threads(5)
    return transition.val_after[:, None]
"""


def test_what_it_writes_reaches_nobody_and_what_it_sets_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text(REWARDS)
    (_, spoils, weight), (_, shifts, _), (_, plain, _) = load_rewards(
        {f"{file}:spoils": 0.5, f"{file}:shifts": 1.0, "log-validation": 1.0}
    )
    assert weight == 0.5
    for transition in transitions(synthetic_runs(60), plain):
        before = copy.deepcopy(transition)
        assert spoils.compute(transition).tolist() == [[1.0]] * 3
        for name in ("before", "after"):
            unchanged(vars(getattr(before, name)), vars(getattr(transition, name)), name)
        assert torch.equal(plain.compute(transition), plain.compute(before))
        with pytest.raises(PluginError, match=r"^reward '.*:shifts' changed PyTorch's number of threads from 1 to 5"):
            shifts.compute(transition)
        assert torch.get_num_threads() == 1
