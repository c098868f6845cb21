"""Compare a workload with a policy's training tasks: is its depth, dataset, model family or combination new?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ganno_bench.policies.policy import PolicyCard
from ganno_bench.workloads.suite import DatasetSpec, WorkloadSpec

__all__ = ["Novelty", "Part", "novelty"]

Part = Literal["family", "data", "depth", "combination"]


@dataclass(frozen=True)
class Novelty:
    """What is new about a workload to a policy.

    Attributes:
        known: Whether the card names the training tasks.
        new: The new parts; empty for a workload that is *seen*. `combination`: family and dataset were both trained
            on, but in different tasks.
        reason: An explanation with numbers.
    """

    known: bool
    new: tuple[Part, ...]
    reason: str

    @property
    def seen(self) -> bool:
        """Whether family, dataset and depth lie within one of the policy's training ranges."""
        return self.known and not self.new

    @property
    def label(self) -> str:
        """`seen`, `unknown`, or the new parts, such as `new depth + data`."""
        if not self.known:
            return "unknown"
        return f"new {' + '.join(self.new)}" if self.new else "seen"


def novelty(card: PolicyCard, workload: WorkloadSpec, dataset: DatasetSpec, fingerprint: str) -> Novelty:
    """Compare a workload with the training tasks on a policy's card.

    Width, batch size, optimizer and horizon do not count. If the card's tasks cannot be read, the novelty is unknown.

    Args:
        card: The policy's card; its training configuration lists the tasks.
        workload: The workload.
        dataset: The declaration of its dataset.
        fingerprint: Fingerprint of the loaded dataset.
    """
    try:
        tasks = card.training.config.get("tasks", {})
        trained = [_Trained.of(family, tasks.get("dataset", {}), card) for family in tasks.get("family", ())]
    except (AttributeError, KeyError, TypeError, ValueError):  # a card that another trainer wrote
        trained = []
    if not trained:
        return Novelty(False, (), "the card does not say what the policy was trained on")
    family, depth = str(workload.model["family"]), workload.model.get("depth")
    of_family = [task for task in trained if task.family == family]
    of_data = [task for task in trained if task.fingerprint == fingerprint or task.source == _plain(dataset.source)]
    both = [task for task in of_family if task in of_data]
    ranges = sorted({task.depth for task in both or of_family})
    parts: list[Part] = []
    reasons = []
    if not of_family:
        parts.append("family")
        reasons.append(f"family {family!r} is new (trained on {_list(task.family for task in trained)})")
    if not of_data:
        parts.append("data")
        reasons.append(f"dataset {workload.dataset!r} is new (trained on {_list(task.source for task in trained)})")
    if of_family and isinstance(depth, int) and not any(low <= depth <= high for low, high in ranges):
        parts.insert(0, "depth")
        reasons.append(f"depth {depth} is outside of {', '.join(f'{low}-{high}' for low, high in ranges)}")
    if not parts and not both:
        parts.append("combination")
        reasons.append(f"family {family!r} with dataset {workload.dataset!r} is new (trained on each, not together)")
    if not parts:
        reasons.append(f"family, data and depth (trained on {', '.join(f'{low}-{high}' for low, high in ranges)})")
    return Novelty(True, tuple(parts), "; ".join(reasons))


@dataclass(frozen=True)
class _Trained:
    family: str
    source: str
    fingerprint: str | None
    depth: tuple[int, int]

    @classmethod
    def of(cls, family: Mapping[str, Any], datasets: Mapping[str, Any], card: PolicyCard) -> _Trained:
        key = str(family["dataset"])
        low, high = sorted(family["depth"])
        source = datasets.get(key, {}).get("source", key)
        return cls(str(family["model"]["family"]), _plain(source), card.training.datasets.get(key), (low, high))


def _plain(source: str) -> str:
    """Return the last part of a hub id or path: a dataset on the hub and a folder with its copy hold the same data."""
    return source.rstrip("/").rpartition("/")[2].replace("-", "_")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
