from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from ganno_bench.core.errors import ConfigError, DatasetError
from ganno_bench.workloads import cache, cache_key
from ganno_bench.workloads import datasets as loading
from ganno_bench.workloads.cache import cache_folder
from ganno_bench.workloads.data import Dataset
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import DatasetSpec, GraphSpec

DIGITS = DatasetSpec(source="digits", task="image-classification", input="image", target="label")
GRAPH = DIGITS.model_copy(update={"task": "node-classification", "graph": GraphSpec(), "max_train": 200})
STREAM = DatasetSpec(source="x", task="language-modelling", input="text", sequence_length=8, max_overlap=1.0)
WORDS = DatasetSpec(
    source="x", task="text-classification", input="text", target="label", tokenizer="word", max_overlap=1.0
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache."""
    monkeypatch.setenv("GANNO_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the names of datasets that are encoded instead of read from the cache."""
    names: list[str] = []
    for function in ("_load_classification", "_load_language_modelling"):
        load: Callable[..., Dataset] = getattr(loading, function)

        def watched(name: str, *args: Any, load: Callable[..., Dataset] = load) -> Dataset:
            names.append(name)
            return load(name, *args)

        monkeypatch.setattr(loading, function, watched)
    return names


def write(folder: Path, spec: DatasetSpec, text: str = "") -> DatasetSpec:
    """Make a folder of texts and return its declaration."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"text": [f"{i} {word} {text}" for i in range(40) for word in ("no", "yes")], "label": [0, 1] * 40}
    for split in ("train", "test"):
        datasets.Dataset.from_dict(rows).to_json(folder / f"{split}.jsonl")
    return spec.model_copy(update={"source": str(folder)})


def assert_same(one: Dataset, other: Dataset) -> None:
    roles = ("train", "validation", "test")
    for field in fields(Dataset):
        assert field.name in roles or getattr(one, field.name) == getattr(other, field.name)
        assert type(getattr(one, field.name)) is type(getattr(other, field.name))
    for role in roles:
        a, b = vars(getattr(one, role)), vars(getattr(other, role))
        assert a.keys() == b.keys()
        for key, value in a.items():
            if isinstance(value, torch.Tensor):
                assert value.dtype == b[key].dtype
                assert torch.equal(value, b[key])
            else:
                assert value == b[key]


@pytest.mark.parametrize("spec", [DIGITS, GRAPH, STREAM, WORDS], ids=lambda spec: spec.task)
def test_what_is_read_is_what_was_encoded(
    folder: Path, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch, spec: DatasetSpec
) -> None:
    spec = spec if spec.source == "digits" else write(tmp_path / "texts", spec, "déjà vu")
    first, second = load_dataset("first", spec), load_dataset("first", spec)
    assert encoded == ["first"]
    monkeypatch.setenv("GANNO_BENCH_CACHE", "off")
    assert_same(second, load_dataset("first", spec))
    assert_same(second, first)
    assert encoded == ["first", "first"]
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_the_name_is_the_suites_and_the_place_does_not_matter(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    load_dataset("one", write(tmp_path / "a", WORDS))
    assert load_dataset("other", write(tmp_path / "b", WORDS)).name == "other"
    assert encoded == ["one"]


@pytest.mark.parametrize(
    "changes",
    [
        {"vocab_size": 9},
        {"sequence_length": 5},
        {"tokenizer": "char"},
        {"max_train": 20},
        {"max_test": 20},
        {"validation_fraction": 0.3},
        {"task": "language-modelling", "target": None, "sequence_length": 8},
    ],
    ids=str,
)
def test_another_declaration_is_another_entry(
    folder: Path, tmp_path: Path, encoded: list[str], changes: dict[str, Any]
) -> None:
    spec = write(tmp_path / "a", WORDS)
    load_dataset("one", spec)
    load_dataset("other", spec.model_copy(update=changes))
    assert encoded == ["one", "other"]
    assert len(list(folder.iterdir())) == 2


def test_other_content_is_another_entry_even_at_the_same_time(
    folder: Path, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write(tmp_path / "a", WORDS, "x")
    before = load_dataset("one", spec)
    # The cache of `datasets` uses modification times, which have steps of a second on some file systems.
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "another hub")
    times = (tmp_path / "a" / "train.jsonl").stat()
    write(tmp_path / "a", WORDS, "y")
    os.utime(tmp_path / "a" / "train.jsonl", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_dataset("one", spec).fingerprint != before.fingerprint
    assert encoded == ["one", "one"]


def test_images_in_files_of_their_own_are_content(folder: Path, tmp_path: Path, encoded: list[str]) -> None:
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            place = tmp_path / "pictures" / split / label
            place.mkdir(parents=True)
            for i in range(12):
                Image.new("L", (4, 4), i).save(place / f"{i}.bmp")
    spec = DIGITS.model_copy(update={"source": str(tmp_path / "pictures"), "max_overlap": 1.0})
    before = load_dataset("one", spec).fingerprint
    assert load_dataset("one", spec).fingerprint == before
    assert encoded == ["one"]
    changed = tmp_path / "pictures" / "train" / "cat" / "3.bmp"
    times = changed.stat()
    Image.new("L", (4, 4), 200).save(changed)
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_dataset("one", spec).fingerprint != before


def test_other_code_or_libraries_make_other_entries(
    folder: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset("one", DIGITS)
    monkeypatch.setattr(cache_key, "version", lambda package: "99" if package == "pillow" else "1")
    cache_key._code_version.cache_clear()
    load_dataset("one", DIGITS)
    cache_key._code_version.cache_clear()
    assert encoded == ["one", "one"]


def test_a_transformed_dataset_is_never_cached(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import datasets\n"
        "def mine():\n"
        "    split = datasets.Dataset.from_dict({'text': [str(i) for i in range(80)], 'label': [0, 1] * 40})\n"
        "    return {'train': split, 'test': split.with_transform(lambda rows: rows)}\n"
    )
    load_dataset("one", WORDS.model_copy(update={"source": f"{file}:mine"}))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "a bit of a tensor", "a digit of the fingerprint", "no header"])
def test_a_damaged_entry_is_made_anew(folder: Path, encoded: list[str], damage: str) -> None:
    wanted = load_dataset("one", DIGITS)
    (entry,) = folder.iterdir()
    content = entry.read_bytes()
    at = content.index(wanted.fingerprint.encode())
    other = b"0" if content[at : at + 1] != b"0" else b"1"
    broken = {
        "empty": b"",
        "cut": content[:-7],
        "a bit of a tensor": content[:-7] + bytes([content[-7] ^ 1]) + content[-6:],
        "a digit of the fingerprint": content[:at] + other + content[at + 1 :],
        "no header": b"\x02\0\0\0\0\0\0\0{}",
    }[damage]
    assert broken != content
    entry.write_bytes(broken)
    assert_same(load_dataset("one", DIGITS), wanted)
    assert_same(load_dataset("one", DIGITS), wanted)
    assert encoded == ["one", "one"]


def test_what_fails_leaves_no_entry(folder: Path, tmp_path: Path) -> None:
    spec = write(tmp_path / "a", WORDS).model_copy(update={"input": "txet"})
    for _ in range(2):
        with pytest.raises(DatasetError, match="has no column 'txet'"):
            load_dataset("one", spec)
    assert list(folder.iterdir()) == []


def test_the_least_recently_used_entries_are_deleted(
    folder: Path, tmp_path: Path, encoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write(tmp_path / "a", WORDS)
    first, second, third = (spec.model_copy(update={"sequence_length": length}) for length in (8, 9, 10))
    load_dataset("first", first)
    (size,) = (path.stat().st_size for path in folder.iterdir())
    (folder / "killed.tmp").write_bytes(b"x" * 100)
    load_dataset("second", second)
    for path in folder.iterdir():
        os.utime(path, (0, 0))
    load_dataset("first", first)  # is now the most recently used entry
    monkeypatch.setattr(cache, "MAX_BYTES", int(2.2 * size))
    load_dataset("third", third)
    load_dataset("first", first)
    assert encoded == ["first", "second", "third"]
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"] * 2
    load_dataset("second", second)
    assert encoded[-1] == "second"


def test_an_entry_that_is_too_large_is_not_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_BYTES", 1000)
    load_dataset("one", DIGITS)
    assert list(folder.iterdir()) == []


def test_an_entry_is_whole_whenever_it_is_read(folder: Path) -> None:
    dataset = load_dataset("one", DIGITS)
    (path,) = folder.iterdir()
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(lambda: [cache._write(path, dataset) for _ in range(50)]) for _ in range(2)]
        n_reads = 0
        while not all(writer.done() for writer in writers) or n_reads == 0:
            read = cache._read(path, "one", dataset.task)
            assert read is not None
            assert read.fingerprint == dataset.fingerprint
            n_reads += 1
        assert all(writer.exception() is None for writer in writers)
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("value", ["off", ""])
def test_the_cache_can_be_turned_off(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("GANNO_BENCH_CACHE", value)
    assert cache_folder() is None


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GANNO_BENCH_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    assert cache_folder() == tmp_path / "ganno-bench" / "datasets"
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "file" / name)
    assert cache_folder() is None


def test_a_folder_that_cannot_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GANNO_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        ConfigError, match=r"^GANNO_BENCH_CACHE: folder '.*file' cannot be created: .*; name another one, or 'off'$"
    ):
        load_dataset("one", DIGITS)
