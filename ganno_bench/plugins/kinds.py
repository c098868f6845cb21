"""The kinds of plugins, each with its registry and its contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ganno_bench.core.errors import UserError
from ganno_bench.core.registry import Registry
from ganno_bench.marl.rewards import REWARDS, load_reward
from ganno_bench.policies.observations import OBSERVATIONS, load_feature
from ganno_bench.schedulers.registry import SCHEDULERS, load_scheduler
from ganno_bench.testing.contract import CheckResult
from ganno_bench.testing.dataset_contract import check_dataset
from ganno_bench.testing.model_contract import check_family
from ganno_bench.testing.observation_contract import check_observation
from ganno_bench.testing.reward_contract import check_reward
from ganno_bench.testing.scheduler_contract import check_scheduler
from ganno_bench.workloads.embedded import EMBEDDED, load_maker
from ganno_bench.workloads.models import MODELS, load_family

__all__ = ["KINDS", "Kind", "Plugin", "list_plugins"]


@dataclass(frozen=True)
class Kind:
    """One kind of plugin.

    Attributes:
        registry: The registered names. The entry-point group is `ganno_bench.` and the plural of the kind.
        load: Reference -> the plugin, whose type has been checked.
        check: Reference -> result of each check of the contract.
    """

    registry: Registry
    load: Callable[[str], Any]
    check: Callable[[str], list[CheckResult]]


@dataclass(frozen=True)
class Plugin:
    """One registered name.

    Attributes:
        kind: Its kind.
        name: Registered name.
        source: `built-in`, or the name and version of the package that brings it.
        target: `module:attribute`.
        error: Why it cannot be used, or None.
    """

    kind: str
    name: str
    source: str
    target: str
    error: str | None


KINDS = {
    "scheduler": Kind(SCHEDULERS, load_scheduler, check_scheduler),
    "model": Kind(MODELS, load_family, check_family),
    "dataset": Kind(EMBEDDED, load_maker, check_dataset),
    "observation": Kind(OBSERVATIONS, load_feature, check_observation),
    "reward": Kind(REWARDS, load_reward, check_reward),
}
"""Kind, in the singular -> registry and contract."""


def list_plugins(kind: str | None = None, *, builtin: bool = False) -> list[Plugin]:
    """Load the plugins of all installed packages. One that fails to load has an error; the others are not affected.

    Args:
        kind: One of `KINDS`; all of them by default.
        builtin: Whether to list built-in names as well.
    """
    rows = []
    for name, one in KINDS.items():
        for entry in one.registry.entries().values() if kind in (None, name) else ():
            if entry.source == "built-in" and not builtin:
                continue
            error = None
            try:
                one.load(entry.name)
            except UserError as broken:
                error = str(broken)
            rows.append(Plugin(name, entry.name, entry.source, entry.target, error))
    return rows
