"""Challenges: written, checked, and shown with their entry."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ganno_bench.baselines.files import place
from ganno_bench.core.errors import SubmissionError
from ganno_bench.core.records import compact_record, read_records
from ganno_bench.leaderboard.challenges import challenges_of, read_challenges
from ganno_bench.leaderboard.challenging import challenge
from ganno_bench.leaderboard.validate import check_leaderboard
from tests.helpers.command_line import Call
from tests.helpers.submission_cases import World, edit, edit_line

SAID = {
    "name": "longer-warmup",
    "claim": "Beats cosine on every workload.",
    "by": "A. Reader",
    "summary": "With a warmup the cosine is as good.",
    "command": "ganno-bench run tiny --scheduler warmup-cosine",
}


def write(world: World, entry: str = "my-entry", **said: Any) -> list[Path]:
    return challenge("tiny", entry, world.root, suites=world.suites, **SAID | said)


def test_a_challenge_is_read_with_its_entry(copy: World) -> None:
    (file,) = write(copy)
    assert file == copy.root / "challenges" / "tiny" / "my-entry" / "longer-warmup.toml"
    assert copy.faults() == []
    (found,) = read_challenges(copy.root)
    assert check_leaderboard(copy.root, copy.suites).challenges == [found]
    assert (found.slug, found.info.status, found.info.claim) == ("longer-warmup", "open", SAID["claim"])
    assert found.info.evidence.command == SAID["command"]
    assert found.info.date == datetime.datetime.now(datetime.UTC).date().isoformat()
    assert challenges_of([found], "tiny", "my-entry") == [found]
    assert challenges_of([found], "tiny", "frozen-wsd") == challenges_of([found], "other", "my-entry") == []


def test_a_challenge_may_have_records(copy: World) -> None:
    files = write(copy, entry="cosine", run_dir=copy.path / "committed")
    assert [file.name for file in files] == ["longer-warmup.toml", "longer-warmup.jsonl"]
    assert copy.faults() == []
    (found,) = read_challenges(copy.root)
    own = read_records([copy.path / "committed"])
    wanted = [r for r in own if r.role != "tuning" and r.workload != "local-mlp"]
    assert len(found.records) == len(wanted) > 0
    assert found.records == sorted(map(compact_record, wanted), key=place)


@pytest.mark.parametrize(
    ("entry", "said", "message"),
    [
        ("my-entri", {}, "key 'entry': unknown entry 'my-entri'; did you mean 'my-entry'?"),
        ("my-entry", {"name": "../up"},
         "option --name: must have lower-case letters, digits, dots and hyphens only (value: '../up')"),
        ("my-entry", {"by": ""}, "challenge: key 'by': String should have at least 1 character (value: '')"),
        ("my-entry", {"url": "ftp://x"},
         "key 'evidence.url': must be a plain web address, http or https, of at most 300 characters (value: 'ftp://x')"),
        ("my-entry", {"summary": "two\nlines"},
         "longer-warmup.toml: key 'summary': has the character U+000A, which cannot be printed"),
    ],
)  # fmt: skip
def test_invalid_challenges_are_refused(copy: World, entry: str, said: dict[str, Any], message: str) -> None:
    with pytest.raises(SubmissionError) as refused:
        write(copy, entry, **said)
    assert str(refused.value).endswith(message)
    assert not (copy.root / "challenges").exists()


def test_a_challenge_is_not_overwritten(copy: World) -> None:
    (file,) = write(copy)
    before = file.read_text()
    with pytest.raises(SubmissionError, match=r"longer-warmup.toml: exists; give another --name"):
        write(copy, summary="Another one.")
    assert file.read_text() == before


CASES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "another status": (
        lambda toml: edit(toml, 'status = "open"', 'status = "won"'),
        "longer-warmup.toml: key 'status': Input should be 'open', 'upheld' or 'withdrawn' (value: 'won')",
    ),
    "no format": (
        lambda toml: edit(toml, "format = 1", "format = true"),
        "longer-warmup.toml: key 'format' is True; this version of ganno-bench reads 1",
    ),
    "another entry": (
        lambda toml: edit(toml, 'entry = "my-entry"', 'entry = "frozen-wsd"'),
        "longer-warmup.toml: key 'entry': must be 'my-entry', as in the path of its folder (value: 'frozen-wsd')",
    ),
    "an entry that moves up": (
        lambda toml: edit(toml, 'entry = "my-entry"', 'entry = "../my-entry"'),
        "longer-warmup.toml: key 'entry': must be 'my-entry', as in the path of its folder (value: '../my-entry')",
    ),
    "an escape sequence": (
        lambda toml: edit(toml, "A. Reader", "\\u001b[2J"),
        "longer-warmup.toml: key 'by': has the character U+001B, which cannot be printed",
    ),
    "an impossible run": (
        lambda toml: edit_line(toml.with_suffix(".jsonl"), lambda record: record["metrics"].update(test_error=7.0)),
        "longer-warmup.jsonl:1: key 'metrics.test_error': must be in [0, 1] (value: 7.0)",
    ),
    "runs without a challenge": (
        lambda toml: toml.rename(toml.with_name("other.toml")),
        "longer-warmup.jsonl: is not expected here; allowed: other.jsonl, other.toml",
    ),
    "a link": (
        lambda toml: (toml.unlink(), toml.symlink_to("/etc/passwd")),
        "longer-warmup.toml: is a symbolic link",
    ),
    "a name that is none": (
        lambda toml: (toml.rename(toml.with_name("Up .toml")), toml.with_suffix(".jsonl").unlink()),
        "Up .toml: its name must have lower-case letters, digits, single dots and hyphens only",
    ),
}


@pytest.mark.parametrize(("break_it", "expected"), CASES.values(), ids=CASES)
def test_every_fault_has_its_message(copy: World, break_it: Callable[[Path], Any], expected: str) -> None:
    toml, _ = write(copy, run_dir=copy.path / "committed")
    break_it(toml)
    assert [f for f in copy.faults() if f == f"challenges/tiny/my-entry/{expected}"], copy.faults()


def test_the_commands(call: Call, copy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.path)
    said = call(
        "leaderboard", "submit", "run", "--name", "by-hand", "--description", "Mine.", "--scheduler", "mine",
        "--url", "https://example.org/paper?id=1", "--author", "Me",
    )  # fmt: skip
    assert said.err == ""
    assert said.out.splitlines()[0] == (
        "leaderboard/submissions/tiny/by-hand: submission.toml, records.jsonl, studies.jsonl"
    )
    assert "  git add leaderboard/submissions/tiny/by-hand" in said.out.splitlines()
    words = [word for key, value in SAID.items() for word in (f"--{key}", value)]
    said = call("leaderboard", "challenge", "tiny", "by-hand", *words)
    assert said.err == ""
    assert said.out.splitlines()[0] == "leaderboard/challenges/tiny/by-hand/longer-warmup.toml"
    said = call("leaderboard", "validate")  # what was just written here, not what is in the checkout
    assert said.code == 0
    assert "challenges/tiny/by-hand/longer-warmup.toml: ok; challenge of 'by-hand', open, 0 records" in said.out
    assert said.out.splitlines()[-1] == "leaderboard: 3 valid submissions, 1 valid challenges, 0 faults"
    said = call("leaderboard", "submit", "run", "--name", "by-hand", "--description", "Mine.")
    assert (said.code, said.err) == (
        2, "error: run: has several schedulers; choose one with --scheduler (mine, wsd@default)\n"
    )  # fmt: skip
