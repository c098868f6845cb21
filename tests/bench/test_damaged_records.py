"""Every reader of records notices and names edited, lost and corrupted lines, and uses none of them."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from ganno_bench.bench.store import RunDirectory
from ganno_bench.core.errors import ConfigError, RecordError, ResumeError
from ganno_bench.core.records import read_records
from tests.helpers.resealed import reseal
from tests.helpers.tiny_suite import Started, keep, results, run_tiny, snapshot, write_suite

N = 15
"""Lines of the damaged files: the first two batches of trials, six lines each, and the three of the report."""
Lines = list[bytes]


@pytest.fixture
def run(unbroken: Path, tmp_path: Path) -> Path:
    """A copy of the first three populations of a run, with records.end."""
    out = Path(shutil.copytree(unbroken, tmp_path / "run"))
    keep(out, N - 3)
    with RunDirectory(out) as directory:
        directory.append(read_records([unbroken])[N - 3 : N])
    return out


def test_a_file_that_is_as_it_was_written_is_read(run: Path, unbroken: Path) -> None:
    assert read_records([run]) == read_records([unbroken])[:N]
    with RunDirectory(run) as directory:
        assert directory.records == read_records([unbroken])[:N]


def test_a_process_that_died_between_the_two_files_did_no_damage(run: Path, unbroken: Path) -> None:
    before = (run / "records.end").read_bytes()
    with RunDirectory(run) as directory:
        directory.append(read_records([unbroken])[N : N + 6])
    (run / "records.end").write_bytes(before)
    assert len(read_records([run])) == N + 6


def test_records_that_cannot_be_read_at_all(run: Path, suite: Path) -> None:
    (run / "records.jsonl").unlink()
    (run / "records.jsonl").mkdir()
    with pytest.raises(RecordError, match=r"records\.jsonl: cannot be read: Is a directory$"):
        run_tiny(suite, run)


def leaves(data: Any, *path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the place of each value in plain data."""
    if isinstance(data, dict | list) and data:
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from leaves(value, *path, key)
    else:
        yield path


def changed(line: bytes, path: tuple[Any, ...]) -> bytes:
    """Return a line with another value of the same type in one place."""
    data = place = json.loads(line)
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    others = {bool: not value, int: 1, float: 0.5, str: "x", type(None): 0.25, list: [], dict: {}}
    other = others[type(value)]
    place[path[-1]] = other if other != value else {int: 2, float: 0.25}.get(type(value))
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def field_changes(lines: Lines) -> Iterator[tuple[str, int, Lines]]:
    for at in (0, N - 1):
        for path in leaves(json.loads(lines[at])):
            yield f"line {at + 1}, {path}", at, [*lines[:at], changed(lines[at], path), *lines[at + 1 :]]


