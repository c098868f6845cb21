"""`tune`, `run` and `verify baselines`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.command_line import Call
from tests.helpers.tiny_suite import write_suite


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANNO_BENCH_BASELINES", str(tmp_path / "baselines"))
    write_suite(tmp_path, ("trials = 6", "trials = 2"), ("report_seeds = 3", "report_seeds = 2"))
    return tmp_path


@pytest.mark.slow(group="suites")
def test_from_tuning_to_a_table_to_verification(call: Call, folder: Path) -> None:
    said = call("verify", "baselines")
    assert (said.code, said.out) == (0, f"{folder}/baselines: 0 entries, 0 runs trained again, 0 faults\n")
    said = call("tune", "tiny.toml", "--scheduler", "cosine", "--write-baselines")
    assert said.code == 0
    assert f"baselines {folder}/baselines" in said.out

    said = call("run", "tiny.toml", "--scheduler", "default:step", "--out", "mine")
    assert said.code == 0
    assert "Reference (score 0): tuned cosine, committed results." in said.out
    assert "cosine*" in said.out
    assert call("table", "mine").out.count("cosine*") == said.out.count("cosine*")
    assert call("plot", "mine", "--out", "pictures").code == 0
    alone = call("table", "mine", "--no-baselines")
    assert alone.code == 2
    assert alone.err.endswith("the records have no report runs of tuned 'cosine'; add --scheduler cosine to the run\n")

    said = call("verify", "baselines", "--suite", "tiny.toml", "--sample", "1")
    assert said.code == 0
    first, last = said.out.splitlines()
    assert first.startswith("ok       tiny/")
    assert first.endswith(": bit-equal")
    assert last == f"{folder}/baselines: 1 entries, 1 runs trained again, 0 faults"
    reference = folder / "baselines" / "reference.json"
    reference.write_text(reference.read_text().replace('"loss": ', '"loss": 1'))
    said = call("verify", "baselines", "--suite", "tiny.toml", "--sample", "0")
    assert said.code == 1
    assert [line[:8] for line in said.out.splitlines()[:-1]] == ["FAULT   "] * 2
    assert said.out.splitlines()[-1].endswith("1 entries, 0 runs trained again, 2 faults")
