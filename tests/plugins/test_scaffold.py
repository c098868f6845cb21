"""`ganno-bench new scheduler`, and its output `examples/plugin`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from ganno_bench.cli.main import app
from ganno_bench.core import registry
from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.core.records import read_records
from ganno_bench.plugins.scaffold import new_scheduler, new_scheduler_file, scheduler_files
from ganno_bench.testing.scheduler_contract import check_scheduler
from tests.helpers.tiny_suite import write_suite

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
NAME = "warmup-power"
LONGEST = "a-name-of-forty-letters-which-is-the-end"


def test_the_example_is_what_the_scaffold_makes() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=EXAMPLE, capture_output=True, text=True, check=True).stdout
    committed = {path: (EXAMPLE / path).read_text(encoding="utf-8") for path in tracked.splitlines()}
    assert committed == scheduler_files(NAME)


def test_the_wheel_carries_the_templates() -> None:
    inside = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    templates = ROOT / "ganno_bench" / "plugins" / "templates"
    paths = {str(path.relative_to(ROOT)) for path in templates.rglob("*.j2")}
    assert len(paths) == len(scheduler_files(NAME)) >= 6
    assert paths <= inside


def test_a_project_is_written_into_a_folder_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = new_scheduler("slow-end")
    assert folder == Path("ganno-bench-slow-end")
    assert '"ganno_bench_slow_end.scheduler:SlowEnd"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    assert (folder / "src" / "ganno_bench_slow_end" / "scheduler.py").is_file()


@pytest.mark.parametrize("out", [None, "mine", "absolute"])
def test_a_single_file_passes_the_contract_by_the_command_that_is_shown(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    where = str(tmp_path / "absolute") if out == "absolute" else out
    app(["new", "scheduler", "slow-end", "--file", *(["--out", where] if where else [])], standalone_mode=False)
    path, following = capsys.readouterr().out.splitlines()
    assert Path(path) == Path(where or "") / "slow_end.py"
    reference = following.removeprefix("Next: ganno-bench check ")
    assert reference == (f"{path}:SlowEnd" if out == "absolute" else f"./{path}:SlowEnd")
    assert all(result.ok for result in check_scheduler(reference))


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "slow_end.py").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"slow_end\.py: exists; give another name, or another folder"):
        new_scheduler_file("slow-end", tmp_path)
    assert (tmp_path / "slow_end.py").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("out", [None, "mine", "absolute"])
def test_the_next_command_installs_the_folder(
    out: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    where = str(tmp_path / "absolute") if out == "absolute" else out
    app(["new", "scheduler", "slow-end", *(["--out", where] if where else [])], standalone_mode=False)
    installed = {None: "./ganno-bench-slow-end", "mine": "./mine"}.get(out, where)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Next: pip install --editable '{installed}[dev]' && ganno-bench check slow-end"


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"is not empty; give a new or empty folder as --out$"):
        new_scheduler("slow-end", tmp_path)
    with pytest.raises(ConfigError, match="is not empty"):
        new_scheduler("slow-end", tmp_path / "mine.txt")
    with pytest.raises(ConfigError, match="cannot be written: Not a directory"):
        new_scheduler("slow-end", tmp_path / "mine.txt" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("SlowEnd", "joined by hyphens; did you mean 'slow-end'?"),
        ("slow_end", "joined by hyphens; did you mean 'slow-end'?"),
        ("slow-", "joined by hyphens; did you mean 'slow'?"),
        ("slow-2", "joined by hyphens; did you mean 'slow'?"),
        ("../slow end", "joined by hyphens; did you mean 'slow-end'?"),
        ("3", "name '3' must be lower-case words (letters, then digits) joined by hyphens"),
        (LONGEST + "s", f"name '{LONGEST}s' must have at most 40 characters (value: 41)"),
        ("none", "name 'none' makes a class 'None', which has another meaning in the files; did you mean 'my-none'?"),
        ("closed-form", "name 'closed-form' makes a class 'ClosedForm', which has another meaning in the files"),
        ("test-me", "name 'test-me' makes a class 'TestMe', which pytest takes for a test"),
    ],
)
def test_a_name_that_cannot_be_one(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        scheduler_files(name)


def test_a_name_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        PluginError, match=r"^scheduler 'rex' is already registered \(built-in\); did you mean 'my-rex'\?$"
    ):
        scheduler_files("rex")
    point = EntryPoint("slow-end", "elsewhere:SlowEnd", "ganno_bench.schedulers")
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    with pytest.raises(PluginError, match=r"^scheduler 'slow-end' is already registered \(entry point\)"):
        scheduler_files("slow-end")


@pytest.mark.parametrize("name", ["rosy", LONGEST])
def test_ruff_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    folder = new_scheduler(name, tmp_path / "project")
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    ours = ["--select", ",".join(rules["select"]), "--ignore", ",".join(rules["ignore"])]
    for command in (["check"], ["check", *ours], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", "."], cwd=folder, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


# Installed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example, installed without network access."""
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(EXAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


COMMANDS = """
import sys
from ganno_bench.cli.main import app
few = ["--trials", "2", "--tuning-seeds", "1", "--report-seeds", "2"]
for words in (["list", "schedulers"], ["check", NAME], ["run", sys.argv[1], "--scheduler", NAME, *few]):
    print("$", *words)
    app(words, standalone_mode=False)
"""


def run(site: Path, folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}", "GANNO_BENCH_CACHE": "off"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow(group="docs")
def test_its_commands_find_it_by_its_entry_point(site: Path, tmp_path: Path) -> None:
    said = run(site, tmp_path, "-c", COMMANDS.replace("NAME", repr(NAME)), str(write_suite(tmp_path)))
    _, listed, checked, ran = said.split("$ ")
    (row,) = [line.split("\t") for line in listed.splitlines() if line.startswith(NAME)]
    summary = "A linear warmup, then a decay to 0 along a power of the remaining share of the run."
    assert row[1:] == ["ganno-bench-warmup-power 0.1.0", "warmup, power", "-", summary]
    assert f"{NAME}: 14 of 14 checks passed" in checked
    records = read_records([tmp_path / "runs" / "tiny"])
    assert [record.scheduler for record in records] == [NAME] * 8
    assert "runs/tiny" in ran


@pytest.mark.slow(group="docs")
def test_it_passes_its_own_tests(site: Path, tmp_path: Path) -> None:
    said = run(site, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(EXAMPLE))
    assert re.search(r"^\d\d passed", said, re.MULTILINE)


def test_a_file_cannot_be_the_folder_and_a_path_with_spaces_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").touch()
    with pytest.raises(ConfigError, match=r"^notes: is not a folder; give a folder as --out$"):
        new_scheduler_file("slow-end", Path("notes"))
    app(["new", "scheduler", "slow-end", "--file", "--out", "my schedulers"], standalone_mode=False)
    assert capsys.readouterr().out.endswith("\nNext: ganno-bench check './my schedulers/slow_end.py:SlowEnd'\n")
