"""Suites and datasets that could be trained but give meaningless numbers are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from ganno_bench.core.errors import ConfigError, DatasetError
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.image_encoding import encode_images
from ganno_bench.workloads.suite import DatasetSpec, load_suite, suite_names
from ganno_bench.workloads.workload import load_workload

TEXTS = DatasetSpec(source="x", task="text-classification", input="text", target="label")
IMAGES = DatasetSpec(source="x", task="image-classification", input="image", target="label")
SUITE = """
name = "mine"
schedulers = ["cosine"]

[dataset.texts]
source = "nowhere"
task = "text-classification"
input = "text"
target = "label"

[dataset.digits]
source = "digits"
task = "image-classification"
input = "image"
target = "label"
max_train = 50

[[workload]]
id = "digits-mlp-1"
dataset = "digits"
model = { family = "mlp", depth = 1, width = 4 }
optimizer = { name = "adamw" }
batch_size = 50
n_updates = 2
"""


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def load(tmp_path: Path, spec: DatasetSpec, columns: dict[str, Any], features: Any = None) -> None:
    """Write rows, three quarters for training, and load them."""
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_dict(columns, features)
    cut = len(rows) * 3 // 4
    (tmp_path / "data").mkdir()
    rows.select(range(cut)).to_parquet(tmp_path / "data" / "train.parquet")
    rows.select(range(cut, len(rows))).to_parquet(tmp_path / "data" / "test.parquet")
    datasets.enable_progress_bars()
    load_dataset("d", spec.model_copy(update={"source": str(tmp_path / "data")}))


# --- suites ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "line", "wanted"),
    [
        (
            "texts",
            "image_size = 8",
            "key 'dataset.texts.image_size': not used by text-classification (value: 8); remove it",
        ),
        (
            "texts",
            "grayscale = true",
            "key 'dataset.texts.grayscale': not used by text-classification (value: True); remove it",
        ),
        (
            "digits",
            'tokenizer = "word"',
            "key 'dataset.digits.tokenizer': not used by image-classification (value: 'word'); remove it",
        ),
        (
            "digits",
            "vocab_size = 99",
            "key 'dataset.digits.vocab_size': not used by image-classification (value: 99); remove it",
        ),
        (
            "digits",
            "sequence_length = 9",
            "key 'dataset.digits.sequence_length': not used by image-classification (value: 9); remove it",
        ),
        (
            "texts",
            "vocab_size = 2",
            "key 'dataset.texts.vocab_size': must be above 2, the ids of padding and unknown tokens (value: 2)",
        ),
    ],
)
def test_a_key_for_other_inputs_is_refused(tmp_path: Path, table: str, line: str, wanted: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace(f"[dataset.{table}]", f"[dataset.{table}]\n{line}"))
    with pytest.raises(ConfigError) as caught:
        load_suite(str(path))
    assert str(caught.value) == f"{path}: {wanted}"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ('target = "label"', 'target = "text"', "key 'dataset.texts.target': must differ from 'input' (value: 'text')"),
        (
            'name = "adamw"',
            'name = "adamw", momentum = 0.5',
            "key 'workload[0].optimizer.momentum': not used by 'adamw' (value: 0.5); remove it",
        ),
        (
            'name = "adamw"',
            'name = "sgd", betas = [0.8, 0.9]',
            "key 'workload[0].optimizer.betas': not used by 'sgd' (value: (0.8, 0.9)); remove it",
        ),
    ],
)
def test_keys_that_say_nothing_are_refused(tmp_path: Path, old: str, new: str, wanted: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {wanted}")):
        load_suite(str(path))


def test_a_batch_is_no_larger_than_the_training_split(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE)
    assert load_workload(str(path), "digits-mlp-1").dataset.train.n_examples == 50
    path.write_text(SUITE.replace("batch_size = 50", "batch_size = 51"))
    wanted = (
        f"{path}: key 'workload[0].batch_size': must be at most 50, the number of training examples of dataset "
        "'digits' (value: 51)"
    )
    with pytest.raises(ConfigError, match=re.escape(wanted)):
        load_workload(str(path), "digits-mlp-1")


def test_nor_is_one_of_the_suites_variation(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace("batch_size = 50", "batch_size = 20") + "[variation]\nbatch_size = [2.0, 4.0]\n")
    with pytest.raises(ConfigError, match=re.escape("key 'variation.batch_size': 4 gives batches of 80 for workload")):
        load_workload(str(path), "digits-mlp-1")


def test_the_projects_suites_are_as_they_were() -> None:
    assert {name: load_suite(name).hash for name in suite_names()} == {
        "graph": "ba7243cfd9dbbec8",
        "headline": "98f82bf0dbb192c0",
        "quickstart": "1bf7f12c0eafa428",
        "robustness": "4f13db4018662bc7",
        "smoke": "55fb8d9a9d6bf948",
        "text": "8f7093d029527bfc",
        "text-large": "3a889c32e794acc7",
        "transfer": "43cc9bc8dbd3d77d",
        "vision": "a9e4033e7fa19322",
        "vision-large": "9ea3f20666f0f309",
    }


# --- data -----------------------------------------------------------------------------------------------------------


def test_an_index_is_no_target(tmp_path: Path) -> None:
    columns = {"text": [f"row {i}" for i in range(80)], "label": [*range(60), *range(20)]}
    wanted = r"has too few rows of a class in column 'label': \d+ classes in \d+ rows for train; 2 classes and on ave"
    with pytest.raises(DatasetError, match=wanted):
        load(tmp_path, TEXTS, columns)


def test_classes_of_two_rows_are_enough(tmp_path: Path) -> None:
    label = [*(i // 3 for i in range(60)), *range(20)]
    load(tmp_path, TEXTS, {"text": [f"row {i}" for i in range(80)], "label": label})


def test_a_cap_leaves_two_classes(tmp_path: Path) -> None:
    columns = {"text": [f"row {i}" for i in range(80)], "label": [int(i in (5, 70)) for i in range(80)]}
    with pytest.raises(DatasetError, match="'label': 1 classes in 9 rows for train"):
        load(tmp_path, TEXTS.model_copy(update={"max_train": 9}), columns)


def test_images_that_are_all_the_same_teach_nothing(tmp_path: Path) -> None:
    black = [Image.fromarray(np.zeros((4, 4), np.uint8))] * 60
    noise = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (4, 4), np.uint8)) for i in range(20)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    wanted = "has nothing to learn from in column 'image': all inputs for train are equal"
    with pytest.raises(DatasetError, match=wanted):
        load(
            tmp_path,
            IMAGES.model_copy(update={"validation_fraction": 0.3}),
            {"image": black + noise, "label": list(range(10)) * 8},
            features,
        )


def test_nor_do_texts_whose_beginnings_are_the_same(tmp_path: Path) -> None:
    columns = {"text": [f"review number {i}" for i in range(80)], "label": [0, 1] * 40}
    with pytest.raises(
        DatasetError, match="has nothing to learn from in column 'text': all inputs for train are equal"
    ):
        load(tmp_path, TEXTS.model_copy(update={"sequence_length": 6}), columns)


def test_nor_does_a_text_of_one_token(tmp_path: Path) -> None:
    spec = DatasetSpec(source="x", task="language-modelling", input="text", sequence_length=8)
    with pytest.raises(
        DatasetError, match="has nothing to learn from in column 'text': all tokens for train are equal"
    ):
        load(tmp_path, spec, {"text": ["-" * 500, "some other text"]})


def test_a_channel_without_contrast_becomes_zeros() -> None:
    black = np.zeros((4, 4), np.uint8)
    encoded, _ = encode_images({"train": [black] * 3}, None, False)
    assert encoded["train"].abs().max() == 0
