"""All registered schedulers, and a torch class of each kind, pass the contract."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ganno_bench.schedulers.registry import SCHEDULERS, SchedulerEntry, load_scheduler
from ganno_bench.testing.scheduler_contract import CHECKS

NAMES = [name for name, entry in SCHEDULERS.entries().items() if entry.source == "built-in"]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "ref", [*NAMES, "torch:StepLR(step_size=20, gamma=0.5)", "torch:CosineAnnealingLR", "torch:OneCycleLR(max_lr=1.0)"]
)
def test_contract(ref: str, check: Callable[[SchedulerEntry], None]) -> None:
    check(load_scheduler(ref))
