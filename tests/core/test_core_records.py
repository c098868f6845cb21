from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ganno_bench.baselines.files import of_suite, read_lines
from ganno_bench.core.errors import RecordError
from ganno_bench.core.files import replace_file
from ganno_bench.core.records import (
    Cost,
    Curve,
    LrTrace,
    Metrics,
    Provenance,
    RunRecord,
    compact_record,
    dump_record,
    parse_record,
    read_records,
    record_text,
)
from tests.helpers.resealed import sealed_data

NOTHING = Metrics(train_loss=None, val_loss=None, val_error=None, test_loss=None, test_error=None)


def record(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "suite": "ladder",
        "suite_hash": "5f1e",
        "custom": False,
        "workload": "mlp",
        "dataset_fingerprint": "da7a",
        "task": "image-classification",
        "scheduler": "wsd(shape='linear')",
        "code": "c0de",
        "ruleset": "tuned",
        "study": 0,
        "role": "report",
        "trial": 3,
        "seed": 1,
        "config": {"base_lr": 0.1, "n_drops": 2, "shape": "linear", "nesterov": True, "scale": 2.0},
        "status": "completed",
        "diverged_at": None,
        "chance_loss": math.log(10),
        "metrics": Metrics(train_loss=0.1, val_loss=0.2, val_error=0.0, test_loss=0.3, test_error=0.05),
        "curve": Curve(updates=(5, 10), train_loss=(1.5, None), val_loss=(1.25, 1e-17)),
        "lr_trace": LrTrace(updates=(0, 9), layers=("in", "out"), lr=((0.1, 1e-9), (0.0, 1e22))),
        "cost": Cost(updates=10, tuning_updates=640, wall_seconds=0.5),
        "provenance": Provenance(
            timestamp="2026-01-01T00:00:00+00:00",
            host="höst",
            platform="linux",
            device="cpu",
            backend="vmap",
            threads=1,
            versions={"torch": "2.9.0"},
        ),
    }
    return RunRecord(**(fields | changes))


def test_only_varied_runs_have_a_factor_and_a_multiple() -> None:
    line = dump_record(record())
    assert "factor" not in json.loads(line)
    assert "multiple" not in json.loads(line)
    varied = record(role="varied", factor="weight_decay", multiple=0.0)
    assert parse_record(dump_record(varied), "f:1") == varied
    for changes in ({"role": "varied"}, {"role": "varied", "multiple": 2.0}, {"factor": "horizon", "multiple": 2.0}):
        broken = sealed_data(json.loads(line) | changes)
        with pytest.raises(RecordError, match=r"f:1: key 'multiple': .*a varied run must have a factor and a multiple"):
            parse_record(broken, "f:1")


def test_a_record_survives_being_written() -> None:
    line = dump_record(record())
    assert "\n" not in line
    assert parse_record(line, "f:1") == record()
    assert parse_record(line.encode(), "f:1") == record()
    assert dump_record(parse_record(line, "f:1")) == line
    config = parse_record(line, "f:1").config
    assert {key: type(value) for key, value in config.items()} == {
        "base_lr": float,
        "n_drops": int,
        "shape": str,
        "nesterov": bool,
        "scale": float,
    }


@settings(deadline=None, derandomize=True, database=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.text(), st.integers())
def test_any_value_survives_being_written(number: float, text: str, whole: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair cannot be encoded
        return
    written = record(config={"base_lr": number, "x": text, "y": whole}, chance_loss=number)
    line = dump_record(written)
    assert "\n" not in line
    assert "\r" not in line
    assert parse_record(line, "f:1") == written


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "changes",
    [
        lambda value: {"chance_loss": value},
        lambda value: {"config": {"base_lr": value}},
        lambda value: {"metrics": {**NOTHING.model_dump(), "val_loss": value}},
        lambda value: {"curve": {"updates": (1,), "train_loss": (value,), "val_loss": (1.0,)}},
        lambda value: {"lr_trace": {"updates": (0,), "layers": ("a",), "lr": ((value,),)}},
    ],
    ids=["chance", "config", "metrics", "curve", "trace"],
)
def test_what_is_not_finite_cannot_be_recorded(changes: Any, value: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        record(**changes(value))
    # It cannot be written either, even without validation.
    with pytest.raises(ValueError, match="not JSON compliant"):
        dump_record(record().model_copy(update={"chance_loss": value}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"schema_version": 4},
            "f:3: key 'schema_version' is 4; this version of ganno-bench reads 1 to 3; a later version wrote it",
        ),
        ({"schema_version": None}, "f:3: key 'schema_version' is None; this version"),
        ({"seed": -1}, "f:3: key 'seed': Input should be greater than or equal to 0 (value: -1)"),
        ({"seed": "1"}, "f:3: key 'seed': Input should be a valid integer (value: '1')"),
        ({"status": "crashed"}, "f:3: key 'status': Input should be 'completed' or 'diverged' (value: 'crashed')"),
        ({"color": "red"}, "f:3: key 'color': Extra inputs are not permitted (value: 'red')"),
        ({"cost": {"updates": 10, "wall_seconds": 1.0}}, "f:3: key 'cost.tuning_updates': Field required"),
    ],
)
def test_what_is_no_record_is_named(change: dict[str, Any], message: str) -> None:
    data = json.loads(dump_record(record())) | change
    with pytest.raises(RecordError) as caught:
        parse_record(sealed_data(data), "f:3")
    assert str(caught.value).startswith(message)


