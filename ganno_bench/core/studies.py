"""A short history of a study: configuration and objective of each trial. One line of JSON for each study."""

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
    """One trial of a study."""

    config: dict[str, float | int | str | bool]
    """`base_lr`, `weight_decay` and the scheduler's hyperparameters."""
    values: Annotated[tuple[float, ...], Field(min_length=1)]
    """Final validation loss for each tuning seed, nats, at most chance."""

    @property
    def objective(self) -> float:
        """The value that Optuna minimises: the mean over the tuning seeds."""
        return sum(self.values) / len(self.values)


class StudyRecord(Config):
    """One study: the trials of one entry on one workload."""

    schema_version: Literal[3] = 3
    suite: str
    suite_hash: str
    workload: str
    dataset_fingerprint: str
    scheduler: str
    code: str
    study: int
    """Index of the study."""
    trials: Annotated[tuple[TrialRecord, ...], Field(min_length=1)]
    """In the order in which Optuna proposed them."""

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Convert a study of an earlier schema version; see `with_code`."""
        return with_code(data, newest=3)

    @property
    def winner(self) -> int:
        """Index of the best trial; the first one in a tie."""
        return min(range(len(self.trials)), key=lambda index: (self.trials[index].objective, index))


def study_of(records: Iterable[RunRecord]) -> StudyRecord | None:
    """Return the study in the records of one entry on one workload; None if there are no tuning runs."""
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
    """Return a study as one line of JSON with its checksum, without line end."""
    return sealed(json.dumps(study.model_dump(mode="json"), separators=(",", ":"), allow_nan=False))
