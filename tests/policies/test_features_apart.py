"""A plugin's observation cannot change anything: it gets copies, and the state of the process is restored."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from ganno_bench.core.errors import PluginError
from ganno_bench.policies.observations import load_features, observe
from ganno_bench.testing.contract import unchanged
from ganno_bench.testing.observation_contract import views
from ganno_bench.testing.synthetic import synthetic_runs

FEATURES = """
import torch
from ganno_bench.policies.observations import feature

@feature()
def spoils(view):
    for part in (view.signals, view.run, view.memory, view):
        for value in vars(part).values():
            if isinstance(value, torch.Tensor):
                value.fill_(1)
    return torch.ones_like(view.lr)

@feature()
def shifts(view):
    torch.set_default_dtype(torch.float64)
    return torch.ones_like(view.lr)

@feature()
def draws(view):
    return torch.rand(view.lr.shape)

@feature()
def ends(view):
    raise SystemExit(0)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "features.py"
    path.write_text(FEATURES)
    return path


def test_what_it_writes_reaches_nobody(file: Path) -> None:
    alone = load_features(["log-train-loss", "log-lr"])
    among = load_features([f"{file}:spoils", "log-train-loss", "log-lr"], files=True)
    for view in views(synthetic_runs(60)):
        before = copy.deepcopy(view)
        assert torch.equal(observe(among, view)[..., 1:], observe(alone, view))
        unchanged(vars(before.signals), vars(view.signals), "signals")
        unchanged(vars(before.run), vars(view.run), "run")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shifts", "changed PyTorch's default dtype from torch.float32 to torch.float64, shared by the whole process$"),
        ("draws", "drew from or seeded the global random numbers of PyTorch"),
        ("ends", r"raised SystemExit: 0 \(features\.py:\d+\)$"),
    ],
)
def test_what_it_does_to_the_process_is_named(file: Path, name: str, message: str) -> None:
    features = load_features([f"{file}:{name}"], files=True)
    view = next(views(synthetic_runs(60)))
    with pytest.raises(PluginError, match=f"^observation '.*features.py:{name}' {message}"):
        observe(features, view)
    assert torch.get_default_dtype() == torch.float32
