from __future__ import annotations

import random
from pathlib import Path

import datasets
import pytest
import torch
from tokenizers import decoders

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.bpe import BytePairEncoder
from ganno_bench.workloads.data import Examples, TokenStream
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import DatasetSpec

TRAINING = ["the old man and the sea", "the old sea", "the man\nand the old man"] * 3
STREAM = DatasetSpec(
    source="x",
    task="language-modelling",
    input="text",
    validation_split="validation",
    max_overlap=1.0,
    tokenizer="bpe",
    vocab_size=300,
    sequence_length=32,
)
TEXTS = STREAM.model_copy(update={"task": "text-classification", "target": "label"})


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")


def write(folder: Path, spec: DatasetSpec, train: list[str], other: list[str]) -> DatasetSpec:
    """Make a folder of texts, with `other` for validation and test, and return its declaration."""
    folder.mkdir()
    for split, rows in {"train": train, "validation": other, "test": other}.items():
        columns = {"text": rows, "label": [i % 2 for i in range(len(rows))]}
        datasets.Dataset.from_dict(columns).to_json(folder / f"{split}.jsonl")
    return spec.model_copy(update={"source": str(folder)})


def spelled(encoder: BytePairEncoder, ids: torch.Tensor) -> str:
    tokens = [encoder.tokenizer.id_to_token(index) for index in (ids - encoder.n_reserved).tolist()]
    return str(decoders.ByteLevel().decode(tokens))


@pytest.mark.parametrize("n_reserved", [0, 1])
def test_any_text_is_encoded_without_loss(n_reserved: int) -> None:
    encoder = BytePairEncoder.train(TRAINING, 300, n_reserved)
    for text in ("the old man", "Don't  panic:\n\n\u0130stanbul \u65e5\u672c \U0001f600\0", "", "\n", "a\r\nb <pad>"):
        ids = encoder.encode(text)
        assert ids.dtype == torch.int64
        assert ((n_reserved <= ids) & (ids < len(encoder))).all()
        assert spelled(encoder, ids) == text
    assert len(encoder.encode("the old man")) == 3
    assert len(encoder.encode("\u65e5")) == 3  # bytes


def test_the_most_frequent_pairs_are_merged_until_the_vocabulary_is_full() -> None:
    encoder = BytePairEncoder.train(["ab", "ab", "ab", "cd", "cd", "ef"], 257, n_reserved=0)
    assert len(encoder) == 257
    assert [len(encoder.encode(pair)) for pair in ("ab", "cd", "ef")] == [1, 2, 2]
    # "ef" occurs only once, so it gets no id.
    assert len(BytePairEncoder.train(["ab", "ab", "ab", "cd", "cd", "ef"], 1000, n_reserved=1)) == 1 + 258


def test_merges_do_not_depend_on_the_order_of_texts() -> None:
    texts = [" ".join(random.Random(i).choices(["alpha", "beta", "gamma", "delta"], k=9)) for i in range(50)]
    one = BytePairEncoder.train(texts, 265, 0).tokenizer.to_str()
    assert BytePairEncoder.train(texts[::-1], 265, 0).tokenizer.to_str() == one
    assert BytePairEncoder.train(["beta delta"] * 50, 265, 0).tokenizer.to_str() != one


def test_short_texts_are_padded_and_long_ones_cut_off() -> None:
    encoder = BytePairEncoder.train(TRAINING, 300, n_reserved=1)
    texts = ["the sea", "", "the man\nand the old sea", "zz"]
    rows = encoder.encode_padded(texts, 4)
    assert rows.dtype == torch.int64
    for row, text in zip(rows, texts, strict=True):
        ids = encoder.encode(text)[:4]
        assert row.tolist() == ids.tolist() + [0] * (4 - len(ids))
        assert (ids > 0).all()
    assert (rows[2] > 0).all()


