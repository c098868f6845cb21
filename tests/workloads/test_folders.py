"""Assignment of files in folders to splits and classes, and which files may be read."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.data import Dataset, Examples
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import DatasetSpec


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def images(folder: Path, n: int, *classes: str, seed: int = 0) -> None:
    """Write images of noise, in turn into the folder of each class."""
    rng = np.random.default_rng([n, seed])
    for index in range(n):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (4, 4), dtype=np.uint8)).save(path)


def table(path: Path, n: int, start: int = 0) -> None:
    """Write different sentences of two classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([f"word{i}", "ab"[i % 2]] for i in range(start, start + n))])


def load_images(folder: Path, **changes: Any) -> Dataset:
    spec = {"source": str(folder), "task": "image-classification", "input": "image", "target": "label"}
    return load_dataset("d", DatasetSpec(**spec | {"validation_fraction": 0.3} | changes))


def load_texts(folder: Path, **changes: Any) -> Dataset:
    spec = {"source": str(folder), "task": "text-classification", "input": "text", "target": "label"}
    return load_dataset("d", DatasetSpec(**spec | {"validation_fraction": 0.3} | changes))


def sizes(data: Dataset) -> tuple[int, int]:
    """Return the number of training and validation examples together, and of test examples."""
    return data.train.n_examples + data.validation.n_examples, data.test.n_examples


def message(folder: Path, load: Any = load_images, **changes: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        load(folder, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- splits ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["test", "eval", "train", "val", "my train set"])
def test_a_class_may_be_called_like_a_split(tmp_path: Path, name: str) -> None:
    images(tmp_path / "train", 40, name, "zebra")
    images(tmp_path / "test", 20, name, "zebra")
    data = load_images(tmp_path)
    assert sizes(data) == (40, 20)
    assert isinstance(data.test, Examples)
    assert data.test.targets.bincount().tolist() == [10, 10]


def test_a_file_that_is_named_after_two_splits_belongs_to_none(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", 40)
    table(tmp_path / "test.csv", 20, start=40)
    table(tmp_path / "train_test_merged.csv", 60)
    assert sizes(load_texts(tmp_path)) == (40, 20)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.csv", "test.csv"),
        ("data/train-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("plain_text/train-00000-of-00001.csv", "plain_text/test-00000-of-00001.csv"),
        ("data/training/part.csv", "data/testing/part.csv"),
        ("train/deep/er/part.csv", "eval/part.csv"),
        ("my-train_0.csv", "my-test_0.csv"),
    ],
)
def test_layouts_of_the_hub_are_read(tmp_path: Path, train: str, test: str) -> None:
    table(tmp_path / train, 40)
    table(tmp_path / test, 20, start=40)
    assert sizes(load_texts(tmp_path)) == (40, 20)


@pytest.mark.parametrize("name", ["validation", "valid", "val", "dev"])
def test_a_validation_split_has_any_of_its_names(tmp_path: Path, name: str) -> None:
    for split, n, start in (("train", 40, 0), ("test", 20, 40), (name, 10, 60)):
        table(tmp_path / split / "x.csv", n, start)
    assert load_texts(tmp_path, validation_split="validation").validation.n_examples == 10


def test_what_the_readme_declares_counts_and_nothing_else(tmp_path: Path) -> None:
    table(tmp_path / "x" / "test.csv", 40)
    table(tmp_path / "y" / "train.csv", 20, start=40)
    table(tmp_path / "train.csv", 30, start=60)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: x/*\n"
        "  - split: test\n    path: y/train.csv\n---\n"
    )
    assert sizes(load_texts(tmp_path)) == (40, 20)


def test_a_copy_with_fewer_rows_than_its_readme_says_is_an_error(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", 40)
    table(tmp_path / "test.csv", 20, start=40)
    (tmp_path / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: text\n    dtype: string\n  - name: label\n    dtype: string\n"
        "  splits:\n  - name: train\n    num_bytes: 1\n    num_examples: 50\n---\n"
    )
    wanted = f"{tmp_path / 'README.md'}: key 'dataset_info': split 'train' must have 50 rows (found: 40); complete"
    assert message(tmp_path, load_texts).startswith(f"dataset 'd': {wanted}")


def test_of_several_configurations_one_is_asked_for(tmp_path: Path) -> None:
    for name, start in (("de", 0), ("en", 100)):
        table(tmp_path / name / "train.csv", 40, start)
        table(tmp_path / name / "test.csv", 20 + start, start + 40)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: de\n  data_dir: de\n- config_name: en\n  data_dir: en\n---\n"
    )
    assert message(tmp_path, load_texts).endswith("has several configurations; set 'config' to one of them (de, en)")
    assert sizes(load_texts(tmp_path, config="en")) == (40, 120)


SHAPE = "as folders (train/, test/) or as files (train.csv, test.csv)"


def test_a_missing_split_says_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    table(tmp_path / "one" / "train.csv", 40)
    wanted = f"folder '{tmp_path}/one' has no split 'test' (found: train); expected: train, test, {SHAPE}"
    assert message(tmp_path / "one", load_texts) == f"dataset 'd': {wanted}"
    table(tmp_path / "two" / "train" / "x.csv", 40)
    table(tmp_path / "two" / "test" / "x.csv", 40, start=40)
    changes = {"validation_split": "holdout"}
    wanted = f"has no split 'holdout' (found: test, train); expected: train, holdout, test, {SHAPE}"
    assert message(tmp_path / "two", load_texts, **changes).endswith(wanted)


@pytest.mark.parametrize("classes", [("cat", "dog"), (".",)])
def test_a_folder_in_which_nothing_is_named_after_a_split_says_so(tmp_path: Path, classes: tuple[str, ...]) -> None:
    images(tmp_path, 20, *classes)
    found = "(found: train, with all files, because no file or folder is named after a split)"
    assert message(tmp_path).endswith(f"has no split 'test' {found}; expected: train, test, {SHAPE}")


def test_a_missing_split_of_a_folder_that_declares_its_files(tmp_path: Path) -> None:
    table(tmp_path / "a.csv", 40)
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: x\n  data_files: a.csv\n---\n")
    wanted = "has no split 'test' (found: train); expected: train, test, under 'data_files' in its README.md"
    assert message(tmp_path, load_texts).endswith(wanted)


def test_a_folder_without_data_says_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    wanted = f"cannot be read: it has no data files (found: nothing); expected: train, test, {SHAPE}"
    assert message(tmp_path).endswith(wanted)
    for name in ("notes.docx", "README.md", "x.py"):
        (tmp_path / name).write_text("x")
    assert message(tmp_path).endswith(wanted.replace("nothing", "notes.docx, x.py"))


# --- classes --------------------------------------------------------------------------------------------------------


def test_the_class_is_the_folder_right_under_the_split(tmp_path: Path) -> None:
    for split, n in (("train", 40), ("test", 20)):
        images(tmp_path / split / "cat", n, "tame", "wild")
        images(tmp_path / split / "dog", n, ".", "tame/small", "wild", seed=1)
    data = load_images(tmp_path)
    assert data.shape.n_outputs == 2
    assert isinstance(data.test, Examples)
    assert data.test.targets.bincount().tolist() == [20, 20]


def test_the_class_of_a_declared_file_is_the_folder_under_what_the_pattern_names(tmp_path: Path) -> None:
    for split, n in (("one", 40), ("two", 20)):
        images(tmp_path / split / "cat", n, "tame", "wild")
        images(tmp_path / split / "dog", n, "tame", seed=1)
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: one/**\n"
        "  - split: test\n    path: [two/cat/**, two/dog/*/*]\n---\n"
    )
    data = load_images(tmp_path)
    assert data.shape.n_outputs == 2
    assert sizes(data) == (80, 40)


