"""Encodings of datasets at the time of the first results; later code must give the same bits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import datasets
import pytest

from ganno_bench.workloads.data import Examples, TokenStream
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import DatasetSpec

TEXT = "The old man, the SEA: caf\u00e9 na\u00efve \u039f\u0394\u039f\u03a3 \u0130stanbul \u65e5\u672c don't x_1 -- 3"
WORDS = TEXT.split()
IMAGES = DatasetSpec(source="digits", task="image-classification", input="image", target="label")
TEXTS = DatasetSpec(source="x", task="text-classification", input="text", target="label", sequence_length=20)
STREAM = DatasetSpec(source="x", task="language-modelling", input="text", sequence_length=8)


def write(folder: Path) -> Path:
    folder.mkdir()
    for split, n_rows in {"train": 60, "test": 30}.items():
        rows = [
            " ".join(WORDS[(i * i + 3 * j + n_rows) % (len(WORDS) - j % 3)] for j in range(i % 17 + 1))
            for i in range(n_rows)
        ]
        columns = {"text": rows, "label": [i % 3 for i in range(n_rows)]}
        datasets.Dataset.from_dict(columns).to_json(folder / f"{split}.jsonl")
    return folder


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        (IMAGES, "ada412551a053701"),
        (IMAGES.model_copy(update={"image_size": 5}), "7c276abdebc9f832"),
        (TEXTS, "ee736b75f4862494"),
        (TEXTS.model_copy(update={"tokenizer": "word", "vocab_size": 12, "sequence_length": 6}), "88cf88a2868b3eb6"),
        (STREAM.model_copy(update={"vocab_size": 20}), "1d999c40a09693ba"),
        (STREAM.model_copy(update={"tokenizer": "word", "max_train": 300, "max_test": 101}), "4d50303644b82784"),
    ],
)
def test_encodings_are_those_that_results_were_recorded_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: DatasetSpec, wanted: str
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    if spec.source == "x":
        spec = spec.model_copy(update={"source": str(write(tmp_path / "texts"))})
    data = load_dataset("d", spec)
    digest = hashlib.sha256(f"{data.fingerprint} {data.shape.vocab_size}".encode())
    for split in (data.train, data.validation, data.test):
        assert isinstance(split, (Examples, TokenStream))
        for tensor in [split.tokens] if isinstance(split, TokenStream) else [split.inputs, split.targets]:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert digest.hexdigest()[:16] == wanted
