"""kill -9 at any moment loses at most the population in flight."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny_suite import POPULATIONS, results, write_plugin, write_suite

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torch survives a fork on Linux only")

ROOT = Path(__file__).resolve().parents[2]
MAIN = "from ganno_bench.cli.main import main; main()"
STEPS = 6
"""Number of progress messages of a population: one for each evaluation."""
SIZES = (6, 6, 3) * 4
"""Records of each population, in the order of a run."""


Deaths = list[dict[str, float | str]]


class Victims:
    """A process that runs a suite in child processes and kills them."""

    def __init__(self, suite: Path) -> None:
        self.suite = suite
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.run_and_die", str(suite)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, out: Path, **death: float | str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"suite": str(self.suite), "out": str(out), **death}) + "\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    victims = Victims(write_suite(tmp_path_factory.mktemp("victims")))
    with victims.process:
        yield victims
        assert victims.process.stdin is not None
        victims.process.stdin.close()


def whole_populations(out: Path) -> list[bytes]:
    """Return the lines of each population that is recorded in full."""
    file = out / "records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    lines = [line for line in lines if line.endswith(b"\n")]
    found = []
    for size in SIZES:
        if len(lines) >= size:
            found.append(b"".join(lines[:size]))
        lines = lines[size:]
    return found


def kill_and_go_on(victims: Victims, out: Path, deaths: Deaths) -> int:
    """Run and resume with kills until the run ends; return the number of kills."""
    kills, before = 0, whole_populations(out)
    for death in [*deaths, {}]:
        told = victims.run(out, **death)
        assert (told["signal"], told["exit"]) in {(9, 0), (0, 0)}
        after = whole_populations(out)
        assert after[: len(before)] == before  # what was recorded stays
        lost = told["started"] - (len(after) - len(before))
        assert 0 <= lost <= (told["signal"] == 9)
        kills += told["signal"] == 9
        before = after
    assert told["signal"] == 0
    assert len(before) == POPULATIONS
    return kills


SHARES = (0.0, 0.01, 0.5, 0.99, 1.0)


def test_killed_while_it_writes_records(victims: Victims, tmp_path: Path, unbroken: Path) -> None:
    deaths: Deaths = [{"file": "records.jsonl", "write": 1 + n % 2, "share": SHARES[n % 5]} for n in range(10)]
    assert kill_and_go_on(victims, tmp_path / "out", deaths) == 10
    assert results(tmp_path / "out") == results(unbroken)


def test_killed_while_it_writes_anything(victims: Victims, tmp_path: Path, unbroken: Path) -> None:
    # To ask a batch and to tell it takes about 40 writes to Optuna's journal.
    rng = random.Random(1)
    deaths: Deaths = [{"write": rng.randint(3, 50), "share": rng.choice(SHARES)} for _ in range(10)]
    assert kill_and_go_on(victims, tmp_path / "out", deaths) == 10
    assert results(tmp_path / "out") == results(unbroken)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_killed_before_there_is_anything_to_go_on_with(
    victims: Victims, tmp_path: Path, unbroken: Path, share: float
) -> None:
    deaths: Deaths = [{"write": n, "share": share} for n in (1, 2, 3)]
    assert kill_and_go_on(victims, tmp_path / "out", deaths) == 3
    assert results(tmp_path / "out") == results(unbroken)


def test_killed_from_outside_at_any_step_of_training(victims: Victims, tmp_path: Path, unbroken: Path) -> None:
    # What was done of the run's steps before a kill is at most what was asked for, so the next one hits, too.
    rng = random.Random(2)
    deaths: Deaths = [{"step": rng.randint(1, STEPS * POPULATIONS // 10)} for _ in range(10)]
    assert kill_and_go_on(victims, tmp_path / "out", deaths) == 10
    assert results(tmp_path / "out") == results(unbroken)


WAITING = """
from pathlib import Path
import time

def wait():
    folder = Path(__file__).parent
    if (folder / "out" / "records.jsonl").exists() and not (folder / "go-on").exists():
        (folder / "here").touch()
        while True:
            time.sleep(1)
"""


@pytest.mark.slow(group="long")
def test_the_command_line_killed_and_called_again(suite: Path, tmp_path: Path) -> None:
    # The plugin waits in its second population until it is killed, and no longer when it is called again.
    out, plugin = tmp_path / "out", write_plugin(tmp_path, ("import torch", "import torch, waiting"), (
        "        lr = state", "        waiting.wait()\n        lr = state"))  # fmt: skip
    (tmp_path / "waiting.py").write_text(WAITING)
    command = [sys.executable, "-c", MAIN, "run", str(suite), "--scheduler", plugin, "--threads", "1", "--out"]
    with subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (tmp_path / "here").exists():
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(whole_populations(out)) == 1
    (tmp_path / "go-on").touch()
    for folder in (out, tmp_path / "unbroken"):
        subprocess.run([*command, str(folder)], capture_output=True, check=True)
    assert results(out) == results(tmp_path / "unbroken")
