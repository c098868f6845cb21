"""A trained policy as a scheduler: `policy:PATH`, or the name of one that is shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ganno_bench.core.errors import ConfigError
from ganno_bench.core.resources import resource_dir
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.observations import Memory
from ganno_bench.policies.policy import Policy, load_policy
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["PolicyScheduler", "find_policy", "policy_scheduler"]


@dataclass(frozen=True)
class PolicyScheduler(Scheduler):
    """Base of the classes that `policy_scheduler` makes. Nothing of a policy is tuned: it is frozen."""

    policy: ClassVar[Policy]
    zero_shot: ClassVar[bool] = True

    def init(self, run: RunInfo) -> State:
        """Return the run's description, the agents' factors and their memory of the losses."""
        return {"run": vars(run).copy(), **_packed(self.policy.controller.init(run))}

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Let every agent see and act."""
        run = RunInfo(**state["run"])
        controller = self.policy.controller
        left = signals.total_updates - signals.n_updates
        n_updates = max(1, min(self.policy.card.interval, left))
        seen, control = controller.observe(_unpacked(state), run, signals)
        controls, control = controller.act(control, run, self.policy.decide(seen), signals.n_updates, n_updates)
        return controls, {"run": state["run"], **_packed(control)}


_classes: dict[tuple[str, str], type[PolicyScheduler]] = {}
"""Hash and description of a policy -> its class."""


def policy_scheduler(ref: str) -> type[PolicyScheduler]:
    """Return a scheduler class for a policy, the same one for the same policy.

    Args:
        ref: A folder, or the name of a shipped policy.

    Raises:
        ConfigError: There is no such policy, or it is corrupt.
    """
    policy = load_policy(find_policy(ref))
    key = (policy.hash, policy.card.description)
    if key in _classes:
        return _classes[key]
    namespace = {
        "__doc__": policy.card.description or f"The policy {policy.card.name!r}.",
        "__module__": __name__,
        "policy": policy,
        "needs": frozenset(policy.controller.needs),
        "interval": policy.card.interval,
    }
    made: type[PolicyScheduler] = dataclass(frozen=True)(type(policy.card.name, (PolicyScheduler,), namespace))
    return _classes.setdefault(key, made)


def find_policy(ref: str) -> Path:
    """Return the folder of a policy, given a path or the name of a shipped one."""
    path = Path(ref).expanduser()
    if ref and path.is_dir():
        return path
    shipped = resource_dir("policies") / ref
    if ref and (shipped / "card.toml").is_file() and "/" not in ref:
        return shipped
    raise ConfigError(f"policy {ref!r} is neither a folder nor the name of a shipped policy")


def _packed(control: ControlState) -> dict[str, object]:
    return {"log_factor": control.log_factor, "memory": vars(control.memory).copy()}


def _unpacked(state: State) -> ControlState:
    return ControlState(state["log_factor"], Memory(**state["memory"]))