@pytest.mark.parametrize("place", ["data", "./data", "other/../data", "link"])
def test_class_folders_are_read_by_any_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    images(tmp_path / "data" / "train", 40, "cat", "dog")
    images(tmp_path / "data" / "test", 20, "cat", "dog")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("data")
    monkeypatch.chdir(tmp_path)
    assert sizes(load_images(Path(place))) == (40, 20)
    assert sizes(load_images(tmp_path / place)) == (40, 20)


def test_an_image_in_no_class_folder_is_named(tmp_path: Path) -> None:
    images(tmp_path / "train", 40, "cat", "dog")
    images(tmp_path / "train", 1, ".", seed=1)
    images(tmp_path / "test", 20, "cat", "dog")
    assert message(tmp_path).endswith("has class folders, but image 'train/0.png' is in none of them; move it into one")


# --- names that look like patterns ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "neighbour"), [("data[1]", "data1"), ("data?", "datax"), ("data*", "data and more")])
def test_a_folder_whose_name_looks_like_a_pattern_is_read_and_not_its_neighbour(
    tmp_path: Path, name: str, neighbour: str
) -> None:
    for folder, n in ((tmp_path / name, 40), (tmp_path / neighbour, 30)):
        table(folder / "train.csv", n)
        table(folder / "test.csv", 20, start=n)
        images(folder / "pictures" / "train", n, "a[b]", "ab")
        images(folder / "pictures" / "test", 20, "a[b]", "ab")
    assert sizes(load_texts(tmp_path / name)) == (40, 20)
    assert sizes(load_images(tmp_path / name / "pictures")) == (40, 20)
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: t*n.csv}\n"
    (tmp_path / name / "README.md").write_text(card + "  - {split: test, path: test.csv}\n---\n")
    assert sizes(load_texts(tmp_path / name)) == (40, 20)


# --- files that rows name -------------------------------------------------------------------------------------------


def rows_of_paths(folder: Path, paths: list[str]) -> Path:
    """Write a Parquet dataset whose images are paths."""
    schema = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}).arrow_schema
    rows = [{"image": {"bytes": None, "path": path}, "label": i % 2} for i, path in enumerate(paths)]
    for split in ("train", "test"):
        pq.write_table(pa.Table.from_pylist(rows, schema), folder / f"{split}.parquet")
    return folder


