"""The same call resumes an interrupted run, and ends with the results of an uninterrupted one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

from ganno_bench.core.errors import ConfigError, RecordError, ResumeError, StorageError
from ganno_bench.core.records import read_records
from tests.helpers.resealed import reseal
from tests.helpers.tiny_suite import (
    RECORDS,
    SMALL,
    Interrupt,
    Started,
    keep,
    populations,
    results,
    run_tiny,
    snapshot,
    write_plugin,
    write_suite,
)


@pytest.fixture
def broken(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the whole run, to be broken; its suite is that of the `suite` fixture."""
    return Path(shutil.copytree(unbroken, tmp_path / "broken"))


def whole(out: Path, n_lines: int) -> bytes:
    return b"".join((out / "records.jsonl").read_bytes().splitlines(keepends=True)[:n_lines])


def test_a_finished_run_is_left_as_it_is(broken: Path, suite: Path) -> None:
    before = snapshot(broken)
    trials = trials_of(broken)
    started = Started()
    done = run_tiny(suite, broken, started)
    assert started.jobs == []
    assert len(done.records) == RECORDS
    assert trials_of(broken) == trials
    # Optuna notes every opening of a study in its journal.
    assert snapshot(broken) | {"studies.journal": before["studies.journal"]} == before


# Of each workload and scheduler there are 15 records: 6 + 6 of two batches of trials, 3 of the report.
@pytest.mark.parametrize(
    ("n_lines", "n_whole", "n_populations"),
    [(0, 0, 0), (5, 0, 0), (7, 6, 1), (12, 12, 2), (20, 15, 3), (59, 57, 11)],
)
def test_a_torn_population_is_run_again(
    broken: Path, suite: Path, unbroken: Path, n_lines: int, n_whole: int, n_populations: int
) -> None:
    keep(broken, n_lines)
    started = Started()
    run_tiny(suite, broken, started)
    assert started.jobs == populations(read_records([unbroken]))[n_populations:]
    assert (broken / "records.jsonl").read_bytes().startswith(whole(unbroken, n_whole))
    assert results(broken) == results(unbroken)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_torn_line_is_no_obstacle(broken: Path, suite: Path, unbroken: Path, share: float) -> None:
    line = (broken / "records.jsonl").read_bytes().splitlines()[51]
    keep(broken, 51, line[: int(share * len(line))])  # a line without its end is torn even if it is all there
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)


def test_a_torn_population_is_dropped_even_if_its_scheduler_takes_no_part(
    broken: Path, suite: Path, unbroken: Path
) -> None:
    keep(broken, 13)  # one of three reports of cosine
    run_tiny(suite, broken, schedulers=["wsd"])
    run_tiny(suite, broken, schedulers=["cosine"])
    assert sorted(map(json.dumps, results(broken))) == sorted(map(json.dumps, results(unbroken)))


def test_a_corrupt_line_is_named_and_nothing_is_touched(broken: Path, suite: Path) -> None:
    lines = (broken / "records.jsonl").read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b'"seed":', b'"sead":')
    lines[20] = lines[20][:40] + b"\n"
    (broken / "records.jsonl").write_bytes(b"".join(lines) + b'{"torn')
    before = snapshot(broken)
    with pytest.raises(RecordError) as caught:
        run_tiny(suite, broken)
    assert str(caught.value).startswith(f"{broken}/records.jsonl:8: was changed after it was written: its checksum is ")
    assert snapshot(broken) == before
    keep(broken, 7)
    run_tiny(suite, broken)  # the failed attempt has released its lock


def test_records_of_another_schema_are_named(broken: Path, suite: Path) -> None:
    line = (broken / "records.jsonl").read_text().splitlines()[6]
    keep(broken, 6, line.replace('"schema_version":3', '"schema_version":4').encode() + b"\n")
    reseal(broken / "records.jsonl")
    with pytest.raises(
        RecordError, match=r"records.jsonl:7: key 'schema_version' is 4; this version of ganno-bench reads 1 to 3"
    ):
        run_tiny(suite, broken)


def test_an_interrupted_run_goes_on(suite: Path, tmp_path: Path, unbroken: Path) -> None:
    for n in (2, 3, 1, 4):
        with pytest.raises(KeyboardInterrupt):
            run_tiny(suite, tmp_path / "out", Interrupt(n))
    run_tiny(suite, tmp_path / "out")
    assert results(tmp_path / "out") == results(unbroken)