def line_changes(lines: Lines) -> Iterator[tuple[str, int, Lines]]:
    for at in range(N):
        yield f"line {at + 1} dropped", at, lines[:at] + lines[at + 1 :]
        yield f"line {at + 1} twice", at + 1, lines[: at + 1] + lines[at:]
        yield f"cut before line {at + 1}", at, lines[:at]
        if at + 1 < N:
            yield f"line {at + 1} swapped", at, [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
    for at in (0, 6, 12):
        yield f"population at line {at + 1} dropped", at, lines[:at] + lines[at + 6 :]
    yield "populations swapped", 0, lines[6:12] + lines[:6] + lines[12:]


def byte_changes(lines: Lines) -> Iterator[tuple[str, int, Lines]]:
    for at in (0, 7, N - 1):
        size = len(lines[at])
        for place in range(0, size, size // 23):
            for bit in (0, 3, 6):
                line = lines[at][:place] + bytes([lines[at][place] ^ 1 << bit]) + lines[at][place + 1 :]
                yield f"line {at + 1}, byte {place}, bit {bit}", at, [*lines[:at], line, *lines[at + 1 :]]
            line = lines[at][:place] + lines[at][place + 1 :]
            yield f"line {at + 1}, byte {place} removed", at, [*lines[:at], line, *lines[at + 1 :]]


def line_named_by(read: Callable[[], Any]) -> int | None:
    """Return the line of the records that an error names; None if it names none."""
    try:
        read()
    except RecordError as error:
        return int(str(error).partition("records.jsonl:")[2].partition(":")[0])
    return None


@pytest.mark.parametrize("changes", [field_changes, line_changes, byte_changes])
def test_every_change_is_noticed_and_named(
    run: Path, changes: Callable[[Lines], Iterator[tuple[str, int, Lines]]]
) -> None:
    file = run / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    mutants = list(changes(lines))
    assert len(mutants) > 60
    for name, at, mutant in mutants:
        file.write_bytes(b"".join(mutant))
        for line in (line_named_by(lambda: read_records([run])), line_named_by(lambda: RunDirectory(run))):
            # The line after it shows that an intact line is in the wrong place.
            assert line in (at, at + 1, at + 2), name


def test_what_to_do_is_said_and_does_it(run: Path, unbroken: Path, suite: Path) -> None:
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run / "records.jsonl").write_bytes(b"".join(lines[:8] + lines[9:]))
    before = snapshot(run)
    with pytest.raises(RecordError) as caught:
        run_tiny(suite, run)
    assert str(caught.value).startswith(f"{run}/records.jsonl:9: was not written after the lines before it: ")
    assert str(caught.value).endswith(
        "; restore the file, or keep its first 8 lines and remove records.end: the same command then trains the rest "
        "again"
    )
    assert snapshot(run) == before
    keep(run, 8)
    started = Started()
    run_tiny(suite, run, started)
    assert len(started.jobs) == 12 - 1
    assert results(run) == results(unbroken)


def test_lines_lost_at_the_end_are_noticed_by_the_end_file(run: Path, suite: Path) -> None:
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    (run / "records.jsonl").write_bytes(b"".join(lines[:12]))
    with pytest.raises(
        RecordError,
        match=r"records.jsonl:13: this line and all later ones are lost: .* counts 15 lines; restore",
    ):
        run_tiny(suite, run)
    (run / "records.jsonl").unlink()
    with pytest.raises(RecordError, match=r"records.jsonl:1: this line and all later ones are lost"):
        run_tiny(suite, run)


def test_a_line_of_another_run_is_noticed(run: Path, tmp_path: Path) -> None:
    other = write_suite(tmp_path, ("n_updates = 6", "n_updates = 5"))
    run_tiny(other, tmp_path / "other", schedulers=["cosine"])
    file = run / "records.jsonl"
    own, foreign = (path.read_bytes().splitlines(keepends=True) for path in (file, tmp_path / "other/records.jsonl"))
    for at in (0, 7, N - 1):
        file.write_bytes(b"".join([*own[:at], foreign[at], *own[at + 1 :]]))
        with pytest.raises(RecordError, match=r"records\.jsonl:\d+: "):
            read_records([run])
    file.write_bytes(b"".join(foreign[:N]))
    with pytest.raises(RecordError, match=r"records\.jsonl:15: this line or an earlier one was changed"):
        read_records([run])


# A run of an earlier version has no checksums, but its plan says what it must have recorded.


@pytest.fixture
def old(run: Path) -> Path:
    """The run as version 2 would have written it."""
    file = run / "records.jsonl"
    lines = [
        line.partition(b',"after"')[0].replace(b'"schema_version":3', b'"schema_version":2') + b"}\n"
        for line in file.read_bytes().splitlines()
    ]
    file.write_bytes(b"".join(lines))
    (run / "records.end").unlink()
    return run


def test_a_run_of_version_2_resumes(old: Path, suite: Path, unbroken: Path) -> None:
    before = (old / "records.jsonl").read_bytes()
    run_tiny(suite, old)
    assert (old / "records.jsonl").read_bytes().startswith(before)
    versions = [record.pop("schema_version") for record in results(old)]
    assert versions == [2] * N + [3] * (60 - N)
    assert read_records([old]) == [
        r.model_copy(update={"provenance": mine.provenance, "cost": mine.cost})
        for r, mine in zip(read_records([unbroken]), read_records([old]), strict=True)
    ]
    # From then on a change of the old lines is noticed, too.
    file = old / "records.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(RecordError, match=r"records.jsonl:16: was not written after the lines before it"):
        read_records([old])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], "1: found {} (tuning 0, seed 1), expected {} (tuning 0, seed 0): a"),
        (lambda lines: lines[:7] + lines[8:], "8: found {} (tuning 4, seed 0), expected {} (tuning 3, seed 1)"),
        (lambda lines: lines[:5] + lines[6:], "6: found {} (tuning 3, seed 0), expected {} (tuning 2, seed 1)"),
        (lambda lines: lines[6:], "1: found {} (tuning 3, seed 0), expected {} (tuning 0, seed 0)"),
        (lambda lines: lines[:12] + lines[11:], "13: found {} (tuning 5, seed 1), expected {} (report, seed 0)"),
        (lambda lines: lines + lines[-1:], "16: found {} (report, seed 2), expected no further run"),
        (lambda lines: [lines[1], lines[0], *lines[2:]],
         "1: found {} (tuning 0, seed 1), expected {} (tuning 0, seed 0)"),
        (lambda lines: [lines[0].replace(b'"study":0', b'"study":1')],
         "1: key 'study': must be 0, as in config.toml (value: 1)"),
        (lambda lines: [lines[0].replace(b"sgd-m", b"sdg-m")],
         "1: key 'workload': must be 'adam-mlp' or 'sgd-mlp', as in config.toml (value: 'sdg-mlp')"),
        (lambda lines: [lines[0].replace(b"revision 1", b"revision 2")],
         "1: key 'code': must be 'revision 1', as in config.toml (value: 'revision 2')"),
    ],
)  # fmt: skip
def test_what_an_old_run_lost_is_named(old: Path, suite: Path, change: Callable[[Lines], Lines], message: str) -> None:
    file = old / "records.jsonl"
    file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))
    before = file.read_bytes()
    with pytest.raises(RecordError) as caught:
        run_tiny(suite, old)
    expected = message.replace("{}", "cosine on 'sgd-mlp'")
    assert str(caught.value).startswith(f"{file}:{expected}")
    assert file.read_bytes() == before


