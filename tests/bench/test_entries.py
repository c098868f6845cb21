"""Errors in an entry's code are failures of that entry alone."""

from __future__ import annotations

import re

import pytest
import torch

from ganno_bench.bench.entries import code_of, load_entries, space_of
from ganno_bench.core.errors import ConfigError, PluginError, UserError
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler


@pytest.fixture
def entry() -> SchedulerEntry:
    return load_scheduler("cosine")


HERE = r"test_entries\.py:\d+"
"""Where the code of these tests raises."""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two\nlines"), "scheduler 'cosine' cannot be run: ValueError: two lines (HERE)"),
        (MemoryError(), "scheduler 'cosine' cannot be run: MemoryError (HERE)"),
        (SystemExit(0), "scheduler 'cosine': its code raised SystemExit: 0 (HERE)"),
        (GeneratorExit(), "scheduler 'cosine': its code raised GeneratorExit (HERE)"),
        (ConfigError("share is odd"), "scheduler 'cosine' cannot be run: share is odd"),
        (ConfigError("scheduler 'cosine': share is odd"), "scheduler 'cosine' cannot be run: share is odd"),
        (PluginError("as it is"), "as it is"),
    ],
)
def test_what_an_entrys_code_raises_is_the_entrys(entry: SchedulerEntry, error: BaseException, message: str) -> None:
    def fail() -> None:
        with code_of(entry):
            torch.set_default_dtype(torch.float64)
            raise error

    with pytest.raises(PluginError, match=f"^{re.escape(message).replace('HERE', HERE)}$"):
        fail()
    assert torch.get_default_dtype() == torch.float32


def test_a_message_names_the_scheduler_once() -> None:
    entry = load_scheduler("torch:StepLR(step_size=5)")
    with pytest.raises(PluginError) as caught, code_of(entry):
        entry.build({"step_size": 6})
    assert str(caught.value) == (
        "scheduler 'torch:StepLR(step_size=5)' cannot be run: 'step_size' must be 5, its pinned value (value: 6)"
    )
    entry = load_scheduler(" torch:StepLR( step_size=5 )")
    with pytest.raises(PluginError) as caught, code_of(entry):
        raise ConfigError(f"scheduler {entry.ref!r}: share is odd")
    assert str(caught.value) == "scheduler 'torch:StepLR(step_size=5)' cannot be run: share is odd"


def test_an_interrupt_is_the_users(entry: SchedulerEntry) -> None:
    with pytest.raises(KeyboardInterrupt), code_of(entry):
        raise KeyboardInterrupt


def test_what_optuna_refuses_is_the_entrys_and_the_storage_is_everybodys(entry: SchedulerEntry) -> None:
    with (
        pytest.raises(PluginError, match=r"^scheduler 'cosine' cannot be tuned: TypeError: no JSON \(.*\)$"),
        space_of(entry),
    ):
        raise TypeError("no JSON")
    for error in (OSError("disk full"), UserError("locked")):
        with pytest.raises(type(error)) as caught, space_of(entry):
            raise error
        assert caught.value is error


def test_one_that_cannot_be_loaded_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(ref: str) -> SchedulerEntry:
        if ref == "odd":
            raise KeyError("odd")
        return load_scheduler(ref)

    monkeypatch.setattr("ganno_bench.bench.entries.load_scheduler", load)
    entries, broken = load_entries(["cosine", "odd", "wsd"])
    assert [one.name for one in entries] == ["cosine", "wsd"]
    assert list(broken) == ["odd"]
    assert re.fullmatch(rf"scheduler 'odd' cannot be loaded: KeyError: 'odd' \({HERE}\)", str(broken["odd"]))
