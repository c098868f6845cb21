"""A user's suite with the user's dataset next to it runs from end to end."""

from __future__ import annotations

import math
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ganno_bench.core.errors import ConfigError, DatasetError, ResumeError
from tests.helpers.tiny_suite import forget_datasets, run_tiny

SUITE = """
name = "mine"
schedulers = ["cosine"]
budget = { trials = 2, tuning_seeds = 1, report_seeds = 2, batch = 2, startup_trials = 2 }

[dataset.moods]
source = "data/moods"
task = "text-classification"
input = "sentence"
target = "mood"
tokenizer = "word"
sequence_length = 8
validation_fraction = 0.25

[[workload]]
id = "moods-transformer"
dataset = "moods"
model = { family = "transformer", depth = 1, width = 8, heads = 2 }
optimizer = { name = "adamw" }
batch_size = 8
n_updates = 4
n_evaluations = 2
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "data" / "moods"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split, n_rows in (("train", 80), ("test", 20)):
        words = rng.choice(["good", "bad", "fine", "dull", "a", "the", "day"], (n_rows, 6))
        rows = {
            "sentence": [" ".join(row) for row in words],
            "mood": ["up" if "good" in row else "down" for row in words],
        }
        pd.DataFrame(rows).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    path = tmp_path / "project" / "mine.toml"
    path.write_text(SUITE)
    return path


def test_a_dataset_beside_the_suite(suite: Path, tmp_path: Path) -> None:
    done = run_tiny(suite, tmp_path / "out")
    assert [(r.suite, r.role, r.status) for r in done.records] == [("mine", "tuning", "completed")] * 2 + [
        ("mine", "report", "completed")
    ] * 2
    assert {(r.task, r.chance_loss) for r in done.records} == {("text-classification", math.log(2))}
    assert len({r.dataset_fingerprint for r in done.records}) == 1
    assert not done.records[0].custom
    assert "tokenizers" not in done.records[0].provenance.versions


def test_records_name_the_package_that_learned_their_tokens(suite: Path, tmp_path: Path) -> None:
    suite.write_text(SUITE.replace('tokenizer = "word"', 'tokenizer = "bpe"\nvocab_size = 280'))
    done = run_tiny(suite, tmp_path / "out", trials=1, report_seeds=1)
    assert {r.provenance.versions["tokenizers"] for r in done.records} == {version("tokenizers")}


def test_the_data_decide_whether_a_run_can_be_resumed(suite: Path, tmp_path: Path) -> None:
    run_tiny(suite, tmp_path / "out")
    file = next(suite.parent.rglob("test-*.parquet"))
    pd.read_parquet(file).iloc[1:].to_parquet(file)
    forget_datasets()
    with pytest.raises(ResumeError, match=r"fingerprints.moods-transformer = '\w+', not '\w+'; use the same value"):
        run_tiny(suite, tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"data/moods"',
            '"data/mods"',
            "dataset 'moods': 'data/mods' is neither an embedded dataset nor in a data folder",
        ),
        ('"sentence"', '"sentense"', "has no column 'sentense'; did you mean 'sentence'?"),
        ('target = "mood"', 'target = "moot"', "has no column 'moot'; did you mean 'mood'?"),
        ('target = "mood"', 'target = "mood"\ntest_split = "tset"', "has no split 'tset'; did you mean 'test'?"),
    ],
)
def test_a_dataset_that_is_not_as_declared(suite: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SUITE
    suite.write_text(SUITE.replace(old, new))
    with pytest.raises(DatasetError) as caught:
        run_tiny(suite, tmp_path / "out")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth = 1", "dept = 1", "model family 'transformer' has no 'dept'; did you mean 'depth'?"),
        ("depth = 1, ", "", "depth': is missing; model family 'transformer' needs it"),
        ("width = 8", "width = 'wide'", "width': must be of type int (value: 'wide')"),
        ("depth = 1", "depth = 0", "depth': must be at least 1 (value: 0)"),
    ],
)
def test_a_model_that_cannot_be_built(suite: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in SUITE
    suite.write_text(SUITE.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        run_tiny(suite, tmp_path / "out")
    assert str(caught.value).startswith(f"{suite}: key 'workload[0].model.")
    assert str(caught.value).endswith(message)