@pytest.mark.parametrize("spec", [STREAM, TEXTS], ids=lambda spec: spec.task)
def test_what_only_validation_and_test_have_is_never_merged(tmp_path: Path, spec: DatasetSpec) -> None:
    word = "zyzzyva"
    n_tokens = {}
    for known in (False, True):
        train = [*TRAINING, "a man", *([word] * 3 if known else [])]
        data = load_dataset("d", write(tmp_path / f"{known}", spec, train, [f"{word} {i}{word}" for i in range(9)]))
        for role in ("validation", "test"):
            split = getattr(data, role)
            tokens = split.tokens if isinstance(split, TokenStream) else split.inputs[split.inputs > 0]
            n_tokens[known, role] = len(tokens)
    n_bytes = 9 * len(f"{word} 0{word}") + (8 if spec is STREAM else 0)  # 8 newlines
    assert n_tokens[False, "validation"] == n_tokens[False, "test"] == n_bytes
    assert n_tokens[True, "validation"] == n_tokens[True, "test"] < n_bytes / 2


def test_a_language_model_gets_the_whole_text(tmp_path: Path) -> None:
    rows = ["the old man", "and", "", "the sea \u65e5\u672c"] * 9
    data = load_dataset("d", write(tmp_path / "texts", STREAM, rows, rows[::-1]))
    assert isinstance(data.train, TokenStream)
    assert isinstance(data.test, TokenStream)
    encoder = BytePairEncoder.train(["\n".join(rows)], 300, n_reserved=0)
    assert data.shape.n_outputs == data.shape.vocab_size == len(encoder) <= 300
    assert spelled(encoder, data.train.tokens) == "\n".join(rows)
    assert spelled(encoder, data.test.tokens) == "\n".join(rows[::-1])
    assert len(data.train.tokens) < len("\n".join(rows)) / 2


def test_classification_keeps_an_id_for_padding(tmp_path: Path) -> None:
    data = load_dataset("d", write(tmp_path / "texts", TEXTS, TRAINING, TRAINING))
    assert isinstance(data.train, Examples)
    assert data.train.inputs.min() == 0
    assert data.shape.vocab_size is not None
    assert 257 < data.shape.vocab_size <= 300
    assert (data.train.inputs[:, 0] > 0).all()


def test_a_cap_counts_characters_and_what_is_behind_it_is_not_learned(tmp_path: Path) -> None:
    rows = ["the old man"] * 20
    spec = write(tmp_path / "texts", STREAM, [*rows, *["zyzzyva"] * 20], rows)
    capped = load_dataset("d", spec.model_copy(update={"max_train": len("\n".join(rows))}))
    assert capped.shape == load_dataset("d", write(tmp_path / "less", STREAM, rows, rows)).shape
    assert capped.shape.vocab_size != load_dataset("d", spec).shape.vocab_size


def test_the_fingerprint_is_of_the_text_not_of_its_tokens(tmp_path: Path) -> None:
    spec = write(tmp_path / "texts", STREAM, TRAINING, TRAINING)
    fingerprints = {
        load_dataset("d", spec.model_copy(update=changes)).fingerprint
        for changes in ({}, {"vocab_size": 260}, {"tokenizer": "char", "vocab_size": None})
    }
    assert len(fingerprints) == 1


@pytest.mark.parametrize(
    ("spec", "vocab_size", "wanted"),
    [
        (
            STREAM,
            None,
            "key 'vocab_size': is missing; set at least 256 for tokenizer 'bpe' (256 for bytes), and more for merges",
        ),
        (
            STREAM,
            255,
            "key 'vocab_size': must be at least 256 for tokenizer 'bpe' (256 for bytes), and more for merges (value: 2",
        ),
        (
            TEXTS,
            256,
            "key 'vocab_size': must be at least 257 for tokenizer 'bpe' (256 for bytes, 1 for padding",
        ),
    ],
)
def test_a_vocabulary_has_room_for_all_bytes(spec: DatasetSpec, vocab_size: int | None, wanted: str) -> None:
    with pytest.raises(DatasetError) as caught:
        load_dataset("d", spec.model_copy(update={"vocab_size": vocab_size}))
    assert str(caught.value).startswith(f"dataset 'd': {wanted}")
