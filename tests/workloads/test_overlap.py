"""Only a small part of the test data may also be in training or validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import datasets
import pytest

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import DatasetSpec, load_suite

Row = tuple[str, str]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def rows(start: int, stop: int) -> list[Row]:
    return [(f"sentence {i}", "ab"[i % 2]) for i in range(start, stop)]


def write(folder: Path, splits: Mapping[str, Sequence[Row]]) -> DatasetSpec:
    folder.mkdir()
    for name, split in splits.items():
        lines = ["text,label", *(f"{text},{label}" for text, label in split)]
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return DatasetSpec(source=str(folder), task="text-classification", input="text", target="label")


def message(spec: DatasetSpec) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset("d", spec)
    return str(caught.value)


def test_a_few_test_rows_may_be_training_rows_and_no_more(tmp_path: Path) -> None:
    few = write(tmp_path / "few", {"train": rows(0, 200), "test": rows(199, 299)})
    assert load_dataset("d", few).test.n_examples == 100
    more = write(tmp_path / "more", {"train": rows(0, 200), "test": rows(198, 298)})
    assert message(more) == (
        f"dataset 'd': folder '{tmp_path}/more' has 2.00% of its test split also in its train split, more than "
        "max_overlap allows (value: 0.01); remove the duplicates, or set max_overlap in the dataset's table"
    )


def test_a_suite_may_allow_more_or_less(tmp_path: Path) -> None:
    spec = write(tmp_path / "a", {"train": rows(0, 200), "test": rows(199, 299)})
    assert "1.00% of its test split" in message(spec.model_copy(update={"max_overlap": 0.0}))
    same = write(tmp_path / "b", {"train": rows(0, 200), "test": rows(0, 200)})
    assert load_dataset("d", same.model_copy(update={"max_overlap": 1.0})).test.n_examples == 200


def test_what_was_allowed_once_is_not_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANNO_BENCH_CACHE", str(tmp_path / "encoded"))
    spec = write(tmp_path / "a", {"train": rows(0, 200), "test": rows(100, 200)})
    load_dataset("d", spec.model_copy(update={"max_overlap": 1.0}))
    assert "100.00% of its test split" in message(spec)


def test_a_row_is_the_same_if_input_and_target_are(tmp_path: Path) -> None:
    other = [(text, "ba"["ab".index(label)]) for text, label in rows(0, 100)]
    spec = write(tmp_path / "a", {"train": rows(0, 200), "test": other})
    assert load_dataset("d", spec).test.n_examples == 100


def test_a_validation_split_is_held_apart_on_both_sides(tmp_path: Path) -> None:
    splits = {"train": rows(0, 200), "validation": rows(150, 250), "test": rows(300, 400)}
    tuned = write(tmp_path / "tuned", splits).model_copy(update={"validation_split": "validation"})
    assert "50.00% of its validation split also in its train split" in message(tuned)
    splits = {"train": rows(0, 200), "validation": rows(200, 300), "test": rows(270, 370)}
    tested = write(tmp_path / "tested", splits).model_copy(update={"validation_split": "validation"})
    assert "30.00% of its test split also in its train or validation split" in message(tested)


def test_a_cap_hides_nothing(tmp_path: Path) -> None:
    spec = write(tmp_path / "a", {"train": rows(0, 1000), "test": rows(0, 100)})
    assert "100.00% of its test split" in message(spec.model_copy(update={"max_train": 20}))


def numbers(start: int, stop: int) -> str:
    return " ".join(str(i * i) for i in range(start, stop))


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (numbers(5000, 5500), None),
        (numbers(3000, 3500), "9"),  # 9x %: all except the edges
        (numbers(5000, 5500) + numbers(3000, 3500), "4"),
        (numbers(5000, 5500) + numbers(3000, 3003), None),
        ("0" * 2000, None),
    ],
)
def test_a_text_has_no_long_passages_of_another(tmp_path: Path, test: str, wanted: str | None) -> None:
    for name, text in (("train", numbers(0, 4000)), ("test", test)):
        (tmp_path / f"{name}.txt").write_text(text)
    spec = DatasetSpec(source=str(tmp_path), task="language-modelling", input="text", sequence_length=8)
    if wanted is None:
        assert load_dataset("d", spec).test.n_examples
    else:
        assert f"has {wanted}" in message(spec)
        assert "% of its test split also in its train split" in message(spec)


def test_the_limit_is_no_part_of_a_suites_hash(tmp_path: Path) -> None:
    suite = load_suite("smoke")
    data = {name: spec.model_copy(update={"max_overlap": 0.5}) for name, spec in suite.dataset.items()}
    assert suite.model_copy(update={"dataset": data}).hash == suite.hash
