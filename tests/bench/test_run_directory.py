"""The run directory alone: settings fixed, records appended and dropped, other settings refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ganno_bench.bench.store import EntryConfig, RunConfig, RunDirectory
from ganno_bench.core.errors import ConfigError, ResumeError
from tests.helpers.tiny_suite import snapshot

CONFIG = RunConfig(
    run_id="0123abcd",
    suite="tiny",
    suite_hash="5f1e",
    custom=False,
    study=0,
    trials=6,
    tuning_seeds=2,
    report_seeds=3,
    batch=3,
    device="cpu",
    threads=2,
    torch="2.9.0",
    optuna="4.4.0",
    backends={"a": "vmap", "b": "loop"},
    chunks={"a": 64, "b": 2},
    fingerprints={"a": "da7a", "b": "da7a"},
    plugins={"model wide": "wide-nets 0.1"},
    entries=(EntryConfig(name="cosine", ref="cosine", code="c0de", tag="c0de"),),
)

OTHER: dict[str, tuple[Any, str]] = {
    "suite": ("huge", "suite = 'tiny', not 'huge'"),
    "suite_hash": ("0bad", "suite_hash = '5f1e', not '0bad'"),
    "study": (1, "study = 0, not 1"),
    "trials": (7, "trials = 6, not 7"),
    "tuning_seeds": (1, "tuning_seeds = 2, not 1"),
    "report_seeds": (4, "report_seeds = 3, not 4"),
    "batch": (8, "batch = 3, not 8"),
    "optuna": ("5.0.0", "optuna = '4.4.0', not '5.0.0'"),
    "device": ("cuda", "device = 'cpu', not 'cuda'"),
    "threads": (1, "threads = 2, not 1"),
    "torch": ("2.10.0", "torch = '2.9.0', not '2.10.0'"),
    "backends": ({"a": "vmap", "b": "vmap"}, "backends.b = 'loop', not 'vmap'"),
    "chunks": ({"a": 8, "b": 2}, "chunks.a = 64, not 8"),
    "fingerprints": ({"a": "da7a", "b": "da7b"}, "fingerprints.b = 'da7a', not 'da7b'"),
    "plugins": ({"model wide": "wide-nets 0.2"}, "plugins.model wide = 'wide-nets 0.1', not 'wide-nets 0.2'"),
}


def pin(path: Path, config: RunConfig = CONFIG) -> RunConfig:
    with RunDirectory(path) as directory:
        return directory.pin(config, "text")


def test_settings_are_pinned_and_read_back(tmp_path: Path) -> None:
    assert pin(tmp_path / "a" / "b") == CONFIG
    before = snapshot(tmp_path)
    again = CONFIG.model_copy(update={"run_id": "f00f00f0"})
    assert pin(tmp_path / "a" / "b", again) == CONFIG  # the first call's identity stays
    assert snapshot(tmp_path) == before
    assert set(before) == {"a/b/config.toml", "a/b/suite.toml"}


def test_every_setting_that_decides_results_is_compared() -> None:
    # `custom` follows from the budget, and entries may be added.
    assert set(OTHER) == set(RunConfig.model_fields) - {"schema_version", "run_id", "custom", "entries"}


@pytest.mark.parametrize("name", OTHER)
def test_another_value_is_refused(tmp_path: Path, unbroken: Path, name: str) -> None:
    value, message = OTHER[name]
    pin(tmp_path)
    (tmp_path / "records.jsonl").write_bytes((unbroken / "records.jsonl").read_bytes())
    before = snapshot(tmp_path)
    with pytest.raises(ResumeError) as caught:
        pin(tmp_path, CONFIG.model_copy(update={name: value, "custom": True}))
    remedy = "the suite was edited: restore it" if name == "suite_hash" else "use the same value"
    assert str(caught.value) == f"{tmp_path}/config.toml: this run has {message}; {remedy}, or give another --out"
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", OTHER)
def test_nothing_is_refused_as_long_as_nothing_is_recorded(tmp_path: Path, name: str) -> None:
    # A user who interrupts a run at once to change a setting need not clean up.
    pin(tmp_path)
    (tmp_path / "records.jsonl").write_bytes(b'{"torn')
    other = CONFIG.model_copy(update={name: OTHER[name][0], "run_id": "f00f00f0"})
    with RunDirectory(tmp_path) as directory:
        assert directory.pin(other, "other text") == other
    assert pin(tmp_path, other) == other
    assert (tmp_path / "suite.toml").read_text() == "other text"
    assert (tmp_path / "records.jsonl").read_bytes() == b""


def test_entries_add_up(tmp_path: Path) -> None:
    pin(tmp_path)
    more = EntryConfig(name="mine", ref="./mine.py:Mine", code="beef", tag="beef")
    assert pin(tmp_path, CONFIG.model_copy(update={"entries": (more,)})).entries == (*CONFIG.entries, more)
    assert pin(tmp_path).entries == (*CONFIG.entries, more)


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    pin(tmp_path)
    text = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace("trials = 6", "trails = 6"))
    with pytest.raises(ConfigError, match=r"config.toml: unknown key 'trails'; did you mean 'trials'\?"):
        pin(tmp_path)


def test_records_without_their_settings_are_not_added_to(tmp_path: Path, unbroken: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes((unbroken / "records.jsonl").read_bytes())
    with pytest.raises(ResumeError, match=r"has records but no config.toml; give another --out"):
        pin(tmp_path)


def test_a_directory_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResumeError, match="file: cannot be used as a run directory: File exists"):
        RunDirectory(tmp_path / "file")
    (tmp_path / "out" / ".lock").mkdir(parents=True)
    with pytest.raises(ResumeError, match="out: cannot be used as a run directory: "):
        RunDirectory(tmp_path / "out")


def test_the_tail_is_dropped_and_the_rest_kept(tmp_path: Path, unbroken: Path) -> None:
    lines = (unbroken / "records.jsonl").read_bytes().splitlines(keepends=True)
    pin(tmp_path)
    (tmp_path / "records.jsonl").write_bytes(b"".join(lines[:9]))
    with RunDirectory(tmp_path) as directory:
        records = list(directory.records)
        directory.drop_tail(0)
        assert directory.records == records
        directory.drop_tail(3)
        assert directory.records == records[:6]
        assert (tmp_path / "records.jsonl").read_bytes() == b"".join(lines[:6])
        directory.append(records[6:])
    assert (tmp_path / "records.jsonl").read_bytes() == b"".join(lines[:9])
    with RunDirectory(tmp_path) as directory:
        assert directory.records == records
