"""Studies with batches of trials, and the failures that they must survive. No network is trained here."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import re
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from ganno_bench.core.errors import ConfigError, StorageError
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.tuning.space import Config, contestant, default_config, search_space
from ganno_bench.tuning.study import BatchedStudy, Journal, Outcome, Pending, open_storage

SPACE = {
    "base_lr": FloatDistribution(1e-4, 10.0, log=True),
    "n_drops": IntDistribution(1, 5),
    "shape": CategoricalDistribution(["linear", "sqrt"]),
}
DEFAULT: Config = {"base_lr": 0.01, "n_drops": 2, "shape": "sqrt", "pinned": 0.5}
BATCHES = ((0, 0, 4), (1, 4, 4), (2, 8, 4), (3, 12, 2))


def opened(
    storage: BaseStorage, name: str = "study", seed: int = 7, space: dict[str, FloatDistribution] | None = None
) -> BatchedStudy:
    return BatchedStudy(storage, name, space=space or SPACE, default=DEFAULT, startup_trials=4, seed=seed)


def outcome(config: Config) -> Outcome:
    """An objective with its best value at the learning rate 0.3, and chance far from it, like diverged runs."""
    loss = min(2.0, abs(math.log10(float(config["base_lr"]) / 0.3)) + 0.01 * int(config["n_drops"]))
    return Outcome(config, (loss, loss + 0.25), tuple((10 * i, loss + 1 / i) for i in range(1, 17)))


def outcomes_of(pending: Sequence[Pending]) -> list[Outcome]:
    return [outcome(trial.config) for trial in pending]


def go_on(storage: BaseStorage, recorded: dict[int, Outcome], until: int = 4, seed: int = 7) -> dict[int, Outcome]:
    """Run the batches that are not recorded, up to the given one, and return all outcomes."""
    study = opened(storage, seed=seed)
    study.restore(recorded)
    recorded = dict(recorded)
    for batch, first, n_trials in BATCHES[:until]:
        if first not in recorded:
            pending = study.ask(batch, first, n_trials)
            study.tell(pending, outcomes_of(pending))
            recorded |= {trial.index: outcome(trial.config) for trial in pending}
    return recorded


def counted(storage: BaseStorage) -> list[tuple[int, dict[str, object], float | None]]:
    trials = optuna.load_study(study_name="study", storage=storage).trials
    return [
        (trial.user_attrs["ganno_bench:trial"], trial.params, trial.value)
        for trial in trials
        if trial.state == TrialState.COMPLETE
    ]


Storages = Callable[[], BaseStorage]


@pytest.fixture(params=["journal", pytest.param("sqlite", marks=pytest.mark.slow(group="storage"))])
def storages(request: pytest.FixtureRequest, tmp_path: Path) -> Storages:
    """Opens the same storage again each time, like another process."""
    place = tmp_path / "studies.journal" if request.param == "journal" else f"sqlite:///{tmp_path}/studies.db"
    return lambda: open_storage(place)


@pytest.fixture(scope="module")
def unbroken() -> dict[int, Outcome]:
    return go_on(optuna.storages.InMemoryStorage(), {})


def test_the_first_trial_is_the_default_and_the_others_are_not(unbroken: dict[int, Outcome]) -> None:
    assert unbroken[0].config == DEFAULT
    configs = [json.dumps(unbroken[index].config) for index in range(14)]
    assert len(set(configs)) == 14
    for done in unbroken.values():
        assert list(done.config) == list(DEFAULT)
        assert done.config["pinned"] == 0.5
        assert [type(value) for value in done.config.values()] == [float, int, str, float]


def test_tpe_learns_from_what_it_is_told(unbroken: dict[int, Outcome]) -> None:
    # 4 random trials, then 10 of TPE. If all were random, the first 4 would be as good.
    def told_otherwise(pending: Sequence[Pending]) -> list[Outcome]:
        return [Outcome(trial.config, (float(trial.config["base_lr"]),), ((1, 0.5),)) for trial in pending]

    storage = optuna.storages.InMemoryStorage()
    study = opened(storage)
    low: dict[int, float] = {}
    for batch, first, n_trials in BATCHES:
        pending = study.ask(batch, first, n_trials)
        study.tell(pending, told_otherwise(pending))
        low |= {trial.index: float(trial.config["base_lr"]) for trial in pending}
    high = {index: float(done.config["base_lr"]) for index, done in unbroken.items()}
    assert [low[i] for i in range(4)] == [high[i] for i in range(4)]  # random trials
    assert [low[i] for i in range(4, 14)] != [high[i] for i in range(4, 14)]
    logs = [sum(math.log10(found[i]) for i in range(8, 14)) / 6 for found in (low, high)]
    assert logs[0] < logs[1]  # small learning rates are best for the one, 0.3 for the other


def test_a_study_depends_on_its_seed_alone(unbroken: dict[int, Outcome], tmp_path: Path) -> None:
    again = go_on(open_storage(tmp_path / "again.journal"), {})
    other = go_on(open_storage(tmp_path / "other.journal"), {}, seed=8)
    assert again == unbroken
    assert other[0] == unbroken[0]
    assert not {json.dumps(other[i].config) for i in range(1, 14)} & {
        json.dumps(unbroken[i].config) for i in range(1, 14)
    }


def test_no_batch_repeats_the_random_trials_of_another() -> None:
    study = BatchedStudy(
        optuna.storages.InMemoryStorage(), "study", space=SPACE, default=DEFAULT, startup_trials=100, seed=7
    )
    configs = []
    for batch, first, n_trials in BATCHES:
        pending = study.ask(batch, first, n_trials)
        study.tell(pending, outcomes_of(pending))
        configs += [json.dumps(trial.config) for trial in pending]
    assert len(set(configs)) == len(configs) == 14


def test_what_is_told(storages: Storages) -> None:
    recorded = go_on(storages(), {}, until=1)
    trials = optuna.load_study(study_name="study", storage=storages()).trials
    for index, trial in enumerate(trials):
        done = recorded[index]
        assert trial.value == sum(done.values) / 2
        assert trial.user_attrs == {"ganno_bench:trial": index, "ganno_bench:values": list(done.values)}
        assert trial.intermediate_values == {step: dict(done.curve)[step] for step in (40, 80, 120, 160)}


@pytest.mark.parametrize("n_points", [1, 2, 3, 5, 8, 9, 16, 33])
def test_intermediate_values_are_few_and_end_with_the_last(n_points: int) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = opened(storage)
    pending = study.ask(0, 0, 1)
    study.tell(pending, [Outcome(pending[0].config, (0.5,), tuple((i, float(i)) for i in range(n_points)))])
    steps = sorted(optuna.load_study(study_name="study", storage=storage).trials[0].intermediate_values)
    assert min(n_points, 3) <= len(steps) <= 8
    assert steps[-1] == n_points - 1


@pytest.mark.parametrize("batch", [0, 2])
def test_a_batch_that_was_asked_and_never_recorded_is_asked_again(
    storages: Storages, unbroken: dict[int, Outcome], batch: int
) -> None:
    recorded = go_on(storages(), {}, until=batch)
    for _ in range(2):  # killed twice
        study = opened(storages())
        study.restore(recorded)
        pending = study.ask(*BATCHES[batch])
        assert [trial.config for trial in pending] == [unbroken[trial.index].config for trial in pending]
    assert go_on(storages(), recorded) == unbroken
    states = [trial.state for trial in optuna.load_study(study_name="study", storage=storages()).trials]
    assert states.count(TrialState.FAIL) == 2 * BATCHES[batch][2]
    assert states.count(TrialState.COMPLETE) == 14
    assert [index for index, _, _ in counted(storages())] == list(range(14))


@pytest.mark.parametrize("n_told", [0, 3])
def test_a_batch_that_was_recorded_and_not_told_is_told_from_its_records(
    storages: Storages, unbroken: dict[int, Outcome], n_told: int
) -> None:
    recorded = go_on(storages(), {}, until=1)
    study = opened(storages())
    study.restore(recorded)
    pending = study.ask(*BATCHES[1])
    study.tell(pending[:n_told], outcomes_of(pending[:n_told]))
    recorded |= {trial.index: outcome(trial.config) for trial in pending}
    assert go_on(storages(), recorded) == unbroken
    assert [(index, value) for index, _, value in counted(storages())] == [
        (index, unbroken[index].value) for index in range(14)
    ]


def test_killed_between_the_default_and_its_asking(tmp_path: Path, unbroken: dict[int, Outcome]) -> None:
    def storages() -> BaseStorage:
        return open_storage(tmp_path / "studies.journal")

    with pytest.MonkeyPatch.context() as patch:

        def die(self: optuna.Study, *args: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(optuna.Study, "ask", die)
        with pytest.raises(KeyboardInterrupt):
            opened(storages()).ask(*BATCHES[0])
    assert go_on(storages(), {}) == unbroken


@pytest.mark.parametrize("n_batches", [1, 2, 3])
def test_a_lost_study_is_rebuilt(tmp_path: Path, unbroken: dict[int, Outcome], n_batches: int) -> None:
    recorded = go_on(open_storage(tmp_path / "lost.journal"), {}, until=n_batches)
    # Records are read from JSON, and contain more than the space.
    recorded = {
        index: Outcome(json.loads(json.dumps(done.config)), done.values, done.curve) for index, done in recorded.items()
    }
    storage = open_storage(tmp_path / "new.journal")
    assert go_on(storage, recorded) == unbroken
    assert [(index, value) for index, _, value in counted(storage)] == [(i, unbroken[i].value) for i in range(14)]


def test_a_study_that_knows_more_than_the_records_is_begun_anew(
    storages: Storages, unbroken: dict[int, Outcome]
) -> None:
    recorded = go_on(storages(), {}, until=3)
    kept = {index: done for index, done in recorded.items() if index < 4}
    assert go_on(storages(), kept) == unbroken
    assert [index for index, _, _ in counted(storages())] == list(range(14))


def test_a_default_that_still_waits_is_not_tried_late(storages: Storages, unbroken: dict[int, Outcome]) -> None:
    # The records are ahead of the storage, as after a restored backup.
    study = opened(storages())
    study._study.enqueue_trial({"base_lr": 1.0})
    assert go_on(storages(), {index: unbroken[index] for index in range(4)}) == unbroken


# Storages


def test_a_torn_journal_is_cut_and_a_foreign_lock_ignored(tmp_path: Path, unbroken: dict[int, Outcome]) -> None:
    journal = tmp_path / "studies.journal"
    recorded = go_on(open_storage(journal), {}, until=2)
    whole = journal.read_bytes()
    (tmp_path / "studies.journal.lock").symlink_to(journal)
    unterminated = whole.splitlines()[-1]  # Optuna would open the file and append to this line
    for rubbish in (b'{"op_code":4,"wor', b"\0\0\0\0\n", b"}\n" + whole[:100], unterminated):
        journal.write_bytes(whole + rubbish)
        open_storage(journal)
        assert journal.read_bytes() == whole
    assert go_on(open_storage(journal), recorded) == unbroken


def test_a_journal_without_its_last_newline_is_mended(tmp_path: Path, unbroken: dict[int, Outcome]) -> None:
    # Optuna opens such a file, and its next line makes it unreadable for ever.
    journal = tmp_path / "studies.journal"
    recorded = go_on(open_storage(journal), {}, until=2)
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    assert go_on(open_storage(journal), recorded) == unbroken
    assert go_on(open_storage(journal), unbroken) == unbroken


def changed(line: str) -> str:
    """Return an entry of a journal with another number."""
    entry = json.loads(line)
    for key in ("param_value_internal", "values", "intermediate_value", "user_attr", "state", "trial_id"):
        if isinstance(value := entry.get(key), list):
            return json.dumps(entry | {key: [value[0] / 2 + 0.01]})
        if isinstance(value, int | float):
            return json.dumps(entry | {key: 1 - value if value in (0, 1) else value / 2})
        if isinstance(value, dict) and "ganno_bench:trial" in value:
            return json.dumps(entry | {key: {"ganno_bench:trial": value["ganno_bench:trial"] + 1}})
    return line


def test_a_journal_that_was_edited_or_lost_lines_changes_nothing(tmp_path: Path, unbroken: dict[int, Outcome]) -> None:
    journal = tmp_path / "studies.journal"
    recorded = go_on(open_storage(journal), {}, until=2)
    lines = journal.read_text().splitlines(keepends=True)
    wanted = {index: unbroken[index] for index in range(12)}
    for at in range(0, len(lines), 5):
        for damaged in ([], [lines[at]] * 2, [changed(lines[at]) + "\n"]):
            journal.write_text("".join([*lines[:at], *damaged, *lines[at + 1 :]]))
            try:
                assert go_on(open_storage(journal), recorded, until=3) == wanted, (at, damaged)
            except StorageError as error:
                assert str(error).startswith(f"{journal}: ")  # noqa: PT017 - either is right


@pytest.mark.parametrize("entry", ["3", "{}", '{"op_code":99,"worker_id":"x"}', '{"op_code":0,"worker_id":"x"}'])
def test_a_journal_that_cannot_be_read(tmp_path: Path, entry: str) -> None:
    journal = tmp_path / "studies.journal"
    journal.write_text(entry + "\n")
    with pytest.raises(StorageError) as caught:
        open_storage(journal)
    assert re.fullmatch(
        rf"{journal}: cannot be read: [^\n]+; remove it and run the same command again to rebuild it from the records",
        str(caught.value),
    )


AGAIN = "the records are safe; run the same command again to resume"


def test_a_study_that_was_deleted_meanwhile_is_said(unbroken: dict[int, Outcome]) -> None:
    storage = optuna.storages.InMemoryStorage()
    study = opened(storage)
    pending = study.ask(*BATCHES[0])
    optuna.delete_study(study_name="study", storage=storage)
    for fails in (lambda: study.tell(pending, outcomes_of(pending)), lambda: study.ask(*BATCHES[1])):
        with pytest.raises(StorageError, match=rf"^storage InMemoryStorage: KeyError: .*; {AGAIN}$"):
            fails()
    assert go_on(storage, {index: unbroken[index] for index in range(4)}) == unbroken


def test_trials_that_failed_elsewhere_are_told_when_the_study_is_opened_again(unbroken: dict[int, Outcome]) -> None:
    storage = optuna.storages.InMemoryStorage()
    recorded = go_on(storage, {}, until=1)
    study = opened(storage)
    study.restore(recorded)
    pending = study.ask(*BATCHES[1])
    storage.set_trial_state_values(pending[1].trial._trial_id, TrialState.FAIL)
    with pytest.raises(StorageError, match=rf"^storage InMemoryStorage: UpdateFinishedTrialError: .*; {AGAIN}$"):
        study.tell(pending, outcomes_of(pending))
    recorded |= {trial.index: outcome(trial.config) for trial in pending}
    assert go_on(storage, recorded) == unbroken
    assert [index for index, _, _ in counted(storage)] == list(range(14))


def test_a_disk_that_is_full_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(journal: Journal, logs: list[object]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = tmp_path / "studies.journal"
    study = opened(open_storage(journal))
    monkeypatch.setattr(Journal, "append_logs", full)
    error = r"OSError: \[Errno 28\] No space left on device \(test_batched_study\.py:\d+\)"
    with pytest.raises(StorageError, match=rf"^{journal}: {error}; {AGAIN}$"):
        study.ask(*BATCHES[0])


@pytest.mark.slow(group="storage")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda db, held: held.execute("BEGIN EXCLUSIVE"), "database is locked"),
        (lambda db, held: db.unlink(), "attempt to write a readonly database"),
        (lambda db, held: optuna.delete_study(study_name="study", storage=f"sqlite:///{db}"), "KeyError: 'Record does"),
    ],
    ids=["locked", "removed", "deleted"],
)
def test_a_database_that_fails_meanwhile_is_said(
    tmp_path: Path, unbroken: dict[int, Outcome], act: Callable[[Path, sqlite3.Connection], object], message: str
) -> None:
    db = tmp_path / "studies.db"
    study = opened(open_storage(f"sqlite:///{db}"))
    pending = study.ask(*BATCHES[0])
    held = sqlite3.connect(db, isolation_level=None)
    act(db, held)
    with pytest.raises(StorageError, match=rf"^storage 'sqlite:///{db}': .*{message}.*; {AGAIN}$"):
        study.tell(pending, outcomes_of(pending))
    held.close()
    assert go_on(open_storage(f"sqlite:///{db}"), {index: unbroken[index] for index in range(4)}) == unbroken


def test_a_password_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage("postgresql://me:secret@localhost:1/studies")
    assert str(caught.value).startswith("storage 'postgresql://me:***@localhost:1/studies' cannot be opened: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["nonsense", "sqlite:////no/such/folder/studies.db", "postgresql://user@localhost/studies", "redis://localhost"],
)
def test_a_storage_that_cannot_be_opened(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_storage(url)
    assert str(caught.value).startswith(f"storage {url!r} cannot be opened: ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_optuna_is_quiet_and_its_verbosity_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    optuna.logging.set_verbosity(logging.INFO)
    try:
        go_on(open_storage(tmp_path / "studies.journal"), {})
        assert optuna.logging.get_verbosity() == logging.INFO
    finally:
        optuna.logging.set_verbosity(logging.WARNING)
    assert capfd.readouterr() == ("", "")


# Search spaces


@pytest.mark.parametrize(
    ("optimizer", "lr", "lr_range"),
    [("sgd", 0.01, (1e-4, 10.0)), ("adam", 1e-3, (1e-5, 0.1)), ("adamw", 1e-3, (1e-5, 0.1))],
)
def test_the_base_learning_rate_is_fixed_by_the_optimizer(
    optimizer: str, lr: float, lr_range: tuple[float, float]
) -> None:
    for name in ("constant", "wsd", "depth-factor"):
        entry = load_scheduler(name)
        space, default = search_space(entry, optimizer), default_config(entry, optimizer)
        assert space["base_lr"] == FloatDistribution(*lr_range, log=True)
        assert default["base_lr"] == lr
        assert list(space) == list(default) == ["base_lr", "weight_decay", *entry.search_space]
        assert all(space[key]._contains(space[key].to_internal_repr(value)) for key, value in default.items())


def test_what_is_pinned_is_not_tuned() -> None:
    entry = load_scheduler("wsd(warmup=0.25)")
    config = default_config(entry, "sgd")
    assert "warmup" not in search_space(entry, "sgd")
    assert "warmup" not in config
    made = contestant(entry, config)
    assert (made.base_lr, made.weight_decay) == (0.01, 1e-4)
    assert made.scheduler == entry.build({"cooldown": 0.2, "shape": "1-sqrt"})
    assert made.scheduler.warmup == 0.25  # type: ignore[attr-defined]
