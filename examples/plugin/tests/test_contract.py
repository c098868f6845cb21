"""The contract of all schedulers, and tests of warmup-power alone."""

from __future__ import annotations

import pytest
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.scheduler_contract import SchedulerContract

from ganno_bench_warmup_power import WarmupPower


class TestContract(SchedulerContract):
    """One test for each check of the contract."""

    ref = "warmup-power"


def test_the_name_is_registered() -> None:
    """The entry point names the class."""
    assert load_scheduler("warmup-power").cls is WarmupPower


def test_it_rises_to_1_and_falls() -> None:
    """Replace this by a test of your schedule."""
    factors = [WarmupPower(warmup=0.25).factor(update, 100) for update in range(100)]
    assert factors[:25] == pytest.approx([(update + 1) / 25 for update in range(25)])
    assert factors[24:] == sorted(factors[24:], reverse=True)
    assert factors[-1] == pytest.approx(1 / 76)
