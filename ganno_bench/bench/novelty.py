"""What is new to a policy about a workload: its depth, its data, its model family, or how they go together."""

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
    """How a workload lies to what a policy was trained on.

    Attributes:
        known: Whether the card says what the policy was trained on.
        new: What is new; empty for a workload that is *seen*. `combination`: each part is known, but from different
            tasks.
        reason: The same in words, with numbers.
    """

    known: bool
    new: tuple[Part, ...]
    reason: str

    @property
    def seen(self) -> bool:
        """Whether family, data and depth lie within one of the ranges that the policy was trained on."""
        return self.known and not self.new

    @property
    def label(self) -> str:
        """`seen`, or what is new, in a few characters: `new depth + data`."""
        if not self.known:
            return "unknown"
        return f"new {' + '.join(self.new)}" if self.new else "seen"


def novelty(card: PolicyCard, workload: WorkloadSpec, dataset: DatasetSpec, fingerprint: str) -> Novelty:
    """Compare a workload with the tasks in a policy's card.

    Width, batch size, optimizer and horizon do not count. A card whose tasks cannot be read says nothing.

    Args:
        card: The policy's card; its training configuration says the tasks.
        workload: The workload.
        dataset: Its dataset's declaration.
        fingerprint: Fingerprint of the dataset, as loaded.
    """
    try:
        tasks = card.training.config.get("tasks", {})
        trained = [_Trained.of(family, tasks.get("dataset", {}), card) for family in tasks.get("family", ())]
    except (AttributeError, KeyError, TypeError, ValueError):  # the card of another trainer
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
        reasons.append(f"family {family!r} was trained on other data")
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
    """Return a dataset's name as a folder's: a hub id and a folder of its copy are the same data."""
    return source.rstrip("/").rpartition("/")[2].replace("-", "_")


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))