@pytest.mark.parametrize("name", ["records.jsonl", "records.end", "suite.toml", "config.toml", "studies.journal"])
def test_a_full_disk_is_said_and_the_run_goes_on(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out, tries, write = tmp_path / "out", iter(range(99)), Path.open

    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        if path.name in (name, f".{name}.new") and mode[0] in "aw" and next(tries) == name.startswith("records"):
            with write(path, mode) as file:
                file.write(b'{"torn')
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, mode, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(StorageError) as caught:
            run_tiny(suite, out, schedulers=["cosine"], **SMALL)
    assert str(caught.value).startswith(f"{out / name}: ")
    assert re.search(r"No space left on device( \(test_resume\.py:\d+\))?; ", str(caught.value))
    assert "run the same command again to resume" in str(caught.value)
    assert not list(out.glob(".*.new"))
    run_tiny(suite, out, schedulers=["cosine"], **SMALL)
    run_tiny(suite, tmp_path / "whole", schedulers=["cosine"], **SMALL)
    assert results(out) == results(tmp_path / "whole")


# Optuna's studies


def trials_of(out: Path, url: str | None = None) -> dict[str, list[tuple[str, float | None]]]:
    """Return the state and value of every trial, by `workload/scheduler`."""
    backend = optuna.storages.journal.JournalFileBackend(str(out / "studies.journal"))
    storage: Any = url or optuna.storages.JournalStorage(backend)
    return {
        "/".join(name.split("/")[1:3]): [
            (trial.state.name, trial.value) for trial in optuna.load_study(study_name=name, storage=storage).trials
        ]
        for name in optuna.get_all_study_names(storage)
    }


@pytest.mark.parametrize("n_lines", [12, 42])
def test_a_lost_journal_is_rebuilt_from_the_records(broken: Path, suite: Path, unbroken: Path, n_lines: int) -> None:
    keep(broken, n_lines)
    (broken / "studies.journal").unlink()
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)
    assert trials_of(broken) == trials_of(unbroken)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_an_older_or_torn_journal_catches_up_with_the_records(
    broken: Path, suite: Path, unbroken: Path, share: float
) -> None:
    journal = (broken / "studies.journal").read_bytes()
    (broken / "studies.journal").write_bytes(journal[: int(share * len(journal))])
    keep(broken, 57)
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)
    finished = {name: [t for t in trials if t[0] != "FAIL"] for name, trials in trials_of(broken).items()}
    assert finished == trials_of(unbroken)


def test_a_journal_with_a_corrupt_line_is_no_obstacle(broken: Path, suite: Path, unbroken: Path) -> None:
    lines = (broken / "studies.journal").read_bytes().splitlines(keepends=True)
    lines[len(lines) // 2] = b"\0" * 30 + b"\n"
    (broken / "studies.journal").write_bytes(b"".join(lines))
    keep(broken, 45)
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)


def test_a_stale_lock_of_the_journal_does_not_block(
    broken: Path, suite: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (broken / "studies.journal.lock").symlink_to(broken / "studies.journal")
    (broken / "studies.journal.lockf00.rename").symlink_to(broken / "studies.journal")
    keep(broken, 51)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))  # as Optuna does, for 30 seconds
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)


def test_lost_records_are_measured_again_whatever_the_journal_says(broken: Path, suite: Path, unbroken: Path) -> None:
    keep(broken, 6)
    run_tiny(suite, broken)
    assert results(broken) == results(unbroken)
    assert trials_of(broken) == trials_of(unbroken)


@pytest.mark.slow(group="storage")
def test_a_database_holds_the_studies(suite: Path, tmp_path: Path, unbroken: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    with pytest.raises(KeyboardInterrupt):
        run_tiny(suite, tmp_path / "out", Interrupt(5), storage=url)
    run_tiny(suite, tmp_path / "out", storage=url)
    assert results(tmp_path / "out") == results(unbroken)
    assert not (tmp_path / "out" / "studies.journal").exists()
    trials = trials_of(tmp_path / "out", url)
    lost = [t for t in trials.pop("sgd-mlp/wsd") if t[0] == "FAIL"]
    assert len(lost) == 3  # those of the batch that was interrupted
    assert trials == {name: t for name, t in trials_of(unbroken).items() if name != "sgd-mlp/wsd"}


def test_two_runs_share_a_database(suite: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/studies.db"
    for name in ("one", "two"):
        run_tiny(suite, tmp_path / name, schedulers=["cosine"], storage=url, **SMALL)
    assert results(tmp_path / "one") == results(tmp_path / "two")
    assert len(optuna.get_all_study_names(url)) == 4


def test_a_database_that_cannot_be_opened_leaves_nothing_behind(suite: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="storage 'nonsense' cannot be opened"):
        run_tiny(suite, tmp_path / "out", storage="nonsense")
    assert not (tmp_path / "out").exists()


# What is pinned


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trials": 5}, "trials = 6, not 5"),
        ({"tuning_seeds": 1}, "tuning_seeds = 2, not 1"),
        ({"report_seeds": 10}, "report_seeds = 3, not 10"),
        ({"study": 1}, "study = 0, not 1"),
        ({"backend": "loop"}, "backends.sgd-mlp = 'vmap', not 'loop'"),
        ({"max_population": 4}, "chunks.sgd-mlp = 64, not 4"),
        ({"threads": 2}, "threads = 1, not 2"),
    ],
)
def test_other_settings_are_refused(broken: Path, suite: Path, settings: dict[str, Any], message: str) -> None:
    keep(broken, 20, b'{"torn')
    before = snapshot(broken)
    try:
        with pytest.raises(ResumeError) as caught:
            run_tiny(suite, broken, **settings)
    finally:
        torch.set_num_threads(1)
    expected = f"{broken}/config.toml: this run has {message}; use the same value, or give another --out"
    assert str(caught.value) == expected
    assert snapshot(broken) == before


