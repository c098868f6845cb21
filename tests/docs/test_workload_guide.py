"""The guide to a workload of one's own works when it is followed: its data are made, its suite is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ganno_bench.core.errors import UserError
from ganno_bench.core.records import read_records
from ganno_bench.workloads.suite import load_suite
from ganno_bench.workloads.workload import load_workload
from tests.helpers.warm import run

pytestmark = pytest.mark.slow(group="docs")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding-a-workload.md"
TINY = ["--scheduler", "cosine", "--trials", "2", "--tuning-seeds", "1", "--report-seeds", "2"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the guide was followed up to its suite."""
    path = tmp_path_factory.mktemp("guide")
    (making,) = blocks("python")
    assert run(["python", "-c", making], path).returncode == 0
    (suite,) = blocks("toml")
    name, _, _ = suite.partition("\n")
    (path / name.removeprefix("# ")).write_text(suite, encoding="utf-8")
    return path


def test_the_data_are_what_the_guide_says(folder: Path) -> None:
    suite = str(folder / "mine.toml")
    images = load_workload(suite, "shapes-mlp-4").dataset
    assert (images.shape.n_outputs, images.shape.input_shape) == (3, (1, 16, 16))
    assert images.test.n_examples == 300
    texts = load_workload(suite, "moods-transformer-1").dataset
    assert (texts.shape.n_outputs, texts.shape.next_token) == (2, False)
    assert texts.train.n_examples + texts.validation.n_examples == 600


def test_its_commands_work(folder: Path) -> None:
    (block,) = blocks("bash")
    showing, running = block.splitlines()
    shown = ganno_bench(showing, folder)
    assert load_suite(str(folder / "mine.toml")).hash in shown
    ganno_bench(shlex.join([*shlex.split(running), *TINY]), folder)
    records = read_records([folder / "runs/mine"])
    assert {record.workload for record in records} == {"shapes-mlp-4", "shapes-cnn-2", "moods-transformer-1"}
    reports = [record for record in records if record.role == "report"]
    assert any(record.clipped(record.metrics.test_loss) < record.chance_loss for record in reports)


def test_what_is_misspelt_is_said_before_anything_is_trained(folder: Path, tmp_path: Path) -> None:
    text = (folder / "mine.toml").read_text(encoding="utf-8")
    for old, new, message in (
        ('target = "mood"', 'target = "mod"', "did you mean 'mood'?"),
        ('source = "data/moods"', f'source = "{folder}/data/mods"', "did you mean 'moods'?"),
        ("validation_fraction = 0.2\n\n[[", "validaton_fraction = 0.2\n\n[[", "did you mean 'validation_fraction'?"),
    ):
        assert old in text
        (tmp_path / "mine.toml").write_text(text.replace(old, new).replace('"data/', f'"{folder}/data/'))
        with pytest.raises(UserError, match=re.escape(message)):
            load_workload(str(tmp_path / "mine.toml"), "moods-transformer-1")


def ganno_bench(command: str, folder: Path) -> str:
    words = shlex.split(command)
    assert words[0] == "ganno-bench"
    done = run(words, folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
