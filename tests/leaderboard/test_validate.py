"""Every fault of a submission is one line; nothing in a submission is executed or followed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ganno_bench.core.errors import SubmissionError
from ganno_bench.leaderboard.submissions import read_submissions
from ganno_bench.leaderboard.untrusted import Faults, parse_toml, printable
from ganno_bench.leaderboard.validate import check_leaderboard
from tests.helpers.command_line import Call
from tests.helpers.effort import effort
from tests.helpers.faulty_submissions import CASES, in_record, in_toml
from tests.helpers.resealed import resealed
from tests.helpers.submission_cases import World, edit


@pytest.mark.parametrize(("break_it", "expected"), CASES.values(), ids=CASES)
def test_every_fault_has_its_message(copy: World, break_it: Callable[[World], Any], expected: list[Any]) -> None:
    hidden = _varying(copy)
    break_it(copy)
    with _with_little_effort():
        found = [_without(fault, hidden) for fault in copy.faults()]
    wanted = [item for item in expected if item is not ...]
    assert [fault for fault in found if fault in wanted or ... not in expected] == wanted
    assert all(fault.isprintable() for fault in found)


@contextmanager
def _with_little_effort() -> Iterator[None]:
    """As many function calls as a second has, or fewer."""
    with effort() as needed:
        yield
    assert needed.calls < 3_000_000  # 0.6 million for six thousand unknown keys, 1.5 million for 28,800 parts of keys


def _varying(world: World) -> dict[str, str]:
    """Return values that differ between machines -> their names in the cases."""
    record = json.loads(_first_line(world))
    total = sum(file.stat().st_size for file in world.mine.glob("*.toml")) + 8_000_000
    lines = (world.mine / "records.jsonl").read_text().splitlines()
    seconds = sum(json.loads(line)["cost"]["wall_seconds"] for line in lines)
    return {
        record["suite_hash"]: "HASH",
        record["dataset_fingerprint"]: "FINGERPRINT",
        record["code"]: "CODE",
        str(total): "TOTAL",
        f"{seconds:.2f}": "SECONDS",
        **{repr(value): "LOSS" for name, value in record["metrics"].items()},
        repr(record["curve"]["val_loss"][-1]): "LOSS",
        repr(dict(sorted(record["provenance"]["versions"].items()))): "VERSIONS",
        "must have lower-case letters and digits, with single dots and hyphens between, at most 64 in all": "SLUG",
        "must be a plain web address, http or https, of at most 300 characters": "URL",
    }


def _without(fault: str, hidden: dict[str, str]) -> str:
    for text, name in hidden.items():
        fault = fault.replace(text, name)
    fault = re.sub(
        r"checksum is '\w{16}', its content has '\w{16}'", "checksum is 'HASH', its content has 'HASH'", fault
    )
    return re.sub(r"'trial': must be \d(.*)\(value: \d\)", r"'trial': must be N\1(value: N)", fault)


def _first_line(world: World) -> str:
    return (world.mine / "records.jsonl").read_text().splitlines()[0]


def test_there_are_many_kinds_of_faults() -> None:
    assert len(CASES) >= 60


def test_the_first_faults_are_listed_and_all_are_counted(copy: World) -> None:
    for index in range(14):
        in_record("metrics", {"train_loss": -1.0, "val_loss": -1.0, "val_error": 2.0, "test_loss": -1.0,
                              "test_error": -2.0}, index)(copy)  # fmt: skip
    verdict = next(v for v in check_leaderboard(copy.root, copy.suites).verdicts if v.name.endswith("my-entry"))
    assert verdict.n_faults == 14 * 7
    assert len(verdict.faults) == 21
    assert verdict.faults[-1] == "... and 78 more"
    assert verdict.submitted is None


def test_one_fault_does_not_hide_the_others(copy: World) -> None:
    in_record("metrics.test_loss", -1.0)(copy)
    in_toml("wall_seconds = ", "wall_seconds = -")(copy)
    edit(copy.frozen / "submission.toml", 'name = "frozen-wsd"', 'name = "x"')
    assert [fault.partition(": ")[0] for fault in copy.faults()] == ["frozen/submission.toml", "submission.toml"]


def test_reading_refuses_what_is_not_well_formed(copy: World) -> None:
    in_record("metrics.test_loss", "low")(copy)
    message = r"my-entry/records.jsonl:1: key 'metrics.test_loss': Input should be a valid number \(value: 'low'\)"
    with pytest.raises(SubmissionError, match=message):
        read_submissions(copy.root)


def test_submitted_code_is_not_executed_and_references_are_not_followed(copy: World) -> None:
    trap = copy.path / "trap.py"
    trap.write_text(f"open({str(copy.path / 'sprung')!r}, 'w').close()\n")
    in_toml('ref = "mine.py:Mine"', f'ref = "{trap}:Mine"')(copy)
    assert copy.faults() == []
    read_submissions(copy.root)
    assert not (copy.path / "sprung").exists()


def test_what_is_shown_is_on_one_line_and_harmless() -> None:
    assert printable("a\x1b[31m\u202e\n\ud800é[red]") == "a\\x1b[31m\\u202e\\n\\ud800é[red]"
    assert printable("x" * 400) == "x" * 300 + "..."
    faults = Faults("folder\r/")
    faults.add("file", "what\x07")
    assert faults.report() == ["folder\\r/file: what\\x07"]


def test_dotted_keys_take_no_time() -> None:
    line = ".".join("a" * 16) + " = 1\n"
    with _with_little_effort():
        with pytest.raises(SubmissionError):
            parse_toml("".join(f"[t{index}]\n{line}" for index in range(1800)))
        inline = "x{} = {{ " + ".".join("a" * 2000) + " = 1 }}\n"
        with pytest.raises(SubmissionError, match="is nested too deeply"):
            parse_toml("".join(inline.format(index) for index in range(16)))


@pytest.mark.parametrize("line", [".".join("a" * 17) + " = 1", f"a = {'1' * 4093}", f"[{'.'.join('a' * 17)}]"])
def test_what_would_take_the_parser_long_never_gets_there(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganno_bench.leaderboard.untrusted.tomllib.loads", lambda text: pytest.fail("was parsed"))
    with pytest.raises(SubmissionError, match=r"^line 2 must have (at most 4096 characters|keys of at most 16 parts)"):
        parse_toml(f"b = 1\n{line}\n")


def test_the_command_lists_faults_and_fails(call: Call, copy: World) -> None:
    said = call("leaderboard", "validate", str(copy.root))
    assert said.code == 0
    assert said.out.splitlines()[-1] == f"{copy.root}: 2 valid submissions, 0 valid challenges, 0 faults"
    assert said.out.startswith("submissions/tiny/frozen-wsd: ok; zero-shot, 6 report runs on 2 workloads, 0 diverged; ")
    in_record("task", "[bold]\x1b[31m")(copy)
    said = call("leaderboard", "validate", str(copy.root))
    assert said.code == 2
    assert "records.jsonl:1: key 'task': has the character U+001B, which cannot be printed\n" in said.out
    assert "\x1b" not in said.out + said.err
    assert said.out.splitlines()[-1] == f"{copy.root}: 1 valid submissions, 0 valid challenges, 1 faults"
    in_record("task", "[bold]")(copy)
    said = call("leaderboard", "validate", str(copy.mine))
    assert "key 'task': must be 'image-classification' (value: '[bold]')" in said.out
    said = call("leaderboard", "validate", str(copy.root / "nowhere"))
    assert (said.code, said.err) == (
        2,
        f"error: folder '{copy.root}/nowhere' does not exist; give the path of a leaderboard or of a submission\n",
    )


def test_the_committed_leaderboard_is_valid() -> None:
    committed = Path(__file__).resolve().parents[2] / "leaderboard"
    assert [verdict.faults for verdict in check_leaderboard(committed).verdicts if verdict.faults] == []


def rewrite(folder: Path, *edits: tuple[str, str]) -> None:
    """Replace texts in all files of a submission."""
    for file in folder.iterdir():
        text = file.read_text()
        for old, new in edits:
            text = text.replace(old, new)
        file.write_text(resealed(text) if file.suffix == ".jsonl" else text)


def test_a_built_in_scheduler_of_another_revision_is_found(copy: World) -> None:
    frozen = copy.root / "submissions" / "tiny" / "frozen-wsd"
    rewrite(frozen, ('code = "revision 1"', 'code = "revision 2"'), ('"code":"revision 1"', '"code":"revision 2"'))
    assert copy.faults() == [
        "frozen/submission.toml: key 'code': must have revision 1, the current code of 'wsd@default' "
        "(value: 'revision 2')"
    ]


def test_a_submission_of_format_1_is_valid(copy: World) -> None:
    before = read_submissions(copy.root)
    for name in ("my-entry", "frozen-wsd"):
        rewrite(
            copy.root / "submissions" / "tiny" / name,
            ("format = 2", "format = 1"),
            ('"schema_version":3', '"schema_version":1'),
            ('code = "revision 1"', 'code_hash = "32a9b59e71846eb8"'),
            ('"code":"revision 1"', '"code_hash":"32a9b59e71846eb8"'),
            ('code = "source ', 'code_hash = "'),
            ('"code":"source ', '"code_hash":"'),
        )
    assert copy.faults() == []
    assert read_submissions(copy.root) == before


@pytest.mark.parametrize("name", ["without:ganno", "policy:../ganno", "file.py:Name", "random:", "(", "@default"])
def test_a_name_that_is_no_schedulers_of_this_project_is_not_looked_up(copy: World, name: str) -> None:
    frozen = copy.root / "submissions" / "tiny" / "frozen-wsd"
    rewrite(frozen, ("wsd@default", name))
    assert not [fault for fault in copy.faults() if "key 'code'" in fault]
