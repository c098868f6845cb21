"""Every command in the documentation is executed, with the arguments that it is documented with."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from tests.helpers.plugin_guide import FILES
from tests.helpers.warm import run

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/README.md",
    "docs/running.md",
    "docs/suites.md",
    "docs/architecture.md",
    "docs/protocol.md",
    "docs/ganno.md",
    "docs/your-own-loop.md",
    "docs/how-policies-work.md",
    "docs/policy-results.md",
    "docs/evaluation.md",
    "docs/models.md",
    "docs/baselines.md",
    "docs/robustness.md",
    "docs/results.md",
    "docs/optuna.md",
    "docs/reading.md",
    "docs/reproducing.md",
    "docs/files.md",
    "docs/training-a-policy.md",
    "docs/submitting.md",
    "docs/leaderboard.md",
    "docs/plugins.md",
    "policies/README.md",
    "benchmarks/README.md",
)
SLOW = (
    "ganno-bench run quickstart --scheduler ./examples",
    "ganno-bench run quickstart --scheduler ./my_decay.py",
    "ganno-bench run graph",
    "ganno-bench leaderboard submit",
    "python benchmarks/",
    "ganno-bench train",
    "ganno-bench tune",
    "ganno-bench evaluate",
    "ganno-bench run policies/demonstrations",
    "ganno-bench run quickstart --scheduler policy:",
    "ganno-bench run quickstart --scheduler constant --scheduler step",
    "ganno-bench run headline",
    "ganno-bench run robustness",
    "ganno-bench run quickstart --scheduler cosine --scheduler policy:",
    "python examples/ganno",
    "python examples/compare_samplers.py",
    "optuna-dashboard",
)
LONG = (  # as documented, but among the slow tests
    "ganno-bench run quickstart --scheduler cosine --scheduler rex",
    "ganno-bench run runs/quickstart/suite.toml",
)
TRAINING = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
loss_function = torch.nn.functional.cross_entropy
loader = [(torch.randn(16, 64), torch.randint(10, (16,))) for _ in range(30)]
epochs = 2
loss = loss_function(model(loader[0][0]), loader[0][1])
"""
"""What a snippet about an existing training loop takes for granted."""
TINY = ["--trials", "2", "--tuning-seeds", "1", "--report-seeds", "2", "--threads", "1"]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            yield page, block


