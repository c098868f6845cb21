"""Hyperparameters out of range are refused before training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ganno_bench.core.errors import ConfigError
from ganno_bench.schedulers.registry import SCHEDULERS, load_scheduler
from ganno_bench.schedulers.values import default_values

NAMES = [name for name, entry in SCHEDULERS.entries().items() if entry.source == "built-in"]
NUMBERS = [
    (name, key)
    for name in NAMES
    for key, value in default_values(load_scheduler(name).cls).items()
    if type(value) in (int, float)
]


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_no_number_of_a_built_in_scheduler_may_be_negative(name: str, key: str) -> None:
    ref = f"{name}({key}=-1)"
    message = rf"^scheduler '{re.escape(ref)}': {key} must be (at least|above|in) .* \(value: -1(\.0)?\)$"
    with pytest.raises(ConfigError, match=message):
        load_scheduler(ref)


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("step(n_drops=-1)", "n_drops must be at least 0 (value: -1)"),
        ("exponential(final_factor=0)", "final_factor must be above 0 (value: 0.0)"),
        ("rex(beta=1)", "beta must be in [0, 1) (value: 1.0)"),
        ("warmup-cosine(warmup=1.5)", "warmup must be in [0, 1] (value: 1.5)"),
        ("wsd(cooldown=1.5)", "cooldown must be in [0, 1] (value: 1.5)"),
        ("cosine-restarts(n_cycles=0)", "n_cycles must be at least 1 (value: 0)"),
        ("cosine-restarts(multiplier=0)", "multiplier must be at least 1 (value: 0)"),
        ("one-cycle(peak=1.5)", "peak must be in [0, 1] (value: 1.5)"),
        ("plateau(factor=1)", "factor must be in (0, 1) (value: 1.0)"),
        ("plateau(factor=0)", "factor must be in (0, 1) (value: 0.0)"),
        ("plateau(n_checks=0)", "n_checks must be at least 1 (value: 0)"),
        ("plateau(threshold=1)", "threshold must be in [0, 1) (value: 1.0)"),
        ("hypergradient(beta=1.5)", "beta must be in [0, 1] (value: 1.5)"),
        ("depth-factor(ratio=0)", "ratio must be above 0 (value: 0.0)"),
        ("trust-ratio(clip=0)", "clip must be above 0 (value: 0.0)"),
        ("prodigy(d0=0)", "d0 must be above 0 (value: 0.0)"),
        ("schedule-free(warmup=1)", "warmup must be in [0, 1) (value: 1.0)"),
    ],
)
def test_the_message_names_reference_range_and_value(ref: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scheduler(ref)
    assert str(caught.value) == f"scheduler {ref!r}: {message}"


def test_a_shape_that_is_none_is_refused_in_python_too() -> None:
    cls = load_scheduler("wsd").cls
    with pytest.raises(ConfigError, match=r"^shape must be 'linear' or '1-sqrt' \(value: 'square'\)$"):
        cls(shape="square")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "ref",
    [
        "step(n_drops=0, gamma=2)",
        "cosine(final_factor=2)",
        "polynomial(power=0)",
        "wsd(warmup=1, cooldown=1)",
        "one-cycle(peak=0, start_factor=0, final_factor=0)",
        "plateau(patience=1, threshold=0)",
        "hypergradient(beta=0)",
    ],
)
def test_the_ends_of_a_range_belong_to_it(ref: str) -> None:
    assert load_scheduler(ref).pinned


def test_the_error_of_a_plugins_own_check_names_the_reference(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        """from dataclasses import dataclass
from ganno_bench.core.errors import ConfigError
from ganno_bench.schedulers.closed_form import Constant

@dataclass(frozen=True)
class Mine(Constant):
    n: int = 2
    def __post_init__(self):
        if self.n % 2: raise ConfigError(f"n must be even (value: {self.n})")
"""
    )
    ref = f"{file}:Mine(n=3)"
    with pytest.raises(ConfigError) as caught:
        load_scheduler(ref)
    assert str(caught.value) == f"scheduler {ref!r}: n must be even (value: 3)"
    with pytest.raises(ConfigError, match=r"^scheduler '.*mine\.py:Mine': n must be even \(value: 5\)$"):
        load_scheduler(f"{file}:Mine").build({"n": 5})
