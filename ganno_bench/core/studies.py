"""The history of a tuning study in short: what each trial was, and what it gave. One JSON line for each study."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from pydantic import Field

from ganno_bench.core.config import Config

__all__ = ["StudyRecord", "TrialRecord", "dump_study"]


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

    schema_version: Literal[1] = 1
    suite: str
    suite_hash: str
    workload: str
    dataset_fingerprint: str
    scheduler: str
    code_hash: str
    study: int
    """Index of the independent tuning study."""
    trials: Annotated[tuple[TrialRecord, ...], Field(min_length=1)]
    """In the order in which they were asked for."""

    @property
    def winner(self) -> int:
        """Index of the best trial, the first one where several tie."""
        return min(range(len(self.trials)), key=lambda index: (self.trials[index].objective, index))


def dump_study(study: StudyRecord) -> str:
    """Return a study as one line of JSON, without the line's end."""
    return json.dumps(study.model_dump(mode="json"), separators=(",", ":"), allow_nan=False)
