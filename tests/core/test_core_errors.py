from __future__ import annotations

import pytest

from ganno_bench.core import errors
from ganno_bench.core.errors import GannoBenchError, UserError, did_you_mean, one_line


def test_what_a_user_can_get_wrong_exits_with_2() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    for kind in kinds:
        assert issubclass(kind, GannoBenchError)
        assert kind.exit_code == (1 if kind is GannoBenchError else 2)
        assert issubclass(kind, UserError) or kind is GannoBenchError
    assert len(kinds) == 13


@pytest.mark.parametrize(
    ("name", "choices", "hint"),
    [
        ("cosin", ["constant", "cosine"], "; did you mean 'cosine'?"),
        ("zzz", ["b", "a"], "; valid: a, b"),
        ("zzz", [], ""),
        ("a", iter(["ab"]), "; did you mean 'ab'?"),
    ],
)
def test_did_you_mean(name: str, choices: list[str], hint: str) -> None:
    assert did_you_mean(name, choices) == hint


def test_an_error_of_others_on_one_line() -> None:
    assert one_line(ValueError("first\n  second\t third")) == "ValueError: first second third"
    assert one_line(RuntimeError()) == "RuntimeError"
