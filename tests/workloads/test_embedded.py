from __future__ import annotations

import inspect
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from ganno_bench.core.errors import DatasetError, PluginError, UnknownNameError
from ganno_bench.workloads import embedded
from ganno_bench.workloads.columns import read_images
from ganno_bench.workloads.data import Examples, TokenStream
from ganno_bench.workloads.datasets import EMBEDDED, load_dataset
from ganno_bench.workloads.embedded import STDLIB_MODULES
from ganno_bench.workloads.fingerprint import Rows
from ganno_bench.workloads.suite import DatasetSpec

DIGITS = DatasetSpec(source="digits", task="image-classification", input="image", target="label")
STDLIB = DatasetSpec(source="stdlib-chars", task="language-modelling", input="text", sequence_length=32)


@pytest.mark.parametrize("name", EMBEDDED.entries())
def test_every_embedded_dataset_says_in_a_line_what_it_is(name: str) -> None:
    description = (inspect.getdoc(EMBEDDED.load(name)) or "").splitlines()[0]
    assert 20 < len(description) < 120
    assert description[0].isalnum()


@pytest.mark.parametrize("name", EMBEDDED.entries())
def test_every_embedded_dataset_has_three_splits_with_content(name: str) -> None:
    splits = EMBEDDED.load(name)()
    assert sorted(splits) == ["test", "train", "validation"]
    assert all(len(split) > 0 for split in splits.values())


def test_digits_are_those_of_scikit_learn_each_in_one_split() -> None:
    from sklearn.datasets import load_digits

    splits = EMBEDDED.load("digits")()
    sizes = {name: len(split) for name, split in splits.items()}
    assert sum(sizes.values()) == 1797
    assert sizes["train"] / 1797 == pytest.approx(0.70, abs=0.02)
    assert sizes["test"] / 1797 == pytest.approx(0.15, abs=0.02)
    bunch = load_digits()
    wanted = Counter(zip(map(bytes, bunch.images.astype("uint8")), bunch.target.tolist(), strict=True))
    found: Counter[tuple[bytes, int]] = Counter()
    for split in splits.values():
        found.update(zip((image.tobytes() for image in split["image"]), split["label"], strict=True))
    assert found == wanted


def test_digits_are_a_task_with_ten_balanced_classes() -> None:
    data = load_dataset("digits", DIGITS)
    assert data.shape.input_shape == (1, 8, 8)
    assert data.shape.n_outputs == 10
    assert data.chance_loss == math.log(10)
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, Examples)
        share = torch.bincount(split.targets, minlength=10) / split.n_examples
        assert share.min() > 0.05


def test_digits_fingerprint_is_the_same_everywhere() -> None:
    assert load_dataset("digits", DIGITS).fingerprint.startswith("8198031c")


def test_stdlib_splits_share_no_module_and_no_long_run_of_text() -> None:
    modules = [module for names in STDLIB_MODULES.values() for module in names]
    assert len(modules) == len(set(modules))
    texts = {name: split["text"] for name, split in EMBEDDED.load("stdlib-chars")().items()}
    lines = {
        name: {line for text in rows for line in text.split("\n") if len(line) > 60} for name, rows in texts.items()
    }
    for other in ("validation", "test"):
        assert len(lines[other] & lines["train"]) < 0.01 * len(lines[other])


def test_stdlib_is_about_a_megabyte_of_plain_characters() -> None:
    splits = EMBEDDED.load("stdlib-chars")()
    assert {name: len(split) for name, split in splits.items()} == {k: len(v) for k, v in STDLIB_MODULES.items()}
    assert all(len(text) > 20_000 for split in splits.values() for text in split["text"])
    data = load_dataset("source code", STDLIB)
    assert isinstance(data.train, TokenStream)
    assert 0.9e6 < len(data.train.tokens) < 1.6e6
    assert all(split.n_examples > 80_000 for split in (data.validation, data.test))
    assert data.shape.vocab_size == data.shape.n_outputs <= 1 + 95 + 2
    assert 2.5 < data.chance_loss < 3.5


def test_a_python_without_sources_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(
        DatasetError, match=r"dataset 'code': this Python installation lacks the source of module '_pyd"
    ):
        load_dataset("code", STDLIB)


def test_a_dataset_in_a_file_of_the_users_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import datasets\n"
        "def mine():\n"
        "    rows = {'t': [f'{i} {w}' for i in range(80) for w in ('no', 'yes')], 'y': ['no', 'yes'] * 80}\n"
        "    data = datasets.Dataset.from_dict(rows)\n"
        "    return {'train': data.select(range(80)), 'test': data.select(range(80, 160))}\n"
        "def empty():\n"
        "    return {**mine(), 'test': datasets.Dataset.from_dict({'t': [], 'y': []})}\n"
        "def broken():\n"
        "    return 1 / 0\n"
        "def wrong():\n"
        "    return [1]\n"
    )
    spec = DatasetSpec(source=f"{file}:mine", task="text-classification", input="t", target="y", sequence_length=8)
    data = load_dataset("mine", spec)
    assert data.shape.n_outputs == 2
    assert data.train.n_examples + data.validation.n_examples == data.test.n_examples == 80
    with pytest.raises(DatasetError, match=r"mine.py:empty' has no rows in split 'test'"):
        load_dataset("mine", spec.model_copy(update={"source": f"{file}:empty"}))
    with pytest.raises(PluginError, match=r"mine.py:broken' raised ZeroDivisionError"):
        load_dataset("mine", spec.model_copy(update={"source": f"{file}:broken"}))
    with pytest.raises(PluginError, match=r"mine.py:wrong' must return a mapping of splits \(found: list\)"):
        load_dataset("mine", spec.model_copy(update={"source": f"{file}:wrong"}))
    with pytest.raises(UnknownNameError, match="does not exist"):
        load_dataset("mine", spec.model_copy(update={"source": f"{tmp_path / 'nope.py'}:mine"}))


def test_digits_are_cut_where_their_hashes_say() -> None:
    test = EMBEDDED.load("digits")()["test"]
    rows = Rows.of(read_images(test, "test", "image"), test["label"][:])
    assert all(digest < int(0.15 * 2**256).to_bytes(32, "big") for digest in rows.hashes)
