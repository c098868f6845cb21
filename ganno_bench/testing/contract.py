"""The parts that all contracts share: checks, their results, and a class that turns checks into pytest tests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from ganno_bench.core.errors import PluginError
from ganno_bench.core.process_state import DisturbanceError, undisturbed
from ganno_bench.testing.playing import ContractError, first_line

__all__ = ["Check", "CheckResult", "Contract", "check_all", "shortly", "unchanged"]

_PROCESS = "process_unchanged"

Check: TypeAlias = Callable[[Any], None]
"""Takes the loaded plugin, and raises `ContractError` if it fails."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        name: Name of the check.
        ok: Whether the plugin passed.
        message: What was expected and what was found; empty if the plugin passed.
    """

    name: str
    ok: bool
    message: str


def check_all(load: Callable[[], Any], checks: Sequence[Check], gates: Collection[Check]) -> list[CheckResult]:
    """Run checks in order. The first result is `loads`, the last is `process_unchanged`.

    `process_unchanged` fails if a plugin changes state that the whole process shares: PyTorch's default dtype, threads
    and modes, global random numbers, the current folder. No more checks run then, because their results would mean
    nothing.

    Args:
        load: Returns the plugin.
        checks: Functions named `check_...`.
        gates: Checks on which the others depend. If one of them fails, the remaining checks are skipped.

    Raises:
        UnknownNameError: There is no such plugin.
        ConfigError: The name of the plugin is malformed.
    """
    try:
        with undisturbed("loading it", may_draw=True):
            subject = load()
    except PluginError as error:
        return [CheckResult("loads", False, str(error))]
    results = [CheckResult("loads", True, "")]
    for check in checks:
        message = ""
        try:
            _run(check, subject)
        except DisturbanceError as error:
            return [*results, CheckResult(_PROCESS, False, str(error))]
        except (ContractError, PluginError) as error:
            message = str(error)
        except Exception as error:
            message = f"raised {first_line(error)}"
        results.append(CheckResult(check.__name__.removeprefix("check_"), not message, message))
        if message and check in gates:
            return results
    return [*results, CheckResult(_PROCESS, True, "")]


def _run(check: Check, subject: Any) -> None:
    """Run a check, and raise if the plugin changes state that the whole process shares."""
    with undisturbed("it"):
        check(subject)


class Contract:
    """A contract as pytest tests, one for each check. Derive `Test...` from the contract of a kind, and set `ref`."""

    ref: ClassVar[str]
    checks: ClassVar[Sequence[Check]]

    @staticmethod
    def load(ref: str) -> Any:
        """Return the plugin that `ref` names."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test for each check."""
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.checks, ids=lambda check: check.__name__.removeprefix("check_"))

    def test_contract(self, check: Check) -> None:
        """The plugin passes the check."""
        _run(check, self.load(self.ref))


def unchanged(before: Any, after: Any, what: str) -> None:
    """Raise if two nested structures of tensors and plain values differ.

    Raises:
        ContractError: They differ; the message says where.
    """
    if isinstance(before, Tensor):
        same = isinstance(after, Tensor) and before.shape == after.shape
        if not same or not torch.allclose(before, after, rtol=0.0, atol=0.0, equal_nan=True):
            raise ContractError(f"{what}: expected {shortly(before)}, got {shortly(after)}")
    elif is_dataclass(before):
        for name, value in vars(before).items():
            unchanged(value, getattr(after, name), f"{what}.{name}")
    elif isinstance(before, dict | list | tuple):
        if len(before) != len(after):
            raise ContractError(f"{what}: expected {len(before)} entries, got {len(after)}")
        for key in before if isinstance(before, dict) else range(len(before)):
            unchanged(before[key], after[key], f"{what}[{key!r}]")
    elif before != after and before == before:  # not NaN
        raise ContractError(f"{what}: expected {shortly(before)}, got {shortly(after)}")


def shortly(value: Any) -> str:
    """Return a value as text on one line, at most 80 characters."""
    return " ".join(str(value.tolist() if isinstance(value, Tensor) else value).split())[:80]
