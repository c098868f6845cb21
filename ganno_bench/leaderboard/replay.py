"""Asks the sampler for the trials of a study again, given what the trials before them gave.

The sampler is seeded by suite, workload, scheduler, study and batch, so all that a trial depends on is written down.
Who tuned more than the budget allows and kept the best trials, or made up configurations, is found out.
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
"""Relative; what the logarithms and exponentials of another machine may change of a value."""


def can_replay(versions: Mapping[str, str]) -> bool:
    """Whether the sampler here is the one of the runs: another version of Optuna proposes other trials."""
    return versions.get("optuna") == version("optuna")


def replay_fault(study: StudyRecord, space: Mapping[str, Range], budget: Budget) -> str | None:
    """Return what is wrong with the first trial that the sampler would not have proposed; None where all are its own.

    Args:
        study: A study that has as many trials as the budget.
        space: The search space.
        budget: The suite's.
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
            warnings.simplefilter("ignore")  # of numbers that are too large or too small
            for index, proposed in _proposals(again, study, budget):
                for name, value in study.trials[index].config.items():
                    if not _same(value, proposed[name]):
                        return (
                            f"key 'trials[{index}].config.{name}': the sampler proposes {proposed[name]!r} after the "
                            f"trials before it (value: {value!r})"
                        )
    except Exception as error:  # there is no end to the numbers that a search space can be made of
        return f"its trials cannot be asked for again: {one_line(error)}"
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