def test_another_suite_is_refused(broken: Path, tmp_path: Path) -> None:
    longer = write_suite(tmp_path, ("n_updates = 6", "n_updates = 7"))
    before = snapshot(broken)
    with pytest.raises(
        ResumeError, match=r"this run has suite_hash = '\w{16}', not '\w{16}'; the suite was edited: re"
    ):
        run_tiny(longer, broken)
    assert snapshot(broken) == before


def test_other_words_of_a_suite_are_no_other_suite(broken: Path, tmp_path: Path) -> None:
    renamed = write_suite(tmp_path, ('"cosine", "wsd"]', '"wsd", "cosine"]\ndescription = "Tiny."'))
    before = (broken / "records.jsonl").read_bytes()
    run_tiny(renamed, broken)
    assert (broken / "records.jsonl").read_bytes() == before


def test_a_scheduler_can_be_added(suite: Path, tmp_path: Path, unbroken: Path) -> None:
    out = tmp_path / "out"
    run_tiny(suite, out, schedulers=["wsd"])
    before = (out / "records.jsonl").read_bytes()
    started = Started()
    run_tiny(suite, out, started, schedulers=["wsd", "cosine"])
    assert {entry for _, entry, _, _ in started.jobs} == {"cosine"}
    assert (out / "records.jsonl").read_bytes().startswith(before)
    for scheduler in ("cosine", "wsd"):  # a further entry changes no other entry's results
        own = [[r for r in results(path) if r["scheduler"] == scheduler] for path in (out, unbroken)]
        assert own[0] == own[1]


CHANGE = ("interval = 2", "interval = 3")


def test_a_scheduler_whose_code_has_changed_is_refused(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_tiny(suite, out, schedulers=[write_plugin(tmp_path)], **SMALL)
    before = snapshot(out)
    changed = write_plugin(tmp_path, CHANGE)
    with pytest.raises(ResumeError, match=r"config.toml: the code of scheduler 'mine' has changed since \(source"):
        run_tiny(suite, out, schedulers=[changed], **SMALL)
    assert snapshot(out) == before
    run_tiny(suite, out, schedulers=["cosine"], **SMALL)  # others may go on
    assert (out / "records.jsonl").read_bytes().startswith(before["records.jsonl"])


def test_a_scheduler_that_has_no_records_yet_may_be_mended(suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ref = write_plugin(tmp_path, ("return Controls(lr), state", "raise RuntimeError('not yet')"))
    assert len(run_tiny(suite, out, schedulers=["cosine", ref], **SMALL).failures) == 2
    done = run_tiny(suite, out, schedulers=["cosine", write_plugin(tmp_path)], **SMALL)
    assert done.failures == []
    assert {(r.workload, r.scheduler) for r in done.records} == {
        (workload, scheduler) for workload in ("sgd-mlp", "adam-mlp") for scheduler in ("cosine", "mine")
    }


def test_a_directory_is_held_by_one_process(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    run_tiny(suite, out, schedulers=["cosine"], **SMALL)
    code = "import sys, filelock as f; lock = f.FileLock(sys.argv[1]); lock.acquire(); print(1, flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(out / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
            with pytest.raises(ResumeError, match="out: another process uses this run directory; wait until"):
                run_tiny(suite, out, schedulers=["cosine"], **SMALL)
        holder.kill()
    run_tiny(suite, out, schedulers=["cosine"], **SMALL)  # a killed process keeps no lock
