"""The policies that ship with the project: finding them by name, and distinguishing others of the same name."""

from __future__ import annotations

from pathlib import Path

from ganno_bench.core.errors import ConfigError, did_you_mean
from ganno_bench.core.resources import resource_dir
from ganno_bench.policies.policy import CARD, Policy, load_policy
from ganno_bench.schedulers.policy import find_policy

__all__ = ["apart_from_shipped", "locate_policy", "shipped_policies"]


def shipped_policies() -> list[str]:
    """Return the names of the shipped policies, sorted."""
    return sorted(path.parent.name for path in resource_dir("policies").glob(f"*/{CARD}"))


def locate_policy(ref: str) -> Path:
    """Return the folder of a policy, given a path or the name of a shipped one.

    Raises:
        ConfigError: There is no such policy; the message has the nearest name.
    """
    try:
        return find_policy(ref)
    except ConfigError as error:
        raise ConfigError(f"{error}{did_you_mean(ref, shipped_policies())}") from None


def apart_from_shipped(policy: Policy) -> str:
    """Return the suffix that distinguishes a policy from a shipped one of the same name; empty if not needed."""
    name = policy.card.name
    if name not in shipped_policies() or load_policy(resource_dir("policies") / name).hash == policy.hash:
        return ""
    return f"@{policy.hash[:8]}"
