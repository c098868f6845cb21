"""What a user can get wrong: one line on standard error that says it, exit code 2, nothing done."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ganno_bench import api
from ganno_bench.bench.runner import Settings
from tests.helpers.command_line import Call
from tests.helpers.tiny_suite import write_plugin, write_suite

pytestmark = pytest.mark.usefixtures("undrawn")

LOADING = "suite tiny: loading PyTorch and the data of 2 workloads\n"
"""The first line of a run, which is there before anything that takes time."""


def after_loading(err: str) -> str:
    """Return what a command says on standard error after it has begun to load."""
    return err.removeprefix(LOADING)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "quickstrat"], "unknown suite 'quickstrat'; did you mean 'quickstart'?"),
        (["run", "./mine.toml"], "suite file './mine.toml' does not exist"),
        (["run", "SUITE", "--scheduler", "cosin"], "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (["run", "SUITE", "--scheduler", "cosine(x=1)"], "scheduler 'cosine' has no hyperparameter 'x'; valid: "),
        (["run", "SUITE", "--scheduler", "cosine("], "scheduler name 'cosine(' must have the form NAME or NAME(k"),
        (["run", "SUITE", "--scheduler", "./no.py:Mine"], "scheduler file 'no.py' does not exist"),
        (
            ["run", "SUITE", "--scheduler", "./no.py"],
            "scheduler './no.py' is a file; name the scheduler in it: ./no.py",
        ),
        (["run", "SUITE", "--scheduler", "torch:CosineAnealingLR"], ""),
        (["run", "SUITE", "--trials", "0"], "option --trials: must be at least 1 (value: 0)"),
        (["run", "SUITE", "--threads", "0"], "option --threads: must be at least 1 (value: 0)"),
        (["run", "SUITE", "--backend", "vamp"], "unknown backend 'vamp'; did you mean 'vmap'?"),
        (["run", "SUITE", "--device", "gpu"], "device 'gpu' cannot be used: "),
        (["run", "SUITE", "--device", "cuda:99"], "device 'cuda:99' cannot be used: "),
        (["run", "SUITE", "--data-dir", "./nowhere"], "--data-dir: data folder 'nowhere' does not exist"),
        (
            ["run", "SUITE", "--storage", "sqlite:////no/such/folder/a.db"],
            "storage 'sqlite:////no/such/folder/a.db' can",
        ),
        (["run", "SUITE", "--out", "SUITE"], "SUITE: cannot be used as a run directory: File exists"),
        (["check", "cosin"], "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (["check", "./no.py:Mine"], "scheduler file 'no.py' does not exist"),
        (
            ["check", "--kind", "dataset", "."],
            "argument NAME: is a folder, but only dataset plugins have a contract (value: ",
        ),
        (["show", "cosin"], "unknown name 'cosin'; did you mean 'cosine'?"),
        (["show", "quickstrat"], "unknown name 'quickstrat'; did you mean 'quickstart'?"),
        (["show", "digits-mlp-7"], "unknown name 'digits-mlp-7'; did you mean 'digits-mlp-"),
        (["show", "digit"], "unknown name 'digit'; did you mean 'digits'?"),
        (
            ["tune", "SUITE", "--write-baselines", "--trials", "2"],
            "a custom run cannot be written as baselines; leave out --trials, --tuning-seeds and --report-seeds",
        ),
        (["verify", "baselines", "--suite", "quickstrat"], "unknown suite 'quickstrat'; did you mean 'quickstart'?"),
        (
            ["table", "no/run"],
            "no/run: cannot be read: No such file or directory; give a run directory, such as runs/quickstart, or a ",
        ),
        (["plot", "no/run"], "no/run: cannot be read: No such file or directory"),
    ],
)
def test_one_line_says_it(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = str(write_suite(tmp_path))
    options = ["--threads", "1"] if words[0] == "run" and "--threads" not in words else []
    said = call(*(suite if word == "SUITE" else word for word in words), *options)
    assert said.code == 2
    assert said.out == ""
    error = after_loading(said.err)
    assert error.startswith("error: " + message.replace("SUITE", suite))
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("records.jsonl"))


def test_a_dataset_that_is_missing(call: Call, tmp_path: Path) -> None:
    suite = write_suite(tmp_path, ('source = "digits"', 'source = "digts"'))
    said = call("run", str(suite), "--out", str(tmp_path / "out"), "--threads", "1")
    assert said.code == 2
    assert after_loading(said.err).startswith(
        "error: dataset 'digits': 'digts' is neither an embedded dataset nor in a data folder (searched:"
    )
    assert said.err.endswith("; did you mean 'digits'?\n")
    assert after_loading(said.err).count("\n") == 1


@pytest.mark.parametrize("command", ["table", "plot"])
def test_a_corrupt_record_file(call: Call, tmp_path: Path, command: str) -> None:
    (tmp_path / "records.jsonl").write_text('{"schema_version": 1, \n')
    said = call(command, str(tmp_path))
    assert said.code == 2
    assert said.err.startswith(f"error: {tmp_path}/records.jsonl:1: is not valid JSON: ")
    assert said.err.count("\n") == 1


def test_a_run_with_corrupt_records(call: Call, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "records.jsonl").write_text("rubbish\n")
    said = call("run", str(write_suite(tmp_path)), "--out", str(tmp_path / "out"), "--threads", "1")
    assert said.code == 2
    assert after_loading(said.err).startswith(f"error: {tmp_path}/out/records.jsonl:1: is not valid JSON: ")
    assert (tmp_path / "out" / "records.jsonl").read_text() == "rubbish\n"


def test_a_broken_plugin_that_is_alone(call: Call, tmp_path: Path) -> None:
    ref = write_plugin(tmp_path, ("import torch\n", "import torhc\n"))
    said = call("run", str(write_suite(tmp_path)), "--scheduler", ref, "--out", str(tmp_path / "out"), "--threads", "1")
    assert said.code == 2
    assert said.err.endswith("mine.py' cannot be imported: ModuleNotFoundError: No module named 'torhc' (mine.py:3)\n")
    assert after_loading(said.err).count("\n") == 1


@pytest.mark.parametrize(
    ("words", "culprit"),
    [
        (["run"], "suite"),
        (["run", "quickstart", "--trials", "many"], "--trials"),
        (["run", "quickstart", "--trails", "3"], "--trails"),
        (["run", "quickstart", "--study"], "--study"),
        (["run", "quickstart", "cosine"], "cosine"),
        (["table"], "RUN_DIR"),
        (["table", "x", "--format", "html"], "--format"),
        (["list", "suite"], "suite"),
        (["lsit"], "lsit"),
    ],
)
def test_a_command_that_is_none(call: Call, words: list[str], culprit: str) -> None:
    said = call(*words)
    assert said.code == 2
    assert said.out == ""
    assert culprit.lower() in said.err.lower()
    assert "Traceback" not in said.err


def test_an_interrupt_says_how_to_go_on(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(settings: Settings, progress: object, *, baselines: bool) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(api, "run_with_settings", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        said = call("run", "quickstart")
    finally:
        signal.signal(signal.SIGINT, before)
    assert said.code == 130
    interrupt = "interrupted, but finished work is kept; run the same command again to resume\n"
    assert said.err == "suite quickstart: loading PyTorch and the data of 5 workloads\n" + interrupt
