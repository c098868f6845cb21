"""Decisions of built-in schedulers are committed: a changed decision needs a new revision."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.registry import load_scheduler
from tests.helpers.golden import FILE, fault, references

GOLDEN: dict[str, Any] = json.loads(FILE.read_text("utf-8"))


@pytest.mark.parametrize("ref", references())
def test_decisions_are_those_of_the_revision(ref: str) -> None:
    assert fault(load_scheduler(ref), GOLDEN) is None


def test_nothing_is_recorded_of_what_is_gone() -> None:
    assert set(GOLDEN) == set(references())


def test_every_scheduler_of_the_project_has_a_revision_of_its_own() -> None:
    for ref in references():
        cls = load_scheduler(ref).cls
        defined = next(
            base for base in cls.__mro__ if base.__name__ in vars(__import__(base.__module__, fromlist=["_"]))
        )
        assert "revision" in vars(defined), f"{defined.__name__} inherits another one's revision"


def test_a_changed_decision_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cosine, "factor", lambda self, update, total: 1.0 - update / total * 0.999999)
    assert fault(load_scheduler("cosine"), GOLDEN) == (
        "cosine: decides otherwise than revision 1 at {}: raise `revision` in its class"
    )
    assert str(fault(load_scheduler("warmup-cosine"), GOLDEN)).startswith("warmup-cosine: decides otherwise")
    assert fault(load_scheduler("linear"), GOLDEN) is None


def test_a_changed_default_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cosine.__init__, "__defaults__", (0.01,))
    assert fault(load_scheduler("cosine"), GOLDEN) is not None


def test_another_revision_wants_golden_decisions_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_scheduler("cosine")
    monkeypatch.setattr(Cosine, "revision", 2)
    assert fault(load_scheduler("cosine"), GOLDEN) == (
        "cosine: there are those of revision 1, not those of revision 2: make golden"
    )
    assert load_scheduler("cosine").code == "revision 2"
    assert load_scheduler("cosine").tag != before.tag
    assert fault(before, {}) == "cosine: there are none, not those of revision 2: make golden"
