"""A hyperparameter takes values of the declared type of its field, whatever the type of its default."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, List, Literal, Optional, Protocol, Tuple, Union  # noqa: UP035 -- as libraries do

import numpy as np
import pytest

from ganno_bench.core.errors import PluginError, UserError
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.schedulers.values import UnfitError, declared_types, default_values, fit, resolve
from tests.helpers.extras import library

PLUGIN = """
import enum
from dataclasses import dataclass
from typing import Literal, Optional

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ganno_bench.schedulers import ClosedForm

class Kind(enum.Enum):
    A = 1

@dataclass(frozen=True)
class Mine(ClosedForm):
    x: {annotation} = {default}

    @classmethod
    def search_space(cls):
        return {{"x": {distribution}}} if {tuned} else {{}}

    def factor(self, update, total):
        return 1.0
"""


def plugin(folder: Path, annotation: str, default: str, distribution: str | None = None, future: bool = False) -> str:
    path = folder / "mine.py"
    text = PLUGIN.format(
        annotation=annotation, default=default, distribution=distribution, tuned=distribution is not None
    )
    path.write_text("from __future__ import annotations\n" * future + text)
    return f"{path}:Mine"


def taken(ref: str) -> Any:
    """Return the value of the last pinned hyperparameter, or the error."""
    try:
        return next(reversed(load_scheduler(ref).pinned.values()), "taken, with nothing pinned")
    except UserError as error:
        return str(error)


@pytest.mark.parametrize(
    ("ref", "value"),
    [
        # Annotated as floats, with whole numbers as defaults.
        ("transformers:warmup_stable_decay(num_decay_steps=9, min_lr_ratio=0.1)", 0.1),
        ("pytorch-optimizer:SGD(momentum=0.9)", 0.9),
        ("pytorch-optimizer:SGD(momentum=1)", 1.0),
        ("torch:CyclicLR(max_lr=2)", 2.0),
        ("pytorch-optimizer:Lion(betas=[0, 0.9])", (0.0, 0.9)),
        ("timm:MultiStepLRScheduler(decay_t=(10, 60))", [10, 60]),
        ("timm:CosineLRScheduler(noise_range_t=(10, 60))", (10, 60)),
    ],
)
def test_libraries_arguments_are_of_the_annotated_type(ref: str, value: Any) -> None:
    library("transformers.optimization")
    library("timm")
    library("pytorch_optimizer")
    got = taken(ref)
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("pytorch-optimizer:SGD(momentum=True)", "'momentum' must be a finite number like 0 (value: True)"),
        ("pytorch-optimizer:SGD(nesterov=1)", "'nesterov' must be of type bool like False (value: 1)"),
        ("pytorch-optimizer:Lion(betas=(0.9, 'x'))", "'betas' must be of type tuple[float, float]"),
        ("transformers:cosine(num_warmup_steps=0.1)", "'num_warmup_steps' must be a whole number like 0 (value: 0.1)"),
        ("transformers:linear(num_warmup_steps=0.1)", "'num_warmup_steps' must be a whole number like 0 (value: 0.1)"),
        ("transformers:inverse_sqrt(timescale=0.5)", "'timescale' must be a whole number (value: 0.5)"),
        ("torch:StepLR(step_size=True)", "'step_size' must be a whole number (value: True)"),
        ("torch:OneCycleLR(max_lr='high')", "'max_lr' must be of type float or list[float] (value: 'high')"),
        ("torch:CyclicLR(max_lr=2, mode='square')", "'mode' must be one of ('triangular', 'triangular2', 'exp_range')"),
    ],
)
def test_what_is_not_of_the_annotated_type_is_refused(ref: str, message: str) -> None:
    library("transformers.optimization")
    library("pytorch_optimizer")
    assert message in str(taken(ref))


@pytest.mark.parametrize("future", [False, True])
@pytest.mark.parametrize(
    ("annotation", "default", "literal", "value"),
    [
        ("float", "1", "0.5", 0.5),
        ("float", "1", "2", 2.0),
        ("float", "np.float64(1.0)", "0.5", 0.5),
        ("int", "np.int64(1)", "2", 2),
        ("Optional[float]", "None", "2", 2.0),
        ("int | float", "1", "0.5", 0.5),
        ("float | int", "1", "2", 2),
        ("bool", "False", "True", True),
        ("tuple[float, ...]", "(0.5,)", "[1, 2.5]", (1.0, 2.5)),
        ("tuple", "(0.5, 0.75)", "(0.3,)", (0.3,)),
        ("Literal['a', 2]", "2", "'a'", "a"),
        ("float", "None", "2", 2.0),
        ("'float'", "1", "0.5", 0.5),
        ("Missing", "1", "2", 2),
    ],
)
def test_a_plugins_field_takes_what_it_is_declared_to_be(
    tmp_path: Path, annotation: str, default: str, literal: str, value: Any, future: bool
) -> None:
    if annotation == "Missing" and not future:
        annotation = "'Missing'"
    got = taken(f"{plugin(tmp_path, annotation, default, future=future)}(x={literal})")
    assert (got, type(got)) == (value, type(value))


@pytest.mark.parametrize(
    ("annotation", "default", "literal", "expected"),
    [
        ("float", "1", "True", "a finite number like 1 (value: True)"),
        ("float", "1", "1e999", "a finite number like 1 (value: inf)"),
        ("int", "1", "0.5", "a whole number like 1 (value: 0.5)"),
        ("bool", "False", "0", "of type bool like False (value: 0)"),
        ("Optional[str]", "None", "3", "of type str (value: 3)"),
        ("str | int", "'a'", "0.5", "of type str or int like 'a' (value: 0.5)"),
        (
            "tuple[float, float]",
            "(0.5, 0.75)",
            "(0.5,)",
            "of type tuple[float, float] like (0.5, 0.75) (value: (0.5,))",
        ),
        ("Literal['a', 2]", "2", "'b'", "one of ('a', 2) like 2 (value: 'b')"),
        ("'Missing'", "1", "0.5", "a whole number like 1 (value: 0.5)"),
    ],
)
def test_what_a_plugins_field_is_not_is_refused(
    tmp_path: Path, annotation: str, default: str, literal: str, expected: str
) -> None:
    got = taken(f"{plugin(tmp_path, annotation, default)}(x={literal})")
    assert got == f"scheduler 'mine': 'x' must be {expected}"


@pytest.mark.parametrize("default", ["1", "np.float64(1.0)"])
def test_what_is_proposed_of_a_float_is_taken(tmp_path: Path, default: str) -> None:
    entry = load_scheduler(plugin(tmp_path, "float", default, "FloatDistribution(0.1, 2.0)"))
    assert [(type(value), value) for value in entry.defaults().values()] == [(float, 1.0)]
    assert taken(f"{entry.ref}(x=0.3)") == 0.3


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")  # Optuna's own
@pytest.mark.parametrize(
    ("annotation", "default", "choices", "odd"),
    [
        ("Optional[str]", "None", "(None, 'linear')", "None"),
        ("Optional[str]", "'linear'", "(None, 'linear')", "None"),
        ("tuple", "(0.5, 0.75)", "((0.5, 0.75), (0.3, 0.6, 0.9))", "(0.5, 0.75)"),
        ("Kind", "Kind.A", "(Kind.A,)", "<Kind.A: 1>"),
        ("object", "np.int64(1)", "(1, np.int64(2))", "np.int64(2)"),
    ],
)
def test_a_choice_that_cannot_be_recorded_is_refused_when_it_is_loaded(
    tmp_path: Path, annotation: str, default: str, choices: str, odd: str
) -> None:
    got = taken(f"{plugin(tmp_path, annotation, default, f'CategoricalDistribution({choices})')}")
    assert got.endswith(
        f"search_space() has the choice {odd} for 'x'; a choice must be a str, a bool, an int or a float"
    )


@pytest.mark.parametrize(
    ("annotation", "default", "distribution", "message"),
    [
        ("int", "1", "FloatDistribution(0.5, 2)", "'x' must be a whole number, but .* proposes 0.5"),
        ("bool", "True", "CategoricalDistribution((True, 2))", "'x' must be of type bool, but .* proposes 2"),
        ("str", "'a'", "CategoricalDistribution(('a', 1))", "'x' must be of type str, but .* proposes 1"),
        ("float", "1.0", "CategoricalDistribution((1.0, float('inf')))", "'x' must be a finite number, but .* inf"),
    ],
)
def test_a_search_space_that_proposes_what_the_field_is_not_is_refused(
    tmp_path: Path, annotation: str, default: str, distribution: str, message: str
) -> None:
    assert re.search(message, taken(plugin(tmp_path, annotation, default, distribution)))
    with pytest.raises(PluginError):  # a PluginError affects only this entry of a run
        load_scheduler(plugin(tmp_path, annotation, default, distribution))


def test_whole_numbers_may_be_proposed_of_a_float(tmp_path: Path) -> None:
    entry = load_scheduler(plugin(tmp_path, "float", "1", "IntDistribution(1, 3)"))
    assert entry.build({"x": 2}).x == 2.0  # type: ignore[attr-defined]


class Structural(Protocol):
    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (1, Annotated[float, "share"], 1.0),
        ((1, 2), List[float], [1.0, 2.0]),  # noqa: UP006
        ([1, 2], Tuple[float, ...], (1.0, 2.0)),  # noqa: UP006
        ([1, 2], Iterable[int], [1, 2]),
        ((1, 2), Sequence[float], (1.0, 2.0)),
        ((1,), tuple[float, float] | tuple[float], (1.0,)),
        ({"a": 1}, dict[str, int], {"a": 1}),
        (None, None | int, None),
        (len, Callable[[Any], int], len),
        (3, Structural, 3),
        (np.float32(0.5), float, 0.5),
        ([[1], [2]], list[list[float]], [[1.0], [2.0]]),
    ],
)
def test_what_fits(value: Any, hint: Any, expected: Any) -> None:
    assert fit(value, hint) == expected
    assert type(fit(value, hint)) is type(expected)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ([1], str),
        ([1], dict),
        ((1, "a"), tuple[float, ...]),
        (3, Callable[..., Any]),
        (float("nan"), Any),
        (None, int),
        (True, Union[int, float]),  # noqa: UP007
    ],
)
def test_what_does_not(value: Any, hint: Any) -> None:
    with pytest.raises(UnfitError):
        fit(value, hint)


@dataclass(frozen=True)
class Base:
    a: float = 1


@dataclass(frozen=True)
class Derived(Base):
    b: Optional[int] = None  # noqa: UP045
    c: int = None  # type: ignore[assignment]
    d: list[int] = field(default_factory=lambda: [1])
    e: Literal["x"] = "x"
    f: float = float("inf")


def test_types_and_defaults_of_a_dataclass() -> None:
    types = declared_types(Derived)
    assert types["a"] is float
    assert (types["b"], types["c"], types["d"]) == (int | None, int | None, list[int])
    assert default_values(Derived) == {"a": 1, "b": None, "c": None, "d": [1], "e": "x", "f": float("inf")}


def test_what_cannot_be_resolved_is_anything() -> None:
    assert resolve("Missing", {}) is Any
    assert resolve("1 +", {}) is Any
    assert resolve("float | None", {}) == (float | None)