def commands() -> list[str]:
    found = [line for _, block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like a checkout in which `make quickstart` has run, with a tiny budget."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("examples", "Makefile", "pyproject.toml", "baselines", "benchmarks", "policies"):
        (folder / name).symlink_to(ROOT / name)
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # of all processes that run tests, the first one makes it
        base = base.parent
    with FileLock(base / "quickstart.lock"):
        if not (base / "quickstart-done").exists():
            command = ["ganno-bench", "run", "quickstart", "--out", "runs/quickstart", "--scheduler", "cosine", *TINY]
            (base / "quickstart-made").mkdir()
            done = run(command, base / "quickstart-made")
            assert done.returncode == 0, done.stderr
            (base / "quickstart-made").rename(base / "quickstart-done")
    shutil.copytree(base / "quickstart-done" / "runs", folder / "runs")
    for name, text in FILES.items():  # the commands of the guide to plugins name them
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow(group="docs")
def test_the_installed_command_is_the_one_that_is_tested() -> None:
    done = run([f"{Path(sys.executable).parent}/ganno-bench", "--help"], ROOT)
    assert (done.returncode, done.stdout) == (0, run(["ganno-bench", "--help"], ROOT).stdout), done.stderr


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_documented_make_targets_exist(command: str) -> None:
    done = run([*shlex.split(command), "--dry-run"], ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(c, marks=pytest.mark.slow(group="long" if c.startswith(LONG) else "docs"))
        for c in commands()
        if not c.startswith(("make ", "pip ", "ganno-bench new scheduler my-decay --file", *SLOW))
    ],
)
def test_documented_commands_work(command: str, checkout: Path, tmp_path: Path) -> None:
    # A leaderboard is looked for in the current folder first, and some of them begin one.
    done = run(shlex.split(command), tmp_path if command.startswith("ganno-bench leaderboard") else checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow(group="long")
def test_the_quickstart_and_a_plugin_in_its_table(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    quickstart = re.search(r"ganno-bench run quickstart.*", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert quickstart
    assert run(shlex.split(quickstart[0]), tmp_path).returncode == 0
    (plugin,) = [c for c in commands() if c.startswith("ganno-bench run quickstart --scheduler ./examples")]
    done = run(shlex.split(plugin), tmp_path)
    assert done.returncode == 0, done.stderr
    for entry in ("constant", "step", "cosine", "linear", "wsd", "inverse-sqrt"):
        assert re.search(rf"^\s*\d+=?\s+{entry}\s", done.stdout, re.MULTILINE), f"{entry} is not ranked"


@pytest.mark.slow(group="long")
def test_a_result_is_submitted_and_challenged(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    steps = [c for page, block in blocks("bash") if page == "docs/submitting.md" for c in block.splitlines()]
    assert [shlex.split(step)[1:3] for step in steps] == [
        ["run", "graph"], ["leaderboard", "submit"], ["leaderboard", "validate"], ["leaderboard", "challenge"]
    ]  # fmt: skip
    for step in steps:
        done = run(shlex.split(step), tmp_path)
        assert done.returncode == 0, done.stderr
    done = run(["ganno-bench", "leaderboard", "validate", "leaderboard"], tmp_path)
    assert done.stdout.splitlines()[-1] == "leaderboard: 1 valid submissions, 1 valid challenges, 0 faults", done.stdout


@pytest.mark.slow(group="long")
def test_a_policy_is_trained_and_stands_in_the_table(checkout: Path) -> None:
    (training,) = [c for c in commands() if c.startswith("ganno-bench train") and "--minutes" in c]
    done = run(shlex.split(training), checkout)
    assert done.returncode == 0, done.stderr
    (running,) = [c for c in commands() if c.startswith("ganno-bench run quickstart --scheduler policy:")]
    done = run([*shlex.split(running), *TINY], checkout)
    assert done.returncode == 0, done.stderr
    for entry in ("policy:ganno@[0-9a-f]{8}", "cosine@default"):
        assert re.search(rf"^\s*\d+=?\s+{entry}\s", done.stdout, re.MULTILINE), f"{entry} is not ranked"
    at_home = [c for c in commands() if c.startswith("python examples/ganno")]
    assert at_home
    for command in [*at_home, "python examples/ganno_in_your_loop.py runs/train/mine/policy"]:
        done = run(shlex.split(command), checkout)
        assert done.returncode == 0, done.stderr
        accuracy = re.search(r"held-out accuracy (\S+)", done.stdout)
        assert accuracy
        assert float(accuracy[1]) > 0.8


@pytest.mark.slow(group="docs")
def test_the_documented_dashboard_opens_the_studies(checkout: Path) -> None:
    (command,) = [c for c in commands() if c.startswith("optuna-dashboard")]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [f"{Path(sys.executable).parent}/{command.split()[0]}", *command.split()[1:], "--port", str(port)]
    with subprocess.Popen(words, cwd=checkout, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            body = answer(f"http://127.0.0.1:{port}/api/studies")
        finally:
            server.terminate()
    names = [study["study_name"] for study in json.loads(body)["study_summaries"]]
    assert len([name for name in names if name.startswith("quickstart/digits-mlp-2/cosine/0@")]) == 1


def answer(url: str) -> bytes:
    """Wait for a server that is starting."""
    for _ in range(150):
        try:
            with urllib.request.urlopen(url) as response:
                return bytes(response.read())
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


@pytest.mark.slow(group="docs")
def test_samplers_are_compared(checkout: Path) -> None:
    command = next(c for c in commands() if c.startswith("python examples/compare_samplers.py"))
    tiny = ["--trials", "3", "--repetitions", "2", "--suite", "smoke", "--workload", "digits-mlp-2"]
    done = run([*shlex.split(command), *tiny], checkout)
    assert done.returncode == 0, done.stderr
    names = re.findall(r"^(\S[^\d]*\S) +0?\d\.\d{4} \[", done.stdout, re.MULTILINE)
    assert names == ["univariate TPE", "multivariate TPE", "random", "CMA-ES"]
    assert "8 studies of smoke/digits-mlp-2/wsd" in done.stderr
    rows = pd.read_csv(checkout / "runs/samplers/trials.csv")
    assert len(rows) == 24
    running = rows.groupby(["sampler", "repetition"])["value"].cummin()
    assert running.tolist() == rows["best"].tolist()
    assert rows.groupby("sampler")["value"].nunique().min() > 1
    with Image.open(checkout / "runs/samplers/best-so-far.png") as picture:
        assert picture.size == (960, 600)
    wrong = run(["python", "examples/compare_samplers.py", "--workload", "digits-mpl-4"], checkout)
    assert wrong.returncode == 2
    assert "did you mean 'digits-mlp-4'?" in wrong.stderr


@pytest.mark.slow(group="docs")
def test_the_tables_of_the_results_are_those_of_the_committed_baselines() -> None:
    done = run(["python", "benchmarks/results.py", "--check"], ROOT)
    assert (done.returncode, done.stdout) == (0, "up to date\n"), done.stderr


@pytest.mark.slow(group="docs")
def test_the_documented_table_is_what_the_command_prints() -> None:
    page = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ganno-bench table .*$", page, re.MULTILINE)
    (table,) = re.findall(r"^```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    done = run(["env", "COLUMNS=120", *shlex.split(command)], ROOT)
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    first = printed.index("Tuned, workload by workload: median test loss and error, mean score")
    assert printed.index("") < first
    cut = next(i for i, line in enumerate(printed) if line.startswith("Score  "))
    terms = [line for line in printed[cut - 1 :] if not line.startswith(("Test loss", "Error"))]
    assert table.splitlines() == [*printed[: first - 1], *terms]


UNTESTED = ("results.py", "runs/train/", "peers.py")
"""Benchmarks with a test of their own, that need a policy which trains for half an hour, or that install packages."""


@pytest.mark.slow(group="long")
@pytest.mark.parametrize(
    "command",
    [c for c in commands() if c.startswith("python benchmarks/") and not any(part in c for part in UNTESTED)],
)
def test_documented_benchmarks_work(command: str, checkout: Path) -> None:
    done = run([*shlex.split(command), "--quick"], checkout)
    assert done.returncode == 0, done.stderr


def test_the_comparison_with_peers_says_what_it_takes() -> None:
    done = run(["python", "benchmarks/peers.py", "--help"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "stdlib-chars-lstm-1, dacbench" in " ".join(done.stdout.split())


@pytest.mark.slow(group="docs")
@pytest.mark.parametrize(
    ("page", "block"),
    [
        (page, block)
        for page, block in blocks("python")
        if page not in ("docs/plugins.md", "CONTRIBUTING.md") and "class InverseSqrt" not in block  # other tests do
    ],
)
def test_documented_python_runs(page: str, block: str, checkout: Path) -> None:
    if "GannoScheduler" in block and "model = " not in block:
        block = f"{TRAINING}{block}\nprint(loss.item())"
    done = run(["python", "-c", block], checkout)
    assert done.returncode == 0, f"{page}: {done.stderr}"
    assert done.stdout.strip()


@pytest.mark.slow(group="docs")
def test_the_three_commands_of_the_readme_write_check_and_run_a_schedule(tmp_path: Path) -> None:
    (block,) = [block for page, block in blocks("bash") if page == "README.md" and "new scheduler" in block]
    write, check, benchmark = block.splitlines()
    for command in (write, check, f"{benchmark} --scheduler cosine {shlex.join(TINY)}"):
        done = run(shlex.split(command), tmp_path)
        assert done.returncode == 0, done.stderr
    assert re.search(r"^ *\d=? +my-decay\b", done.stdout, re.MULTILINE), done.stdout


def test_the_documented_plugin_is_the_example(tmp_path: Path) -> None:
    (block,) = [block for _, block in blocks("python") if "class InverseSqrt" in block]
    (tmp_path / "plugin.py").write_text(block, encoding="utf-8")
    assert len([line for line in block.splitlines() if line.strip()]) <= 15
    from ganno_bench.schedulers.registry import load_scheduler
    from ganno_bench.testing.scheduler_contract import check_scheduler

    assert all(result.ok for result in check_scheduler(f"{tmp_path / 'plugin.py'}:InverseSqrt"))
    mine = load_scheduler(f"{tmp_path / 'plugin.py'}:InverseSqrt").build({})
    example = load_scheduler(f"{ROOT / 'examples' / 'inverse_sqrt.py'}:InverseSqrt").build({})
    assert [mine.factor(i, 40) for i in range(40)] == [example.factor(i, 40) for i in range(40)]  # type: ignore[attr-defined]


def test_the_six_lines_of_a_policy_are_in_the_program_below_them() -> None:
    page = (ROOT / "docs/your-own-loop.md").read_text(encoding="utf-8")
    (short,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    program = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)[0]
    lines = [line for line in short.splitlines() if line not in ("", "...")]
    assert len(lines) == 6
    assert [line for line in map(str.strip, program.splitlines()) if line in lines] == lines


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), f"{page} links to {target}, which is not there"
