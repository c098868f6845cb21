"""Values of hyperparameters, checked against the declared types of their fields.

The annotation of a field determines its type, because a default of 0 or None does not: `momentum: float = 0` takes 0.9.
If there is no annotation, or it cannot be resolved, the type is the type of the default.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from inspect import get_annotations
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from ganno_bench.core.errors import ConfigError

__all__ = ["UnfitError", "declared_types", "default_values", "fit", "require", "resolve"]


class UnfitError(TypeError):
    """A value has the wrong type. The message is the right type, such as `of type int`."""


def default_values(cls: type[Any]) -> dict[str, Any]:
    """Return the default of each field of a dataclass. NumPy's numbers become Python's."""
    return {
        field.name: _plain(field.default if field.default_factory is MISSING else field.default_factory())
        for field in fields(cls)
    }


def declared_types(cls: type[Any]) -> dict[str, Any]:
    """Return the type of each field of a dataclass, for `fit`. A default always has the type of its field."""
    defaults, types = default_values(cls), {}
    for field in fields(cls):
        owner = next((base for base in cls.__mro__ if field.name in get_annotations(base)), cls)
        hint, default = resolve(field.type, vars(sys.modules[owner.__module__])), defaults[field.name]
        if hint is Any and default is not None:
            hint = type(default)
        try:
            fit(default, hint)
        except UnfitError:  # `x: float = None`
            hint = Union[hint, type(default)]  # noqa: UP007 -- not every annotation has the operator
        types[field.name] = hint
    return types


def require(scheduler: object, name: str, holds: bool, what: str) -> None:
    """Raise unless a hyperparameter is in its range.

    Args:
        scheduler: Has the hyperparameter as an attribute.
        name: Name of the hyperparameter.
        holds: Whether the value is in the range.
        what: The range, for the message, such as `at least 0`.

    Raises:
        ConfigError: `NAME must be WHAT (value: VALUE)`.
    """
    if not holds:
        raise ConfigError(f"{name} must be {what} (value: {getattr(scheduler, name)!r})")


def resolve(annotation: Any, names: Mapping[str, Any]) -> Any:
    """Return the type that an annotation names; `Any` if it cannot be resolved.

    Args:
        annotation: A type, or its source.
        names: The global names of its module.
    """
    holder = type("Holder", (), {"__annotations__": {"value": annotation}})
    try:
        return get_type_hints(holder, dict(names))["value"]
    except Exception:  # such as a name that is imported for type checkers only
        return Any


def fit(value: Any, hint: Any) -> Any:
    """Return a value, converted to its type where that is harmless: an int to a float, a list to a tuple.

    Args:
        value: A literal, a default, or a proposal of Optuna.
        hint: Its type, resolved.

    Raises:
        UnfitError: The value has another type, or is a number that is not finite.
    """
    value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UnfitError("a finite number")
    origin, options = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return fit(value, options[0])
    if origin in (Union, UnionType):
        return _fit_one_of(value, options, hint)
    if origin is Literal:
        if not any(type(value) is type(option) and value == option for option in options):
            raise UnfitError(f"one of {options}")
        return value
    kind = origin or hint
    if not isinstance(kind, type):  # `Any`, a type variable
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) in (list, tuple) and (kind in (list, tuple) or _is(value, kind)):
        return _fit_items(value, kind, options, hint)
    if not _is(value, kind) or (type(value) is bool and kind is int):
        raise _unfit(hint)
    return value


def _fit_one_of(value: Any, options: Iterable[Any], hint: Any) -> Any:
    fitted = []
    for option in options:
        try:
            fitted.append(fit(value, option))
        except UnfitError:
            continue
    if not fitted:
        raise _unfit(hint)
    return next((one for one in fitted if type(one) is type(value)), fitted[0])


def _fit_items(value: Any, kind: type[Any], options: tuple[Any, ...], hint: Any) -> Any:
    fixed = kind is tuple and bool(options) and options[-1] is not ...
    each = options if fixed else (options[:1] or (Any,)) * len(value)
    if len(each) != len(value):
        raise _unfit(hint)
    try:
        items = [fit(item, option) for item, option in zip(value, each, strict=True)]
    except UnfitError:
        raise _unfit(hint) from None
    return (kind if kind in (list, tuple) else type(value))(items)


def _is(value: Any, kind: type[Any]) -> bool:
    try:
        return isinstance(value, kind)
    except TypeError:  # a protocol, a typed dictionary
        return True


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _unfit(hint: Any) -> UnfitError:
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    named = [option for option in options if option is not NoneType]
    if named == [float]:
        return UnfitError("a finite number")
    if named == [int]:
        return UnfitError("a whole number")
    names = [option.__name__ if type(option) is type else str(option).replace("typing.", "") for option in named]
    return UnfitError(f"of type {' or '.join(names)}")
