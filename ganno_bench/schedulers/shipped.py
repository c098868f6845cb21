"""The policies that ship with the project: finding them by name, and distinguishing others of the same name."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ganno_bench.core.errors import ConfigError
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
        ConfigError: There is no such policy, or the folder has no `card.toml`; the message has the nearest valid name
            and the names of the shipped policies.
    """
    shipped = shipped_policies()
    near = get_close_matches(ref, [name for name in shipped if name != ref], n=1)
    try:
        folder = find_policy(ref)
    except ConfigError as error:
        problem = str(error)
    else:
        if (folder / CARD).is_file():
            return folder
        problem = f"folder {ref!r} is not a policy folder: it has no {CARD}"
        if (folder / "policy" / CARD).is_file():  # `ganno-bench train` writes the policy there
            near = [str(folder / "policy")]
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"{problem}{hint}; shipped policies: {', '.join(shipped)}")


def apart_from_shipped(policy: Policy) -> str:
    """Return the suffix that distinguishes a policy from a shipped one of the same name; empty if not needed."""
    name = policy.card.name
    if name not in shipped_policies() or load_policy(resource_dir("policies") / name).hash == policy.hash:
        return ""
    return f"@{policy.hash[:8]}"
