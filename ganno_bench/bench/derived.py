"""Suites that an evaluation makes of the one it is given: the part whose data are there, and its middle, varied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tomli_w

from ganno_bench.core.errors import ResumeError
from ganno_bench.workloads.suite import DatasetSpec, Suite, Variation

__all__ = ["middle_workloads", "part_of", "varied_middle", "write_derived"]


def middle_workloads(suite: Suite) -> tuple[str, ...]:
    """Return one workload for each model family: the first in the suite of the family's middle depth."""
    chosen = []
    for family in dict.fromkeys(str(spec.model["family"]) for spec in suite.workload):
        own = [spec for spec in suite.workload if spec.model["family"] == family]
        depths = sorted({spec.model.get("depth", 0) for spec in own})
        middle = depths[len(depths) // 2]
        chosen.append(next(spec.id for spec in own if spec.model.get("depth", 0) == middle))
    return tuple(chosen)


def part_of(suite: Suite, suffix: str, workloads: Sequence[str]) -> Suite:
    """Return a suite of some of the workloads, and of no other datasets than theirs."""
    kept = tuple(spec for spec in suite.workload if spec.id in workloads)
    used = {spec.dataset for spec in kept}
    datasets = {name: spec for name, spec in suite.dataset.items() if name in used}
    return suite.model_copy(update={"name": f"{suite.name}-{suffix}", "workload": kept, "dataset": datasets})


def varied_middle(suite: Suite) -> Suite:
    """Return the middle workloads, with other base learning rates and weight decays on all report seeds."""
    variation = Variation(base_lr=(0.1, 0.3, 3.0, 10.0), weight_decay=(0.0, 10.0), seeds=suite.budget.report_seeds)
    return part_of(suite, "robustness", middle_workloads(suite)).model_copy(update={"variation": variation})


def write_derived(suite: Suite, source: Path, out: Path) -> Path:
    """Write a suite that was derived from the one in `source` into a folder, as `NAME.toml`; return its file.

    Raises:
        ResumeError: The folder cannot be written.
    """
    datasets = {name: _anchored(spec, source.parent) for name, spec in suite.dataset.items()}
    anchored = suite.model_copy(update={"dataset": datasets})
    file = out / f"{suite.name}.toml"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(tomli_w.dumps(anchored.model_dump(mode="json", exclude_none=True)), "utf-8")
    except OSError as error:
        raise ResumeError(f"{out}: cannot be written: {error.strerror}") from None
    return file


def _anchored(spec: DatasetSpec, suite_dir: Path) -> DatasetSpec:
    """Return a declaration that means the same in a suite of another folder."""
    places = {"source": spec.source, "folder": spec.folder}
    beside = {key: suite_dir / place for key, place in places.items() if place is not None}
    return spec.model_copy(update={key: str(path.resolve()) for key, path in beside.items() if path.is_dir()})