# Settings and suite


def test_a_custom_run_with_an_edited_flag_is_refused(run: Path, suite: Path, tmp_path: Path) -> None:
    out = tmp_path / "custom"
    run_tiny(suite, out, trials=1, schedulers=["cosine"])
    config = out / "config.toml"
    config.write_text(config.read_text().replace("custom = true", "custom = false"))
    with pytest.raises(ResumeError, match=r"config\.toml: this run has custom = False, not True; use the same value"):
        run_tiny(suite, out, trials=1, schedulers=["cosine"])


def test_an_entry_that_was_removed_from_the_settings_is_missed(run: Path, suite: Path) -> None:
    config = run / "config.toml"
    settings = tomllib.loads(config.read_text())
    settings["entries"] = [entry for entry in settings["entries"] if entry["name"] != "cosine"]
    config.write_text(tomli_w.dumps(settings))
    with pytest.raises(
        RecordError, match=r"records.jsonl:1: key 'scheduler': must be 'wsd', as in config.toml \(value: 'cosine'\)"
    ):
        run_tiny(suite, run, schedulers=["wsd"])


def test_a_suite_that_was_edited_is_refused(run: Path, suite: Path) -> None:
    kept = run / "suite.toml"
    kept.write_text(kept.read_text().replace("n_updates = 6", "n_updates = 60"))
    with pytest.raises(ResumeError, match=r"suite\.toml: was edited after this run began \(hash \w{16}, not "):
        run_tiny(suite, run)
    kept.write_text("name = ")
    with pytest.raises(ConfigError, match=r"suite\.toml: is not valid TOML"):
        run_tiny(suite, run)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format":2}', '{"format":1,"lines":"x","hash":""}'])
def test_a_damaged_end_is_named(run: Path, content: str) -> None:
    (run / "records.end").write_text(content)
    with pytest.raises(RecordError, match=r"records\.end: "):
        read_records([run])


def test_edited_lines_with_right_checksums_are_believed(run: Path) -> None:
    # Checksums guard against accidents: a forger can compute them.
    file = run / "records.jsonl"
    file.write_text(file.read_text().replace('"status":"completed"', '"status":"diverged"', 1))
    reseal(file)
    assert read_records([run])[0].status == "diverged"


def test_lines_without_checksums_are_not_called_intact(old: Path, suite: Path) -> None:
    run_tiny(suite, old)
    file = old / "records.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(RecordError, match=r"moved or changed .*; restore the file, or give another --out$"):
        run_tiny(suite, old)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"format":1,"lines":"many"}'])
def test_a_damaged_end_takes_no_record_along(run: Path, suite: Path, unbroken: Path, content: str) -> None:
    (run / "records.end").write_text(content)
    for read in (lambda: read_records([run]), lambda: run_tiny(suite, run)):
        with pytest.raises(RecordError, match=r"records\.end: was changed .*; delete it, each line of .* checksum$"):
            read()
    (run / "records.end").unlink()
    assert read_records([run]) == read_records([unbroken])[:N]


def test_parts_of_files_and_several_in_one_are_read(run: Path, tmp_path: Path) -> None:
    """As `grep` and `cat` make them; each line still has its checksum."""
    lines = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    loose, records = tmp_path / "loose.jsonl", read_records([run])
    for chosen in ([*range(3, N)], [5, 2, 9], [*range(N), *range(N)]):
        loose.write_bytes(b"".join(lines[index] for index in chosen) + b"\n")
        assert read_records([loose]) == [records[index] for index in chosen]
    loose.write_bytes(lines[4].replace(b'"seed":0', b'"seed":1', 1))
    with pytest.raises(RecordError, match=r"loose\.jsonl:1: was changed after it was written"):
        read_records([loose])
