"""`evaluate`, from a policy to a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.command_line import Call
from tests.helpers.evaluation_cases import write_policy, write_suite

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.slow(group="pages")
def test_it_ends_with_a_table_and_where_the_page_lies(call: Call, tmp_path: Path) -> None:
    policy, suite, out = write_policy(tmp_path / "policy"), write_suite(tmp_path), tmp_path / "out"
    said = call("evaluate", str(policy), "--suite", str(suite), "--trials", "1", "--seeds", "2", "--out", str(out))
    assert said.code == 0
    assert "left out: 1 workload on dataset 'letters' (some-one/letters)" in said.err
    for text in ("Validation loss only", "seen", "new depth", "digits, sgd", str(out / "README.md")):
        assert text in said.out
    assert (out / "README.md").read_text().startswith("# How far mine generalises\n")
    assert not [line for line in said.out.splitlines() if "test loss" in line.lower()]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "policy 'nowhere' is neither a folder nor the name of a shipped policy"),
        (["ganno-global", "--suite", "transfr"], "unknown suite 'transfr'; did you mean 'transfer'?"),
        (["ganno-global", "--trials", "-1"], "option --trials: must be at least 1 (value: -1)"),
        (["ganno-global", "--seeds", "-2"], "option --seeds: must be at least 1 (value: -2)"),
        (["ganno-global", "--device", "gpu", "--suite", "SUITE"], "device 'gpu' cannot be used: "),
    ],
)
def test_one_line_says_it(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = str(write_suite(tmp_path))
    said = call("evaluate", *(suite if word == "SUITE" else word for word in words))
    assert said.code == 2
    assert said.out == ""
    assert said.err.splitlines()[-1].startswith("error: " + message)


def test_its_help_is_light() -> None:
    code = (
        "import sys\nsys.argv = ['ganno-bench', 'evaluate', '--help']\n"
        "from ganno_bench.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'optuna', 'matplotlib', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True)
