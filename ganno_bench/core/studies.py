"""The history of a tuning study in short: what each trial was, and what it gave. One JSON line for each study."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from ganno_bench.core.checksums import sealed
from ganno_bench.core.config import Config
from ganno_bench.core.records import RunRecord
from ganno_bench.core.versions import with_code

__all__ = ["StudyRecord", "TrialRecord", "dump_study", "study_of"]


class TrialRecord(Config):
    """One trial."""

    config: dict[str, float | int | str | bool]
    """`base_lr`, `weight_decay` and the scheduler's hyperparameters."""
    values: Annotated[tuple[float, ...], Field(min_length=1)]
    """Objective for each tuning seed: final validation loss, nats, at worst chance."""

    @property
    def objective(self) -> float:
        """What Optuna minimises: the mean over the tuning seeds."""
        return sum(self.values) / len(self.values)


class StudyRecord(Config):
    """One tuning study: one scheduler on one workload."""

    schema_version: Literal[3] = 3
    suite: str
    suite_hash: str
    workload: str
    dataset_fingerprint: str
    scheduler: str
    code: str
    study: int
    """Index of the independent tuning study."""
    trials: Annotated[tuple[TrialRecord, ...], Field(min_length=1)]
    """In the order in which they were asked for."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a study of an earlier version with what stands for its code."""
        return with_code(data, newest=3)

    @property
    def winner(self) -> int:
        """Index of the best trial, the first one where several tie."""
        return min(range(len(self.trials)), key=lambda index: (self.trials[index].objective, index))


def study_of(records: Iterable[RunRecord]) -> StudyRecord | None:
    """Return the tuning study behind the records of one scheduler on one workload; None where nothing was tuned."""
    trials: dict[int, dict[int, RunRecord]] = {}
    for record in records:
        if record.role == "tuning":
            trials.setdefault(record.trial, {})[record.seed] = record
    if not trials:
        return None
    some = next(iter(next(iter(trials.values())).values()))
    return StudyRecord(
        suite=some.suite,
        suite_hash=some.suite_hash,
        workload=some.workload,
        dataset_fingerprint=some.dataset_fingerprint,
        scheduler=some.scheduler,
        code=some.code,
        study=some.study,
        trials=tuple(
            TrialRecord(config=runs[0].config, values=tuple(runs[seed].objective for seed in sorted(runs)))
            for _, runs in sorted(trials.items())
        ),
    )


def dump_study(study: StudyRecord) -> str:
    """Return a study as one line of JSON with its checksum, without the line's end."""
    return sealed(json.dumps(study.model_dump(mode="json"), separators=(",", ":"), allow_nan=False))
