"""Optuna studies that are asked for trials in batches and survive being killed.

The records on disk are the truth, and a study follows them. Trials are asked, trained, recorded and then told, so a
process that dies leaves trials in state RUNNING. When the study is opened again, those that were recorded are told from
their records; the others are told as failed, and their batch is asked anew. The sampler is seeded by study and batch,
and a failed trial doesn't count for it, so the same trials are asked.
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
    """A trial that was asked for and not told.

    Attributes:
        index: Its place among the trials that count, from 0.
        config: What to train.
    """

    index: int
    config: Config
    trial: optuna.Trial


@dataclass(frozen=True)
class Outcome:
    """What a trial gave.

    Attributes:
        values: Objective for each tuning seed: final validation loss, nats, at worst chance.
        curve: (updates, mean validation loss over the seeds) along the way.
    """

    config: Config
    values: tuple[float, ...]
    curve: tuple[tuple[int, float], ...]

    @property
    def value(self) -> float:
        """What Optuna minimises: the mean over the tuning seeds."""
        return sum(self.values) / len(self.values)


def open_storage(place: str | Path) -> BaseStorage:
    """Open Optuna's storage.

    Args:
        place: An SQLAlchemy URL such as `sqlite:///studies.db`, or the path of a journal file, which one process at a
            time uses.

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
                f"{place}: cannot be read: {one_line(error)[:200]}; remove it, and the same command makes it anew of "
                "what is on record"
            ) from error
    try:
        return RDBStorage(place)
    except Exception as error:
        raise ConfigError(f"storage {_shown(place)!r} cannot be opened: {one_line(_first(error))[:200]}") from None


class Journal(JournalFileBackend):
    """Optuna's journal file without its lock, since the run directory has one, and without its wait for the disk.

    Both cost half a millisecond for each parameter and value. What a crash of the machine may take is rebuilt from the
    records, which are waited for.

    Attributes:
        file: Where it lies.
    """

    def __init__(self, file: Path) -> None:
        """Open the file, or make it."""
        super().__init__(str(file))
        self.file = file

    def append_logs(self, logs: list[dict[str, Any]]) -> None:  # noqa: D102
        lines = [json.dumps(log, separators=(",", ":")) + "\n" for log in logs]
        with self.file.open("ab") as file:
            file.write("".join(lines).encode())


def describe_sampler(batch: int, startup_trials: int) -> str:
    """Return in words how `BatchedStudy` comes by its trials."""
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
            storage: Where it lies.
            name: Unique in the storage.
            space: What is tuned.
            default: The configuration that is tried first.
            startup_trials: Trials before TPE replaces random search.
            seed: Root of the sampler's seeds.
        """
        self._space = dict(space)
        self._default = default
        self._startup_trials = startup_trials
        self._seed = seed
        self._storage = storage
        with self._talking():
            self._study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True)

    def restore(self, outcomes: Mapping[int, Outcome]) -> None:
        """Bring the study in line with the outcomes that are on record, by trial index.

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
        """Ask for a batch of trials; the very first is the default configuration.

        Args:
            batch: Index of the batch, which seeds the sampler.
            first: Index of its first trial.
            n_trials: Its size.

        Raises:
            StorageError: The storage fails.
        """
        with self._talking():
            self._study.sampler = TPESampler(
                seed=stream_seed(self._seed, "batch", batch) % 2**32,
                n_startup_trials=self._startup_trials,
                multivariate=False,
                constant_liar=True,  # trials of one batch keep a distance from one another
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
        """Tell a batch's outcomes.

        Raises:
            StorageError: The storage fails; what is on record is told when the study is opened again.
        """
        with self._talking():
            for trial, outcome in zip(pending, outcomes, strict=True):
                for step, value in _thinned(outcome.curve):
                    trial.trial.report(value, step)
                trial.trial.set_user_attr(_VALUES, list(outcome.values))
                self._study.tell(trial.trial, outcome.value)

    def _contradicts(self, trial: FrozenTrial, outcomes: Mapping[int, Outcome]) -> bool:
        """Whether a trial says what is not on record, or waits for a study that is past it."""
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
        """Keep Optuna quiet, and say in one line what is wrong with the storage.

        What a distribution of a plugin's finds wrong, an error of a value or a type, is no fault of the storage's.
        """
        try:
            with _quiet():
                yield
        except (ValueError, TypeError):
            raise
        except Exception as error:  # Optuna, SQLAlchemy, a driver and the disk have errors of their own each
            raise StorageError(
                f"{_name(self._storage)}: {one_line(_first(error))[:200]}; what was recorded is safe, and the same "
                "command again goes on"
            ) from error


def _told(trial: FrozenTrial, outcomes: Mapping[int, Outcome]) -> int | None:
    """Return the index of a trial that was told or can be, -1 where it does not say; None for one that cannot."""
    index: int = trial.user_attrs.get(_INDEX, -1)
    can_be = trial.state == TrialState.RUNNING and index in outcomes
    return index if can_be or trial.state == TrialState.COMPLETE else None


def _name(storage: BaseStorage) -> str:
    if isinstance(storage, RDBStorage):
        return f"storage {_shown(storage.url)!r}"
    backend = getattr(storage, "_backend", None)
    return str(backend.file) if isinstance(backend, Journal) else f"storage {type(storage).__name__}"


def _shown(url: str) -> str:
    """Return a database's URL without its password."""
    return re.sub(r"(//[^/@:]*):[^/]*@", r"\1:***@", url)


def _first(error: BaseException) -> BaseException:
    """Return the error that led to others: what a driver said, and not what was made of it."""
    return error if error.__cause__ is None else _first(error.__cause__)


def _thinned(curve: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    step = -(-len(curve) // _MAX_INTERMEDIATE)
    return list(curve[::-1][::step][::-1])


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log of every trial and its warnings about features that it calls experimental."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _repair_journal(journal: Path) -> None:
    """Remove what a killed process may have left: a torn line, with all after it."""
    if journal.exists():
        lines = journal.read_bytes().splitlines(keepends=True)
        os.truncate(journal, sum(len(line) for line in takewhile(_is_whole, lines)))


def _is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return line.endswith(b"\n")
