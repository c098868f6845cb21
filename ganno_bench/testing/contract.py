"""What all contracts have in common: checks that raise, their results, and a class that makes tests of them."""

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
"""Takes what was loaded, and raises `ContractError` if it fails."""


@dataclass(frozen=True)
class CheckResult:
    """What one check found.

    Attributes:
        name: Name of the check.
        ok: Whether the plugin passed.
        message: What was expected and what came; empty if it passed.
    """

    name: str
    ok: bool
    message: str


def check_all(load: Callable[[], Any], checks: Sequence[Check], gates: Collection[Check]) -> list[CheckResult]:
    """Run checks in order; the first, `loads`, is loading, the last, `process_unchanged`, holds during all of them.

    A plugin that changes what belongs to the whole process (PyTorch's default dtype, threads, modes, global random
    numbers, the current folder) fails at once, since the other checks would mean nothing.

    Args:
        load: Returns what is checked.
        checks: Functions called `check_...`.
        gates: Those without which the others mean nothing: after one that fails, they are left out.

    Raises:
        UnknownNameError: There is no such plugin.
        ConfigError: The reference to it is malformed.
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
    """Run a check, in which the plugin must leave alone what belongs to the whole process."""
    with undisturbed("it"):
        check(subject)


class Contract:
    """A contract as pytest tests, one for each check. A subclass of a kind's own, called `Test...`, sets `ref`."""

    ref: ClassVar[str]
    checks: ClassVar[Sequence[Check]]

    @staticmethod
    def load(ref: str) -> Any:
        """Return what `ref` names."""
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Make one test of each check."""
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.checks, ids=lambda check: check.__name__.removeprefix("check_"))

    def test_contract(self, check: Check) -> None:
        """The plugin passes the check."""
        _run(check, self.load(self.ref))


def unchanged(before: Any, after: Any, what: str) -> None:
    """Raise where two nested structures of tensors and plain values differ.

    Raises:
        ContractError: Says what differs.
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
    """Return a value on one line of bearable length."""
    return " ".join(str(value.tolist() if isinstance(value, Tensor) else value).split())[:80]
