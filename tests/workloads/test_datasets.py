from __future__ import annotations

import math
import os
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from ganno_bench.core.errors import DatasetError
from ganno_bench.workloads.data import Dataset, Examples, TokenStream
from ganno_bench.workloads.datasets import data_directories, list_datasets, load_dataset
from ganno_bench.workloads.suite import DatasetSpec

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the offline datasets are not on this machine")

IMAGES = DatasetSpec(source="x", task="image-classification", input="image", target="label")
TEXTS = DatasetSpec(source="x", task="text-classification", input="text", target="label", tokenizer="word")
STREAM = DatasetSpec(source="x", task="language-modelling", input="text", sequence_length=8)

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    monkeypatch.delenv("GANNO_BENCH_DATA", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a folder in hub layout, from split -> columns."""

    def _write(
        name: str, splits: dict[str, dict[str, Any]], features: Any = None, file_format: str = "parquet"
    ) -> Path:
        folder = tmp_path / name
        (folder / "data").mkdir(parents=True)
        for split, columns in splits.items():
            data = datasets.Dataset.from_dict(columns, features)
            path = folder / "data" / f"{split}-00000-of-00001.{file_format}"
            if file_format == "parquet":
                data.to_parquet(path)
            else:
                data.to_json(path)
        return folder

    datasets.disable_progress_bars()
    yield _write
    datasets.enable_progress_bars()


def sentences(n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng([seed, n])
    words = ["good", "bad", "a", "film", "the", "plot", "!", "Dull", "bright"]
    texts = [" ".join(rng.choice(words, size=rng.integers(6, 13))) for _ in range(n)]
    return {"text": texts, "label": [int("good" in text) for text in texts]}


def pictures(n: int, mode: str = "L", size: tuple[int, int] = (6, 5), seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng([seed, n])
    shape = (*size, 3) if mode == "RGB" else size
    images = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(n)]
    return {"image": images, "label": [i % 3 for i in range(n)]}


def image_features(classes: int = 3) -> Any:
    label = datasets.ClassLabel(names=[f"class {i}" for i in range(classes)])
    return datasets.Features({"image": datasets.Image(), "label": label})


def at(spec: DatasetSpec, source: Path | str, **changes: Any) -> DatasetSpec:
    return spec.model_copy(update={"source": str(source), **changes})


def shuffled(columns: dict[str, Any], seed: int = 3) -> dict[str, Any]:
    order = np.random.default_rng(seed).permutation(len(columns["label"]))
    return {name: [values[i] for i in order] for name, values in columns.items()}


def assert_identical(first: Dataset, second: Dataset) -> None:
    assert first.fingerprint == second.fingerprint
    assert first.shape == second.shape
    for name in ("train", "validation", "test"):
        for one, other in zip(vars(getattr(first, name)).values(), vars(getattr(second, name)).values(), strict=True):
            assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def message(spec: DatasetSpec, *args: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        load_dataset("d", spec, *args)
    text = str(caught.value)
    assert text.startswith("dataset 'd': ")
    assert "\n" not in text
    return text


# --- what comes out -------------------------------------------------------------------------------------------------


def test_the_order_of_rows_in_the_files_changes_nothing(write: Write) -> None:
    for spec, make, features in ((IMAGES, pictures, image_features()), (TEXTS, sentences, None)):
        one = {"train": make(60), "test": make(20)}
        other = {"train": shuffled(one["train"]), "test": shuffled(one["test"])}
        a, b = write(f"{spec.input}-a", one, features), write(f"{spec.input}-b", other, features)
        assert_identical(load_dataset("d", at(spec, a)), load_dataset("d", at(spec, b)))
        assert_identical(load_dataset("d", at(spec, a, max_train=20)), load_dataset("d", at(spec, b, max_train=20)))


def test_the_file_format_changes_nothing(write: Write) -> None:
    splits = {"train": sentences(60), "test": sentences(20)}
    parquet, json = write("a", splits), write("b", splits, file_format="jsonl")
    assert_identical(load_dataset("d", at(TEXTS, parquet)), load_dataset("d", at(TEXTS, json)))


def test_class_names_and_plain_integers_are_the_same_labels(write: Write) -> None:
    splits = {"train": pictures(30), "test": pictures(9)}
    named = write("a", splits, image_features())
    plain = write("b", splits, datasets.Features({"image": datasets.Image(), "label": datasets.Value("int32")}))
    assert_identical(load_dataset("d", at(IMAGES, named)), load_dataset("d", at(IMAGES, plain)))


@pytest.mark.parametrize("what", ["a pixel", "a label", "a row less", "a row twice", "a row in another split"])
def test_any_change_of_the_content_changes_the_fingerprint(write: Write, what: str) -> None:
    one = {"train": pictures(30), "test": pictures(9)}
    other = {name: {key: list(values) for key, values in split.items()} for name, split in one.items()}
    train, test = other["train"], other["test"]
    if what == "a pixel":
        pixels = np.array(train["image"][3])
        pixels[0, 0] ^= 1
        train["image"][3] = Image.fromarray(pixels)
    elif what == "a label":
        train["label"][3] = (train["label"][3] + 1) % 3
    elif what == "a row less":
        other["train"] = {key: values[:-1] for key, values in train.items()}
    elif what == "a row twice":
        other["train"] = {key: [*values, values[0]] for key, values in train.items()}
    else:
        other["train"] = {key: values[:-1] for key, values in train.items()}
        other["test"] = {key: [*test[key], train[key][-1]] for key in test}
    a, b = (
        load_dataset("d", at(IMAGES, write(name, splits, image_features())))
        for name, splits in zip("ab", (one, other), strict=True)
    )
    assert a.fingerprint != b.fingerprint


def test_the_fingerprint_is_of_what_is_used_before_it_is_encoded(write: Write) -> None:
    folder = write("a", {"train": pictures(60), "test": pictures(9)}, image_features())
    plain = load_dataset("d", at(IMAGES, folder)).fingerprint
    assert load_dataset("other name", at(IMAGES, folder, image_size=3)).fingerprint == plain
    assert load_dataset("d", at(IMAGES, folder, max_train=1000)).fingerprint == plain
    assert load_dataset("d", at(IMAGES, folder, max_train=20)).fingerprint != plain
    assert load_dataset("d", at(IMAGES, folder, max_test=5)).fingerprint != plain
    assert load_dataset("d", at(IMAGES, folder, validation_fraction=0.3)).fingerprint != plain


def test_texts_that_differ_in_unicode_form_and_blanks_around_are_the_same(write: Write) -> None:
    one = sentences(60)
    one["text"][0] = "caf\u00e9 Müller"
    other = dict(one, text=[f"  {unicodedata.normalize('NFD', text)}\n" for text in one["text"]])
    test = sentences(9)
    a, b = write("a", {"train": one, "test": test}), write("b", {"train": other, "test": test})
    assert_identical(load_dataset("d", at(TEXTS, a)), load_dataset("d", at(TEXTS, b)))


def test_images_are_standardised_with_the_training_splits_moments(write: Write) -> None:
    bright = [Image.fromarray(np.full((6, 5, 3), 255, np.uint8))] * 3
    folder = write("a", {"train": pictures(60, "RGB"), "test": {"image": bright, "label": [0, 1, 2]}}, image_features())
    data = load_dataset("d", at(IMAGES, folder))
    assert isinstance(data.train, Examples)
    assert isinstance(data.test, Examples)
    inputs = data.train.inputs
    assert inputs.dtype == torch.float32
    assert inputs.shape[1:] == data.shape.input_shape == (3, 6, 5)
    assert torch.allclose(inputs.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(inputs.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert data.test.inputs.mean() > 1.5
    assert data.chance_loss == math.log(3)


def test_pixels_land_where_they_were(write: Write) -> None:
    columns = pictures(12, "RGB")
    folder = write("a", {"train": columns, "test": columns}, image_features())
    data = load_dataset("d", at(IMAGES, folder, max_overlap=1.0))
    assert isinstance(data.test, Examples)
    originals = torch.tensor(np.stack([np.array(image) for image in columns["image"]])).permute(0, 3, 1, 2).double()
    for image in data.test.inputs.double():
        # An affine map per channel of exactly one original, and of the one with its label.
        fits = [
            all(np.corrcoef(image[c].flatten(), other[c].flatten())[0, 1] > 1 - 1e-6 for c in range(3))
            for other in originals
        ]
        assert sum(fits) == 1


@pytest.mark.parametrize(
    ("mode", "changes", "shape"),
    [
        ("L", {}, (1, 6, 5)),
        ("RGB", {}, (3, 6, 5)),
        ("RGB", {"grayscale": True}, (1, 6, 5)),
        ("RGB", {"image_size": 4}, (3, 4, 4)),
        ("L", {"image_size": 8}, (1, 8, 8)),
        ("RGB", {"image_size": 3, "grayscale": True}, (1, 3, 3)),
    ],
)
def test_grayscale_and_image_size(write: Write, mode: str, changes: dict[str, Any], shape: tuple[int, ...]) -> None:
    folder = write("a", {"train": pictures(30, mode), "test": pictures(9, mode)}, image_features())
    assert load_dataset("d", at(IMAGES, folder, **changes)).shape.input_shape == shape


def test_resizing_is_antialiased(write: Write) -> None:
    checks = np.indices((16, 16)).sum(0) % 2 * 255
    images = [Image.fromarray(checks.astype(np.uint8)), Image.fromarray(np.zeros((16, 16), np.uint8))] * 20
    split = {"image": images, "label": [0, 1] * 20}
    folder = write("a", {"train": split, "dev": split, "test": split}, image_features())
    data = load_dataset("d", at(IMAGES, folder, validation_split="dev", image_size=4, max_overlap=1.0))
    assert isinstance(data.test, Examples)
    checked = data.test.inputs[data.test.targets == 0]
    assert checked.std() < 0.1  # an even gray; nearest neighbours would be all black or all white


def test_gray_and_colour_images_together_become_colour(write: Write) -> None:
    both = {
        key: [*gray, *colour]
        for (key, gray), colour in zip(pictures(20).items(), pictures(20, "RGB").values(), strict=True)
    }
    folder = write("a", {"train": both, "test": both}, image_features())
    assert load_dataset("d", at(IMAGES, folder, max_overlap=1.0)).shape.input_shape == (3, 6, 5)


def test_validation_rows_are_cut_by_content_so_that_duplicates_stay_together(write: Write) -> None:
    columns = sentences(300)
    doubled = {key: values * 2 for key, values in columns.items()}
    data = load_dataset("d", at(TEXTS, write("a", {"train": doubled, "test": sentences(9)}), validation_fraction=0.3))
    assert isinstance(data.train, Examples)
    assert isinstance(data.validation, Examples)
    train, validation = (set(map(tuple, split.inputs.tolist())) for split in (data.train, data.validation))
    assert not train & validation
    assert data.train.n_examples + data.validation.n_examples == 600
    assert data.validation.n_examples / 600 == pytest.approx(0.3, abs=0.1)


def test_a_cap_keeps_a_part_that_depends_on_content_only(write: Write) -> None:
    folder = write("a", {"train": pictures(90), "test": pictures(30, seed=1)}, image_features())
    whole = load_dataset("d", at(IMAGES, folder))
    part = load_dataset("d", at(IMAGES, folder, max_train=30, max_validation=2, max_test=10))
    assert [s.n_examples for s in (part.train, part.validation, part.test)] == [30, 2, 10]
    assert isinstance(part.test, Examples)
    assert isinstance(whole.test, Examples)
    assert torch.bincount(part.test.targets).min() > 0
    assert set(part.test.targets.tolist()) <= set(whole.test.targets.tolist())


def test_words_are_counted_on_training_data_and_padded(write: Write) -> None:
    train = {"text": ["The film, THE plot.", "the bad"] * 20, "label": ["pos", "neg"] * 20}
    test = {"text": ["unseen film", "the the the the the the the", ""], "label": ["pos", "neg", "neg"]}
    folder = write("a", {"train": train, "validation": train, "test": test})
    spec = at(TEXTS, folder, validation_split="validation", sequence_length=6, max_overlap=1.0)
    data = load_dataset("d", spec)
    assert isinstance(data.test, Examples)
    # By frequency, then code point: the 2, "," 3, "." 4, bad 5, film 6, plot 7.
    assert sorted(data.test.inputs.tolist()) == [[0, 0, 0, 0, 0, 0], [1, 6, 0, 0, 0, 0], [2, 2, 2, 2, 2, 2]]
    assert data.shape.vocab_size == 8
    assert data.shape.n_outputs == 2
    by_target = dict(zip(map(tuple, data.test.inputs.tolist()), data.test.targets.tolist(), strict=True))
    assert by_target[(1, 6, 0, 0, 0, 0)] == 1  # "pos" comes after "neg"
    small = load_dataset("d", at(spec, folder, vocab_size=4))
    assert isinstance(small.test, Examples)
    assert small.shape.vocab_size == 4
    assert sorted(small.test.inputs.tolist())[1] == [1, 1, 0, 0, 0, 0]


def test_rows_of_a_text_are_joined_by_newlines(write: Write) -> None:
    rows = {"text": ["To be, ", "", "or not\tto be: caf\u0065\u0301"]}
    folder = write("a", {"train": rows, "validation": rows, "test": rows})
    data = load_dataset("d", at(STREAM, folder, validation_split="validation"))
    assert isinstance(data.train, TokenStream)
    text = "To be, \n\nor not\tto be: caf\u00e9"
    assert len(data.train.tokens) == len(text)
    ids = dict(zip(text, data.train.tokens.tolist(), strict=True))
    assert [ids[character] for character in text] == data.train.tokens.tolist()
    assert ids[" "] == 1  # the most frequent one; 0 is unknown
    assert data.shape.n_outputs == data.shape.vocab_size == len(set(text)) + 1


def test_a_text_without_validation_split_gives_its_end(write: Write) -> None:
    text = "".join(chr(97 + i % 26) for i in range(950)) + "Z" * 50
    folder = write("a", {"train": {"text": [text]}, "test": {"text": [text]}})
    data = load_dataset("d", at(STREAM, folder, validation_fraction=0.05, max_overlap=1.0))
    assert isinstance(data.train, TokenStream)
    assert isinstance(data.validation, TokenStream)
    assert len(data.train.tokens) == 950
    assert data.validation.tokens.tolist() == [0] * 50  # Z is not in the training text


def test_caps_of_a_text_count_tokens(write: Write) -> None:
    text = {"text": ["One, two -- three. " * 40]}
    folder = write("a", {"train": text, "validation": text, "test": text})
    for tokenizer in ("char", "word"):
        caps = {"max_train": 50, "max_test": 31, "max_overlap": 1.0}
        spec = at(STREAM, folder, tokenizer=tokenizer, validation_split="validation", **caps)
        data = load_dataset("d", spec)
        assert isinstance(data.train, TokenStream)
        assert isinstance(data.test, TokenStream)
        assert (len(data.train.tokens), len(data.test.tokens)) == (50, 31)


def test_chance_of_a_text_is_the_entropy_of_its_tokens(write: Write) -> None:
    uniform = {"text": ["abcd" * 100]}
    skewed = {"text": ["aaab" * 100]}
    a = write("a", {"train": uniform, "validation": skewed, "test": skewed})
    b = write("b", {"train": skewed, "validation": uniform, "test": uniform})
    spec = at(STREAM, a, validation_split="validation", max_overlap=1.0)
    assert load_dataset("d", spec).chance_loss == pytest.approx(math.log(4))
    wanted = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert load_dataset("d", at(spec, b)).chance_loss == pytest.approx(wanted)


# --- where it is found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["my_texts", "my-texts", "owner/my_texts", "owner/my-texts"])
def test_a_name_or_hub_id_is_found_in_the_data_folders(write: Write, tmp_path: Path, name: str) -> None:
    write("shelf/my_texts", {"train": sentences(60), "test": sentences(9)})
    assert load_dataset("d", at(TEXTS, name), [tmp_path / "shelf"]).test.n_examples == 9


def test_a_path_is_relative_to_the_current_directory_or_to_the_suite(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("suites/data/mine", {"train": sentences(60), "test": sentences(9)})
    assert load_dataset("d", at(TEXTS, "data/mine"), suite_file_dir=tmp_path / "suites").test.n_examples == 9
    monkeypatch.chdir(tmp_path / "suites")
    assert load_dataset("d", at(TEXTS, "data/mine")).test.n_examples == 9
    assert load_dataset("d", at(TEXTS, "./data/mine")).test.n_examples == 9


def test_a_path_is_never_taken_for_a_name(write: Write, tmp_path: Path) -> None:
    write("shelf/mine", {"train": sentences(60), "test": sentences(9)})
    for path in ("./mine", "../elsewhere/mine", "a/b/mine"):
        assert f"{path!r} is neither an embedded dataset" in message(at(TEXTS, path), [tmp_path / "shelf"])


def test_an_embedded_name_wins_over_a_folder(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("digits", {"train": pictures(30), "test": pictures(9)}, image_features())
    monkeypatch.chdir(tmp_path)
    assert load_dataset("d", at(IMAGES, "digits"), [tmp_path]).shape.input_shape == (1, 8, 8)


def test_a_read_only_folder_can_be_read(write: Write) -> None:
    folder = write("a", {"train": sentences(60), "test": sentences(9)})
    paths = [*folder.rglob("*"), folder]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert load_dataset("d", at(TEXTS, folder)).test.n_examples == 9
    assert sorted(folder.rglob("*")) == sorted(paths[:-1])
    for path in reversed(paths):
        path.chmod(0o755)


def test_a_file_that_was_edited_is_read_anew(write: Write) -> None:
    folder = write("a", {"train": sentences(60), "test": sentences(9)})
    before = load_dataset("d", at(TEXTS, folder)).fingerprint
    shutil.rmtree(folder)
    write("a", {"train": sentences(61), "test": sentences(9)})
    assert load_dataset("d", at(TEXTS, folder)).fingerprint != before


def test_loading_prints_nothing(write: Write, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write("a", {"train": sentences(60), "test": sentences(9)})
    datasets.enable_progress_bars()
    capfd.readouterr()
    load_dataset("d", at(TEXTS, folder))
    assert capfd.readouterr() == ("", "")
    assert not datasets.are_progress_bars_disabled()


def test_data_folders_come_from_options_and_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    assert data_directories() == ()
    monkeypatch.setenv("GANNO_BENCH_DATA", os.pathsep.join(map(str, folders[1:])))
    assert data_directories([folders[0]]) == tuple(folders)
    with pytest.raises(DatasetError, match=r"--data-dir: data folder '.*nope' does not exist"):
        data_directories([tmp_path / "nope"])
    monkeypatch.setenv("GANNO_BENCH_DATA", str(tmp_path / "gone"))
    with pytest.raises(DatasetError, match=r"GANNO_BENCH_DATA: data folder '.*gone' does not exist"):
        data_directories()


def test_the_list_has_what_can_be_named(write: Write, tmp_path: Path) -> None:
    write("shelf/my_texts", {"train": sentences(9)})
    rows = {row.name: row for row in list_datasets([tmp_path / "shelf"])}
    assert sorted(rows) == ["digits", "my_texts", "stdlib-chars"]
    assert rows["digits"].where == "built-in"
    assert rows["digits"].description.startswith("8x8 images of handwritten digits")
    assert rows["my_texts"].where == str(tmp_path / "shelf")


# --- what a user can get wrong --------------------------------------------------------------------------------------


def test_an_unknown_name_gives_the_nearest_one_and_where_it_was_looked_for(write: Write, tmp_path: Path) -> None:
    assert message(at(IMAGES, "digit")).endswith("nor a hub id (owner/name); did you mean 'digits'?")
    write("shelf/mnist", {"train": pictures(30)}, image_features())
    text = message(at(IMAGES, "minst"), [tmp_path / "shelf"])
    assert str(tmp_path / "shelf") in text
    assert text.endswith("did you mean 'mnist'?")
    assert message(at(IMAGES, tmp_path / "shelf" / "mnit")).endswith("mnit' does not exist; did you mean 'mnist'?")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"input": "txet"}, "has no column 'txet'; did you mean 'text'?"),
        ({"target": "labels"}, "has no column 'labels'; did you mean 'label'?"),
        ({"train_split": "trian"}, "has no split 'trian'; did you mean 'train'?"),
        (
            {"validation_split": "dev"},
            "has no split 'dev' (found: test, train); expected: train, dev, test, as folders",
        ),
        ({"test_split": "tets"}, "has no split 'tets'; did you mean 'test'?"),
        ({"test_split": "train"}, "split 'train'"),
        ({"input": "label"}, "has no texts in column 'label' (found: Value('int64'))"),
        (
            {"target": "score"},
            "has no class labels (names, integers or strings) in column 'score' (found: Value('float64'))",
        ),
        (
            {"task": "image-classification", "tokenizer": "char"},
            "has no images in column 'text' (found: Value('string'))",
        ),
        ({"validation_fraction": 1e-9}, "validation_fraction = 1e-09 leaves none for validation"),
        ({"task": "language-modelling", "target": None, "max_test": 3, "tokenizer": "char"}, "3 tokens for test"),
    ],
)
def test_what_does_not_fit_the_declaration_is_named(write: Write, changes: dict[str, Any], wanted: str) -> None:
    splits = {"train": sentences(60), "test": sentences(60, seed=1)}
    for columns in splits.values():
        columns["score"] = [0.5] * 60
    folder = write("a", splits)
    text = message(at(TEXTS, folder, **changes))
    assert text.startswith(f"dataset 'd': folder '{folder}' ")
    assert wanted in text


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([-1] * 9, "no class for label -1 in column 'label' for test (-1 stands for hidden labels; use another split)"),
        ([0] * 8 + [7], "no class for label 7 in column 'label' for test"),
        ([0] * 8 + [None], "no value in column 'label' of row 8 for test"),
        ([], '"test" corresponds to no data'),
    ],
)
def test_labels_that_training_does_not_have(write: Write, labels: list[int | None], wanted: str) -> None:
    test = {"text": sentences(9)["text"][: len(labels)], "label": labels}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.Value("int64")})
    assert wanted in message(at(TEXTS, write("a", {"train": sentences(60), "test": test}, features)))


def test_hidden_labels_of_named_classes(write: Write) -> None:
    hidden = {**pictures(9), "label": [-1] * 9}
    folder = write("a", {"train": pictures(30), "test": hidden}, image_features())
    assert "label -1 in column 'label' for test (-1 stands for hidden labels" in message(at(IMAGES, folder))


def test_one_class_is_too_few(write: Write) -> None:
    one = {"text": ["a", "b"] * 20, "label": ["same"] * 40}
    text = message(at(TEXTS, write("a", {"train": one, "test": one})))
    assert "fewer than 2 classes in column 'label': every label is 'same'" in text


def test_images_of_different_sizes_need_an_image_size(write: Write) -> None:
    folder = write("a", {"train": pictures(30), "test": pictures(9, size=(8, 7))}, image_features())
    assert "different sizes, such as 6x5 and 8x7; set an image_size" in message(at(IMAGES, folder))
    assert load_dataset("d", at(IMAGES, folder, image_size=4)).shape.input_shape == (1, 4, 4)


def test_images_with_more_than_8_bits_are_an_error(write: Write) -> None:
    deep = {"image": [Image.fromarray(np.full((4, 4), 1000, np.uint16))] * 9, "label": [0, 1, 2] * 3}
    folder = write("a", {"train": deep, "test": deep}, image_features())
    assert "images of mode 'I;16'" in message(at(IMAGES, folder))


def test_a_broken_image_is_an_error(write: Write) -> None:
    broken = {"image": [{"bytes": b"no image", "path": None}] * 9, "label": [0, 1, 2] * 3}
    folder = write("a", {"train": broken, "test": broken}, image_features())
    assert "broken image in column 'image' of row 0 for train" in message(at(IMAGES, folder))


def test_folders_that_cannot_be_read(tmp_path: Path) -> None:
    for name, file, content in (
        ("empty", None, ""),
        ("broken", "train.parquet", "abc"),
        ("notes", "notes.docx", "abc"),
        ("script", "script.py", "x = 1"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        if file is not None:
            (folder / file).write_text(content)
        assert f"folder '{folder}' cannot be read: " in message(at(TEXTS, folder))


# --- the hub --------------------------------------------------------------------------------------------------------


def unreachable() -> Any:
    raise OSError("no network")


def test_without_network_a_hub_dataset_fails_soon_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, write: Write, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.get_session", unreachable)
    write("shelf/mnist", {"train": pictures(30)}, image_features())
    before, waits = datasets.config.HF_HUB_OFFLINE, []
    monkeypatch.setattr(time, "sleep", waits.append)
    text = message(at(IMAGES, "ylecun/minst"), [tmp_path / "shelf"])
    assert waits == []  # without retries
    assert f"searched: the current directory, '{tmp_path / 'shelf'}'" in text
    assert "hub cannot be reached; put a copy in hub layout, as folder 'minst', into a folder of --data-dir" in text
    assert text.endswith("did you mean 'mnist'?")
    assert before == datasets.config.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            RuntimeError("Dataset scripts are no longer supported, but found x.py"),
            "set 'revision' to one with data files",
        ),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'o/x' doesn't exist"), "nor on the Hugging Face hub"),
        (
            ValueError("BuilderConfig 'b' not found.\nAvailable: ['a']"),
            "hub dataset 'o/x' cannot be read: ValueError: Bu",
        ),
    ],
)
def test_what_the_hub_says_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception, wanted: str) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.get_session", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", fail)
    assert wanted in message(at(TEXTS, "o/x"))


def test_the_hub_is_asked_for_the_declared_configuration_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(path: str, name: str | None, revision: str | None) -> Any:
        asked.append((path, name, revision))
        return {"train": datasets.Dataset.from_dict(sentences(60)), "test": datasets.Dataset.from_dict(sentences(9))}

    monkeypatch.setattr("huggingface_hub.get_session", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", answer)
    load_dataset("d", at(TEXTS, "o/x", config="c", revision="refs/convert/parquet"))
    assert asked == [("o/x", "c", "refs/convert/parquet")]


# --- real data ------------------------------------------------------------------------------------------------------


@needs_shared
def test_rotten_tomatoes() -> None:
    spec = at(TEXTS, "cornell-movie-review-data/rotten_tomatoes", validation_split="validation", vocab_size=2000)
    data = load_dataset("reviews", spec, [SHARED])
    assert [split.n_examples for split in (data.train, data.validation, data.test)] == [8530, 1066, 1066]
    assert data.shape.vocab_size == 2000
    assert isinstance(data.train, Examples)
    # The file is sorted by class, the rows here are not.
    assert 0.4 < data.train.targets[:500].double().mean() < 0.6


@needs_shared
def test_tiny_shakespeare() -> None:
    spec = at(STREAM, "karpathy/tiny-shakespeare", validation_split="validation", sequence_length=64)
    data = load_dataset("shakespeare", spec, [SHARED])
    assert isinstance(data.train, TokenStream)
    assert len(data.train.tokens) == 1_003_854
    assert data.shape.vocab_size == 65 + 1
    assert data.chance_loss == pytest.approx(3.31, abs=0.01)


@pytest.mark.slow(group="data")
@needs_shared
def test_a_part_of_mnist() -> None:
    spec = at(IMAGES, "ylecun/mnist", max_train=500, max_validation=200, max_test=300, image_size=14)
    data = load_dataset("mnist", spec, [SHARED])
    assert [split.n_examples for split in (data.train, data.validation, data.test)] == [500, 200, 300]
    assert data.shape.input_shape == (1, 14, 14)
    assert isinstance(data.train, Examples)
    assert torch.bincount(data.train.targets, minlength=10).min() > 25
