"""Replay a tuning study: ask the sampler for each trial again, given the recorded results of the trials before it.

The sampler is seeded by suite, workload, scheduler, study and batch, so the files hold everything that decides a trial.
This detects made-up configurations, and extra trials of which only the best were kept.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from optuna.storages import InMemoryStorage

from ganno_bench.core.errors import one_line
from ganno_bench.core.seeding import study_seed
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.search_spaces import Range, Value
from ganno_bench.tuning.study import BatchedStudy, Outcome
from ganno_bench.workloads.suite import Budget

__all__ = ["can_replay", "replay_fault"]

_ROUNDING = 1e-6
"""Relative difference that logarithms and exponentials of another machine may cause."""


def can_replay(versions: Mapping[str, str]) -> bool:
    """Whether the installed Optuna is the version of the runs; other versions propose other trials."""
    return versions.get("optuna") == version("optuna")


def replay_fault(study: StudyRecord, space: Mapping[str, Range], budget: Budget) -> str | None:
    """Return the fault of the first trial that the sampler would not have proposed; None if there is none.

    Args:
        study: A study with as many trials as the budget.
        space: The search space.
        budget: The budget of the suite.
    """
    try:
        again = BatchedStudy(
            InMemoryStorage(),
            "replay",
            space={name: there.optuna() for name, there in space.items()},
            default={name: there.default for name, there in space.items()},
            startup_trials=budget.startup_trials,
            seed=study_seed(study.study, study.suite_hash, study.workload, study.scheduler),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy warns of very large and very small values
            for index, proposed in _proposals(again, study, budget):
                for name, value in study.trials[index].config.items():
                    if not _same(value, proposed[name]):
                        return (
                            f"key 'trials[{index}].config.{name}': must be {proposed[name]!r}, which the sampler "
                            f"proposes after the trials before it (value: {value!r})"
                        )
    except Exception as error:  # extreme numbers in a search space can make the sampler fail in many ways
        return f"its trials cannot be replayed: {one_line(error)}"
    return None


def _proposals(again: BatchedStudy, study: StudyRecord, budget: Budget) -> Iterator[tuple[int, Mapping[str, Value]]]:
    for batch, first in enumerate(range(0, budget.trials, budget.batch)):
        pending = again.ask(batch, first, min(budget.batch, budget.trials - first))
        for trial in pending:
            yield trial.index, trial.config
        values = [study.trials[trial.index].values for trial in pending]
        curves = [((1, sum(seeds) / len(seeds)),) for seeds in values]
        told = [
            Outcome(trial.config, *one) for trial, one in zip(pending, zip(values, curves, strict=True), strict=True)
        ]
        again.tell(pending, told)


def _same(value: Value, proposed: Value) -> bool:
    if isinstance(value, float) and isinstance(proposed, float):
        return math.isclose(value, proposed, rel_tol=_ROUNDING, abs_tol=1e-300)
    return value == proposed
