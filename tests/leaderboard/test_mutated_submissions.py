"""Checking a submission returns a list of faults, however its files were mutated."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganno_bench.core.checksums import sealed
from ganno_bench.core.errors import SubmissionError
from ganno_bench.leaderboard.submissions import read_submissions
from ganno_bench.leaderboard.validate import check_leaderboard
from tests.helpers.submission_cases import World

NAMES = ("submission.toml", "records.jsonl", "studies.jsonl")
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, -(2**63), 10**15, 10**400]),
    st.floats(),
    st.sampled_from([0.0, -0.0, 1e-320, 1e308, -1.0, 2.302585092994046]),
    st.text(max_size=20),
    st.sampled_from(["", "tiny", "cosine", "tuned", "zero-shot", "report", "varied", "base_lr", "horizon", "sgd-mlp",
                     "../x", "\x1b[2J", "\u202e", "\x00", "[red]", "9" * 5000, "a." * 500]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


def places(data: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of plain data."""
    found: list[tuple[Any, Any]] = []
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        found.append((data, key))
        found += places(value)
    return found


def mutate(draw: Any, data: Any) -> None:
    """Replace, remove or add something."""
    everything = places(data)
    container, key = everything[draw(st.integers(0, len(everything) - 1))]
    how = draw(st.sampled_from(["replace", "remove", "add"]))
    if how == "remove":
        del container[key]
    elif how == "replace" or isinstance(container, list):
        container[key] = draw(values)
    else:
        container[draw(st.text(max_size=8))] = draw(values)


def without_none(data: Any) -> Any:
    """Return data that TOML can hold."""
    if isinstance(data, dict):
        return {key: without_none(value) for key, value in data.items() if value is not None}
    if isinstance(data, list):
        return [without_none(value) for value in data if value is not None]
    return data


def mutant(draw: Any, name: str, content: bytes) -> bytes:
    """Return a mutant of a file's content."""
    if draw(st.booleans()):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 1, 7, 500])))
        return content[:start] + draw(st.binary(max_size=12)) + content[end:]
    lines = content.decode().splitlines()
    index = draw(st.integers(0, len(lines) - 1))
    data = tomllib.loads(content.decode()) if name.endswith(".toml") else json.loads(lines[index])
    for _ in range(draw(st.integers(1, 3))):
        mutate(draw, data)
    if name.endswith(".toml"):
        try:
            return tomli_w.dumps(without_none(data)).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError):  # it cannot be written at all
            return content
    if is_sealed := draw(st.booleans()):
        data.pop("checksum", None)
    lines[index] = json.dumps(data, ensure_ascii=draw(st.booleans()))
    if is_sealed:
        with suppress(UnicodeEncodeError):  # half of a surrogate pair has no checksum
            lines[index] = sealed(lines[index])
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogatepass")


@given(st.data())
@QUICK
def _check(world: World, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        target = Path(shutil.copytree(world.mine, root / "submissions" / "tiny" / "my-entry"))
        (target / name).write_bytes(mutant(data.draw, name, (target / name).read_bytes()))
        (verdict,) = check_leaderboard(root, world.suites).verdicts
        assert all(fault.isprintable() and len(fault) < 700 for fault in verdict.faults)
        assert (verdict.submitted is None) == bool(verdict.faults) == bool(verdict.n_faults)
        if not verdict.faults:
            assert verdict.summary
        try:
            read_submissions(root)
        except SubmissionError:
            assert verdict.faults


def test_checking_a_mutant_never_crashes(world: World) -> None:
    _check(world)