def test_a_line_that_was_changed_is_named() -> None:
    line = dump_record(record())
    for old, new in (
        ('"test_loss":0.3', '"test_loss":0.2'),
        ('"seed":1', '"seed": 1'),
        ('"checksum":"', '"checksum":"0'),
    ):
        with pytest.raises(RecordError, match=r"^f:3: (was changed after it was written|key 'checksum': is missing)"):
            parse_record(line.replace(old, new), "f:3")
    with pytest.raises(
        RecordError, match=r"^f:3: key 'checksum': is missing at the end of the line, so the line was changed"
    ):
        parse_record(record_text(record()), "f:3")


def test_a_line_of_version_2_has_no_checksum_and_says_the_same() -> None:
    line = record_text(record()).replace('"schema_version":3', '"schema_version":2')
    assert parse_record(line, "f:1") == record()
    spaced = json.dumps({key: json.loads(line)[key] for key in sorted(json.loads(line))})
    assert parse_record(spaced, "f:1") == record()


def test_a_line_that_is_passed_over_is_checked_too(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl.gz"
    lines = [dump_record(record(suite_hash=suite)) + "\n" for suite in ("aaaa", "bbbb")]
    replace_file(file, "".join(lines))
    assert [r.suite_hash for r in read_lines(RunRecord, file, of_suite("aaaa"))] == ["aaaa"]
    replace_file(file, "".join(lines).replace("aaaa", "cccc"))
    with pytest.raises(RecordError, match=r"records\.jsonl\.gz:1: was changed after it was written"):
        list(read_lines(RunRecord, file, of_suite("aaaa")))


@pytest.mark.parametrize("line", ["", "{", "nonsense", b"\xff", '{"schema_version": 1', "\0\0\0"])
def test_what_is_no_json_is_named(line: str | bytes) -> None:
    with pytest.raises(RecordError, match=r"^f:3: is not valid JSON: "):
        parse_record(line, "f:3")


@pytest.mark.parametrize("line", ["[]", "3", "null", '"record"', "{}"])
def test_what_is_json_and_no_record(line: str) -> None:
    with pytest.raises(RecordError, match=r"^f:3: key 'schema_version' is None; this version of ganno-bench reads 1"):
        parse_record(line, "f:3")


@pytest.mark.parametrize(("loss", "objective"), [(0.5, 0.5), (2.0, 1.0), (None, 1.0), (1.0, 1.0)])
def test_an_objective_is_at_worst_chance(loss: float | None, objective: float) -> None:
    metrics = NOTHING.model_copy(update={"val_loss": loss})
    assert record(chance_loss=1.0, metrics=metrics).objective == objective


def test_files_and_run_directories_are_read(tmp_path: Path) -> None:
    lines = [dump_record(record(seed=seed)) + "\n" for seed in range(3)]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "records.jsonl").write_text(lines[0] + lines[1])
    (tmp_path / "more.jsonl").write_text("\n" + lines[2])
    assert [r.seed for r in read_records([tmp_path / "more.jsonl", tmp_path / "run"])] == [2, 0, 1]
    assert read_records([]) == []


def test_compressed_files_are_read_too(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl.gz"
    replace_file(file, dump_record(record(seed=7)) + "\n")
    assert [r.seed for r in read_records([file])] == [7]
    content = file.read_bytes()
    assert content[:2] == b"\x1f\x8b"
    replace_file(file, dump_record(record(seed=7)) + "\n")
    assert file.read_bytes() == content


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-12], lambda b: b[:9], lambda b: b"{}", lambda b: b[:20] + b"x" * 9 + b[29:]]
)
def test_a_damaged_compressed_file_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl.gz"
    replace_file(file, dump_record(record()) + "\n")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(RecordError, match=r"records\.jsonl\.gz: cannot be read: .+"):
        read_records([file])


def test_a_compact_record_keeps_a_sketch_of_the_learning_rates_of_the_first_report() -> None:
    updates = tuple(range(0, 1000, 3))
    trace = LrTrace(updates=updates, layers=("in",), lr=tuple((update + 0.123456,) for update in updates))
    sketch = compact_record(record(role="report", seed=0, lr_trace=trace)).lr_trace
    assert (len(sketch.updates), sketch.updates[0], sketch.updates[-1]) == (24, 0, 999)
    assert all(
        abs(rate - update) < 0.2 + update * 1e-3 for update, (rate,) in zip(sketch.updates, sketch.lr, strict=True)
    )
    assert sketch.lr[0] == (0.1235,)
    again = record(role="report", seed=0, lr_trace=sketch)
    assert compact_record(again).lr_trace == sketch
    short = LrTrace(updates=(0, 5), layers=("in",), lr=((0.1,), (0.2,)))
    assert compact_record(record(role="report", seed=0, lr_trace=short)).lr_trace == short
    assert not compact_record(record(role="report", seed=1, lr_trace=trace)).lr_trace.updates


def test_the_file_and_line_of_a_corrupt_record_are_named(tmp_path: Path) -> None:
    line = dump_record(record()) + "\n"
    path = tmp_path / "records.jsonl"
    path.write_text(line + "\n" + line[:50] + "\n" + line)
    with pytest.raises(RecordError) as caught:
        read_records([tmp_path])
    assert str(caught.value).startswith(f"{path}:3: is not valid JSON: ")


def test_a_last_line_that_a_killed_run_left_is_told_from_a_corrupt_one(tmp_path: Path) -> None:
    line = dump_record(record()) + "\n"
    path = tmp_path / "records.jsonl"
    path.write_text(line + line[:50])
    with pytest.raises(RecordError, match=r"records.jsonl:2: the line is cut short; resume the run to repair"):
        read_records([tmp_path])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("nothing", "; give a run directory, such as runs/quickstart, or a file of records"), ("empty", "")],
)
def test_a_missing_file_is_named(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordError, match=rf"{name}\S*: cannot be read: No such file or directory{hint}$"):
        read_records([tmp_path / name])
