"""Policies as schedulers: `policy:POLICY`, a folder or the name of a shipped policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ganno_bench.core.errors import ConfigError
from ganno_bench.core.resources import resource_dir
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.policy import Policy, load_policy
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["PolicyScheduler", "attributes_of", "find_policy", "make_class", "policy_scheduler"]

S = TypeVar("S", bound=Scheduler)


@dataclass(frozen=True)
class PolicyScheduler(Scheduler):
    """Base of the classes that `policy_scheduler` makes. Policies are frozen, so nothing is tuned."""

    revision: ClassVar[int | None] = 1
    policy: ClassVar[Policy]
    identity: ClassVar[str]
    zero_shot: ClassVar[bool] = True

    def init(self, run: RunInfo) -> State:
        """Return the RunInfo, the factors of the agents, and their memory of the losses."""
        return {"run": vars(run).copy(), **self.policy.controller.init(run).state_dict()}

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Let each agent observe and act."""
        control = ControlState.from_state_dict(state)
        controls, control = self.policy.control(control, RunInfo(**state["run"]), signals)
        return controls, {"run": state["run"], **control.state_dict()}


_classes: dict[tuple[str, str, str], type[Any]] = {}
"""Name, docstring and identity -> class."""


def make_class(base: type[S], name: str, doc: str, identity: str, **attributes: Any) -> type[S]:
    """Return a scheduler class for a policy, the same class for the same arguments.

    Args:
        base: Base class.
        name: Name of the class.
        doc: Docstring of the class.
        identity: Hash of everything that determines its decisions, except the code of `base`.
        attributes: Class attributes.
    """
    key = (name, doc, identity)
    if key not in _classes:
        namespace = {"__doc__": doc, "__module__": base.__module__, "identity": identity, **attributes}
        _classes[key] = dataclass(frozen=True)(type(name, (base,), namespace))
    return _classes[key]


def policy_scheduler(ref: str) -> type[PolicyScheduler]:
    """Return the scheduler class of a policy, the same class for the same policy.

    Args:
        ref: A folder, or the name of a shipped policy.

    Raises:
        ConfigError: There is no such policy, or it is corrupt.
    """
    policy = load_policy(find_policy(ref))
    doc = policy.card.description or f"The policy {policy.card.name!r}."
    return make_class(PolicyScheduler, policy.card.name, doc, policy.hash, **attributes_of(policy))


def attributes_of(policy: Policy) -> dict[str, Any]:
    """Return the attributes of a class whose decisions a policy makes."""
    return {"policy": policy, "needs": frozenset(policy.controller.needs), "interval": policy.card.interval}


def find_policy(ref: str) -> Path:
    """Return the folder of a policy, given a folder or the name of a shipped policy."""
    path = Path(ref).expanduser()
    if ref and path.is_dir():
        return path
    shipped = resource_dir("policies") / ref
    if ref and (shipped / "card.toml").is_file() and "/" not in ref:
        return shipped
    raise ConfigError(f"policy {ref!r} is neither a folder nor the name of a shipped policy")