@pytest.mark.parametrize("kind", ["absolute", "up", "link", "http", "archive"])
def test_an_image_outside_of_the_folder_is_not_read(tmp_path: Path, kind: str) -> None:
    images(tmp_path / "own", 8, "images")
    images(tmp_path, 1, "secret")
    secret = tmp_path / "secret" / "0.png"
    (tmp_path / "own" / "link.png").symlink_to(secret)
    place = {
        "absolute": str(secret),
        "up": str(tmp_path / "own" / ".." / "secret" / "0.png"),
        "link": str(tmp_path / "own" / "link.png"),
        "http": "https://localhost:1/x.png",
        "archive": f"zip://x.png::{tmp_path / 'own' / 'x.zip'}",
    }[kind]
    paths = [str(tmp_path / "own" / "images" / f"{i}.png") for i in range(8)]
    wanted = f"has an image outside of its folder in column 'image' of row 5 for train (value: {place!r})"
    assert message(rows_of_paths(tmp_path / "own", [*paths[:5], place, *paths[5:]])).endswith(wanted)


def test_images_inside_of_the_folder_are_read(tmp_path: Path) -> None:
    for split, n in (("train", 40), ("test", 20)):
        images(tmp_path / split, n, "images")
        rows = [json.dumps({"file_name": f"images/{i}.png", "label": "ab"[i % 2]}) for i in range(n)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(rows))
    assert sizes(load_images(tmp_path)) == (40, 20)


def test_a_link_to_an_image_in_a_class_folder_is_meant(tmp_path: Path) -> None:
    for split, n in (("train", 40), ("test", 20)):
        images(tmp_path / "store" / split, n, "cat", "dog")
        for path in (tmp_path / "store" / split).rglob("*.png"):
            link = tmp_path / "links" / split / path.parent.name / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
    assert sizes(load_images(tmp_path / "links")) == (40, 20)


def test_splits_in_several_formats_are_refused(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", 40)
    table(tmp_path / "test.csv", 20)
    (tmp_path / "train.json").write_text('{"text": "more", "label": "a"}\n')
    wanted = f"folder {str(tmp_path)!r} has splits in several formats: 'train.json' is not csv"
    assert message(tmp_path, load_texts) == f"dataset 'd': {wanted}"


@pytest.mark.parametrize("pattern", ["../secret.csv", "/etc/*.csv", "https://localhost:1/x.csv"])
def test_a_declaration_outside_of_the_folder_is_refused(tmp_path: Path, pattern: str) -> None:
    table(tmp_path / "own" / "train.csv", 40)
    table(tmp_path / "secret.csv", 20)
    card = tmp_path / "own" / "README.md"
    card.write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: train.csv\n"
        f"  - split: test\n    path: {pattern}\n---\n"
    )
    wanted = f"{card}: key 'data_files': must be inside the folder (value: {pattern!r})"
    assert message(tmp_path / "own", load_texts) == f"dataset 'd': {wanted}"


@pytest.mark.parametrize("factor", [1, 2])
def test_an_image_of_too_many_pixels_is_named_and_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int
) -> None:
    images(tmp_path / "train", 10, "a", "b")
    images(tmp_path / "test", 10, "a", "b", seed=1)
    bomb = tmp_path / "train" / "a" / "4.png"
    Image.new("L", (50, 21 * factor)).save(bomb)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    text = message(tmp_path, image_size=4)
    # Rows are in the order of the files' names.
    assert f"has a broken image in column 'image' of row 2 for train, {str(bomb)!r}: DecompressionBomb" in text


@pytest.mark.parametrize("beside", ["eval/score.py", "assets/logo.svg", "docs/guide.pdf"])
def test_folders_without_data_do_not_count(tmp_path: Path, beside: str) -> None:
    other = tmp_path / beside
    for inner in ("images", "data"):
        folder = tmp_path / inner
        images(folder / "train", 40, "cat", "dog")
        images(folder / "test", 20, "cat", "dog", seed=1)
        other.parent.mkdir()
        other.write_text("nothing to read")
        assert sizes(load_images(tmp_path)) == (40, 20)
        shutil.rmtree(folder)
        shutil.rmtree(other.parent)


def test_a_link_to_where_it_lies_is_passed_over(tmp_path: Path) -> None:
    images(tmp_path / "train", 40, "cat", "dog")
    images(tmp_path / "test", 20, "cat", "dog", seed=1)
    (tmp_path / "train" / "again").symlink_to(tmp_path / "train")
    assert sizes(load_images(tmp_path)) == (40, 20)


def test_zipped_rows_are_read(tmp_path: Path) -> None:
    for split, n, start in (("train", 40, 0), ("test", 20, 40)):
        table(tmp_path / "plain" / f"{split}.csv", n, start)
        with zipfile.ZipFile(tmp_path / f"{split}.zip", "w") as archive:
            archive.write(tmp_path / "plain" / f"{split}.csv", f"{split}.csv")
    shutil.rmtree(tmp_path / "plain")
    assert sizes(load_texts(tmp_path)) == (40, 20)
