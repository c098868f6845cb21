"""Optuna studies that propose trials in batches and can resume after a kill.

The records on disk are authoritative, and a study follows them. The harness asks Optuna for trials, trains and records
them, and then tells Optuna the results. So a killed process leaves trials in state RUNNING. When the study is opened
again, recorded trials are told from their records. The others are told as failed, and their batch is asked for again.
The sampler is seeded by study and batch, and ignores failed trials, so it proposes the same trials.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from ganno_bench.core.errors import ConfigError, StorageError, one_line
from ganno_bench.core.seeding import stream_seed
from ganno_bench.tuning.space import Config

__all__ = ["BatchedStudy", "Journal", "Outcome", "Pending", "describe_sampler", "open_storage"]

_INDEX = "ganno_bench:trial"
_VALUES = "ganno_bench:values"
_MAX_INTERMEDIATE = 4


@dataclass(frozen=True)
class Pending:
    """A trial that Optuna has proposed, and whose result it does not have yet.

    Attributes:
        index: Index among the trials that have not failed, from 0.
        config: The configuration to train.
        trial: Optuna's trial.
    """

    index: int
    config: Config
    trial: optuna.Trial


@dataclass(frozen=True)
class Outcome:
    """The result of a trial.

    Attributes:
        config: The configuration.
        values: Final validation loss of each tuning seed, nats, at most chance.
        curve: (number of updates, mean validation loss over the seeds) during the runs.
    """

    config: Config
    values: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]

    @property
    def value(self) -> float:
        """The objective, which Optuna minimises: the mean over the tuning seeds."""
        return sum(self.values) / len(self.values)


def open_storage(place: str | Path) -> BaseStorage:
    """Open a storage of Optuna.

    Args:
        place: An SQLAlchemy URL such as `sqlite:///studies.db`, or the path of a journal file, which only one process
            at a time may use.

    Raises:
        ConfigError: The storage cannot be opened.
        StorageError: The journal cannot be read.
    """
    if isinstance(place, Path):
        try:
            _repair_journal(place)
            return JournalStorage(Journal(place))
        except Exception as error:
            raise StorageError(
                f"{place}: cannot be read: {one_line(error)[:200]}; remove it and run the same command "
                "again to rebuild it from the records"
            ) from error
    try:
        return RDBStorage(place)
    except Exception as error:
        raise ConfigError(f"storage {_shown(place)!r} cannot be opened: {one_line(_first(error))[:200]}") from None


class Journal(JournalFileBackend):
    """Optuna's journal file without its lock and without waiting for the disk.

    The run directory has a lock already. Lock and wait would cost half a millisecond for each parameter and value. If
    the machine crashes, lost entries are rebuilt from the records, whose writes are waited for.

    Attributes:
        file: Path of the journal.
    """

    def __init__(self, file: Path) -> None:
        """Open the file, or create it."""
        super().__init__(str(file))
        self.file = file

    def append_logs(self, logs: list[dict[str, Any]]) -> None:  # noqa: D102
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with self.file.open("ab") as file:
            file.write("".join(lines).encode())


def describe_sampler(batch: int, startup_trials: int) -> str:
    """Return a description of how `BatchedStudy` chooses trials."""
    return (
        f"Optuna TPE, univariate, constant liar; first the default configuration, random up to trial {startup_trials}; "
        f"asked in batches of {batch}, seeded by suite, workload, scheduler, study and batch"
    )


class BatchedStudy:
    """One tuning study: one scheduler on one workload."""

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        *,
        space: Mapping[str, BaseDistribution],
        default: Config,
        startup_trials: int,
        seed: int,
    ) -> None:
        """Open a study, or create it.

        Args:
            storage: Storage of the study.
            name: Name of the study, unique in the storage.
            space: The search space.
            default: The configuration of the first trial.
            startup_trials: Number of trials before TPE replaces random search.
            seed: Seed from which the sampler's seeds are derived.
        """
        self._space = dict(space)
        self._default = default
        self._startup_trials = startup_trials
        self._seed = seed
        self._storage = storage
        with self._talking():
            self._study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)

    def restore(self, outcomes: Mapping[int, Outcome]) -> None:
        """Make the study agree with the recorded outcomes, given by trial index.

        Raises:
            StorageError: The storage fails.
        """
        with self._talking():
            trials = self._study.get_trials(deepcopy=False)
            known = [index for trial in trials if (index := _told(trial, outcomes)) is not None]
            if known != sorted(outcomes)[: len(known)] or any(self._contradicts(trial, outcomes) for trial in trials):
                optuna.delete_study(study_name=self._study.study_name, storage=self._storage)
                self._study = optuna.create_study(storage=self._storage, study_name=self._study.study_name)
                trials = []
            told = set()
            for trial in trials:
                index = trial.user_attrs.get(_INDEX, -1)
                if trial.state == TrialState.COMPLETE and index in outcomes:
                    told.add(index)
                elif trial.state == TrialState.RUNNING and index in outcomes:
                    self._study.tell(trial.number, outcomes[index].value)
                    told.add(index)
                elif trial.state == TrialState.RUNNING:
                    self._study.tell(trial.number, state=TrialState.FAIL)
            for index, outcome in sorted(outcomes.items()):
                if index not in told:
                    self._study.add_trial(self._frozen(index, outcome))

    def ask(self, batch: int, first: int, n_trials: int) -> list[Pending]:
        """Ask Optuna for a batch of trials. The first trial of a study is the default configuration.

        Args:
            batch: Index of the batch, which seeds the sampler.
            first: Index of the first trial of the batch.
            n_trials: Number of trials in the batch.

        Raises:
            StorageError: The storage fails.
        """
        with self._talking():
            self._study.sampler = TPESampler(
                seed=stream_seed(self._seed, "batch", batch) % 2**32,
                n_startup_trials=self._startup_trials,
                multivariate=False,
                constant_liar=True,  # so that trials of one batch differ
            )
            waiting = self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
            if first == 0 and not waiting:
                self._study.enqueue_trial({name: self._default[name] for name in self._space})
            pending = []
            for index in range(first, first + n_trials):
                trial = self._study.ask(self._space)
                trial.set_user_attr(_INDEX, index)
                pending.append(Pending(index, {**self._default, **trial.params}, trial))
        return pending

    def tell(self, pending: Sequence[Pending], outcomes: Sequence[Outcome]) -> None:
        """Tell Optuna the outcomes of a batch.

        Raises:
            StorageError: The storage fails. Recorded outcomes are told when the study is opened again.
        """
        with self._talking():
            for trial, outcome in zip(pending, outcomes, strict=True):
                for step, value in _thinned(outcome.curve):
                    trial.trial.report(value, step)
                trial.trial.set_user_attr(_VALUES, list(outcome.values))
                self._study.tell(trial.trial, outcome.value)

    def _contradicts(self, trial: FrozenTrial, outcomes: Mapping[int, Outcome]) -> bool:
        """Return whether a trial contradicts the records, or waits although the study has outcomes already."""
        if trial.state == TrialState.WAITING:
            return bool(outcomes)
        outcome = None if (index := _told(trial, outcomes)) is None else outcomes.get(index)
        if outcome is None:
            return trial.state == TrialState.COMPLETE
        is_complete = trial.state == TrialState.COMPLETE
        return trial.params != self._params(outcome) or (is_complete and trial.value != outcome.value)

    def _frozen(self, index: int, outcome: Outcome) -> FrozenTrial:
        return create_trial(
            value=outcome.value,
            params=self._params(outcome),
            distributions=self._space,
            user_attrs={_INDEX: index, _VALUES: list(outcome.values)},
            intermediate_values=dict(_thinned(outcome.curve)),
        )

    def _params(self, outcome: Outcome) -> Config:
        return {name: outcome.config[name] for name in self._space}

    @contextmanager
    def _talking(self) -> Iterator[None]:
        """Silence Optuna, and turn errors of the storage into one line.

        ValueError and TypeError pass: distributions of plugins raise them, not the storage.
        """
        try:
            with _quiet():
                yield
        except (ValueError, TypeError):
            raise
        except Exception as error:  # Optuna, SQLAlchemy, drivers and the disk raise different errors
            raise StorageError(
                f"{_name(self._storage)}: {one_line(_first(error))[:200]}; the records are safe; run the same "
                "command again to resume"
            ) from error


def _told(trial: FrozenTrial, outcomes: Mapping[int, Outcome]) -> int | None:
    """Return the index of a trial that was told or can be told, -1 if it has none; None for any other trial."""
    index: int = trial.user_attrs.get(_INDEX, -1)
    can_be = trial.state == TrialState.RUNNING and index in outcomes
    return index if can_be or trial.state == TrialState.COMPLETE else None


def _name(storage: BaseStorage) -> str:
    if isinstance(storage, RDBStorage):
        return f"storage {_shown(storage.url)!r}"
    backend = getattr(storage, "_backend", None)
    return str(backend.file) if isinstance(backend, Journal) else f"storage {type(storage).__name__}"


def _shown(url: str) -> str:
    """Return the URL of a database without its password."""
    return re.sub(r"(//[^/@:]*):[^/]*@", r"\1:***@", url)


def _first(error: BaseException) -> BaseException:
    """Return the first error of a chain, such as the error of a database driver."""
    return error if error.__cause__ is None else _first(error.__cause__)


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    step = -(-len(curve) // _MAX_INTERMEDIATE)
    return list(curve[::-1][::step][::-1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log of every trial and its warnings about experimental features."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _repair_journal(journal: Path) -> None:
    """Remove an incomplete line, which a killed process may leave, and everything after it."""
    if journal.exists():
        lines = journal.read_bytes().splitlines(keepends=True)
        os.truncate(journal, sum(len(line) for line in takewhile(_is_whole, lines)))


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")
