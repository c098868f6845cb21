from __future__ import annotations

from pathlib import Path

import pytest

from ganno_bench.core.errors import ConfigError, UnknownNameError
from ganno_bench.workloads.models import check_model
from ganno_bench.workloads.suite import Suite, find_suite, load_suite, suite_names

SUITE = """
name = "mine"
description = "Two rungs."
schedulers = ["cosine"]

[budget]
trials = 4

[dataset.pictures]
source = "digits"
task = "image-classification"
input = "image"
target = "label"

[dataset.prose]
source = "stdlib-chars"
task = "language-modelling"
input = "text"

[[workload]]
id = "small"
dataset = "pictures"
model = { family = "mlp", depth = 2 }
optimizer = { name = "sgd" }
batch_size = 8
n_updates = 10

[[workload]]
id = "large"
dataset = "prose"
model = { family = "transformer", depth = 1 }
optimizer = { name = "adamw" }
batch_size = 8
n_updates = 10
"""


def load(tmp_path: Path, old: str = "", new: str = "") -> Suite:
    assert old in SUITE
    path = tmp_path / "mine.toml"
    path.write_text(SUITE.replace(old, new) if old else SUITE)
    return load_suite(str(path))


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    suite = load(tmp_path)
    assert suite.budget.model_dump() == {
        "trials": 4,
        "tuning_seeds": 2,
        "report_seeds": 10,
        "batch": 8,
        "startup_trials": 8,
    }
    assert suite.find_workload("small").n_evaluations == 16
    assert suite.find_workload("small").optimizer.momentum == 0.9
    assert suite.dataset["prose"].validation_fraction == 0.1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials = 4", "trails = 4", "unknown key 'budget.trails'; did you mean 'trials'?"),
        ("trials = 4", "trials = 4.0", "key 'budget.trials': Input should be a valid integer (value: 4.0)"),
        ("trials = 4", "trials = 0", "key 'budget.trials': Input should be greater than or equal to 1 (value: 0)"),
        ('input = "image"', 'inptu = "image"', "unknown key 'dataset.pictures.inptu'; did you mean 'input'?"),
        ('input = "text"', "", "key 'dataset.prose.input' is missing"),
        ('"language-modelling"', '"modelling"', "key 'dataset.prose.task': Input should be 'image-classification', "),
        ('target = "label"', "", "key 'dataset.pictures.target': image-classification needs the name of the label"),
        ('input = "text"', 'input = "text"\ntarget = "x"', "key 'dataset.prose.target': language-modelling has no lab"),
        (
            'input = "text"',
            'input = "text"\ntokenizer = "bpe"',
            "key 'dataset.prose.vocab_size': is missing; set at least 256 for tokenizer 'bpe' (256 for",
        ),
        (
            'input = "text"',
            'input = "text"\ntokenizer = "bpe"\nvocab_size = 100',
            "key 'dataset.prose.vocab_size': must be at least 256 for tokenizer 'bpe' (256 for bytes), and "
            "more for merges (value: 100)",
        ),
        (
            'input = "text"',
            'input = "text"\ntokenizer = "bep"',
            "key 'dataset.prose.tokenizer': Input should be 'char', ",
        ),
        (
            'source = "digits"',
            'source = "digits"\ngraph = {}',
            "key 'dataset.pictures.graph': image-classification has no",
        ),
        (
            '"image-classification"',
            '"node-classification"',
            "key 'dataset.pictures.graph': node-classification needs a ",
        ),
        (
            '"image-classification"',
            '"node-classification"\ngraph = { neighbors = 8 }',
            "unknown key 'dataset.pictures.graph.neighbors'; did you mean 'neighbours'?",
        ),
        (
            '"image-classification"',
            '"node-classification"\ngraph = { neighbours = 0 }',
            "key 'dataset.pictures.graph.neighbours': Input should be greater than or equal to 1 (value: 0)",
        ),
        ('dataset = "prose"', 'dataset = "prse"', "key 'workload[1].dataset': no dataset 'prse' is declared; did you"),
        ('id = "large"', 'id = "small"', "key 'workload': id 'small' occurs 2 times"),
        ('family = "transformer", ', "", "key 'workload[1].model.family': must be a string (value: None)"),
        ('family = "transformer"', "family = 3", "key 'workload[1].model.family': must be a string (value: 3)"),
        ('name = "adamw"', 'name = "adamv"', "key 'workload[1].optimizer.name': Input should be 'sgd', 'adam' or 'ad"),
        (
            '"adamw" }',
            '"adamw", beta = [0.9, 0.9] }',
            "unknown key 'workload[1].optimizer.beta'; did you mean 'betas'?",
        ),
        (
            '"adamw" }',
            '"adamw", betas = [0.9, 1.0] }',
            "key 'workload[1].optimizer.betas[1]': Input should be less than",
        ),
        ('"sgd" }', '"sgd", momentum = 1.0 }', "key 'workload[0].optimizer.momentum': Input should be less than 1"),
        ("batch_size = 8", "batchsize = 8", "unknown key 'workload[0].batchsize'; did you mean 'batch_size'?"),
        ("n_updates = 10", "n_updates = '10'", "key 'workload[0].n_updates': Input should be a valid integer"),
        (
            "n_updates = 10",
            "n_updates = 10\naugmentation = { flip = true }",
            "key 'workload[1].augmentation': dataset 'prose' is for language-modelling; only images can be flipped and "
            "cropped",
        ),
        (
            '"sgd" }',
            '"sgd" }\naugmentation = { crop = 0 }',
            "key 'workload[0].augmentation': changes nothing; set 'flip = true' or a 'crop' of at least 1, or remove",
        ),
        (
            '"sgd" }',
            '"sgd" }\naugmentation = { flips = true }',
            "unknown key 'workload[0].augmentation.flips'; did you mean 'flip'?",
        ),
        (
            '"sgd" }',
            '"sgd" }\naugmentation = { crop = -1 }',
            "key 'workload[0].augmentation.crop': Input should be greater than or equal to 0 (value: -1)",
        ),
        ("[[workload]]", "[[workloads]]", "unknown key 'workloads'; did you mean 'workload'?"),
        ('["cosine"]', "[]", "key 'schedulers': Tuple should have at least 1 item"),
        ('name = "mine"', 'name = "My Suite"', "key 'name': String should match pattern"),
        ('name = "mine"', "name = mine", "is not valid TOML: "),
    ],
)
def test_what_is_wrong_with_a_suite(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, old, new)
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: {message}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (
            {"family": "mpl", "depth": 1},
            UnknownNameError,
            "f: key 'model.family': unknown model 'mpl'; did you mean 'mlp'?",
        ),
        ({"family": "mlp"}, ConfigError, "f: key 'model.depth': is missing; model family 'mlp' needs it"),
        (
            {"family": "mlp", "depht": 1},
            ConfigError,
            "f: key 'model.depht': model family 'mlp' has no 'depht'; did you mean 'depth'?",
        ),
        ({"family": "mlp", "depth": "1"}, ConfigError, "f: key 'model.depth': must be of type int (value: '1')"),
        ({"family": "mlp", "depth": True}, ConfigError, "f: key 'model.depth': must be of type int (value: True)"),
        ({"family": "mlp", "depth": 0}, ConfigError, "f: key 'model.depth': must be at least 1 (value: 0)"),
        (
            {"family": "cnn", "depth": 1, "group_norm": 1},
            ConfigError,
            "f: key 'model.group_norm': must be of type bool (value: 1)",
        ),
    ],
)
def test_what_is_wrong_with_a_model(model: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        check_model(model, "f")
    assert str(caught.value) == message


def test_the_hash_covers_what_affects_results_and_nothing_else(tmp_path: Path) -> None:
    suite = load(tmp_path)
    assert len(suite.hash) == 16
    for old, new in (
        ("Two rungs.", "Two steps."),
        ('["cosine"]', '["cosine", "step"]'),
        ("trials = 4", "trials = 4 #"),
    ):
        assert load(tmp_path, old, new).hash == suite.hash
    assert load(tmp_path, "trials = 4", "trials = 4\nreport_seeds = 10").hash == suite.hash  # the default, written out
    hashes = {suite.hash}
    for old, new in (
        ('name = "mine"', 'name = "mine-v2"'),
        ("trials = 4", "trials = 5"),
        ("n_updates = 10", "n_updates = 11"),
        ("depth = 2", "depth = 3"),
        ('"sgd"', '"sgd", momentum = 0.8'),
        ('input = "text"', 'input = "text"\nmax_train = 9'),
        ("small", "tiny"),
        ('"sgd" }', '"sgd" }\naugmentation = { flip = true }'),
        ('"sgd" }', '"sgd" }\naugmentation = { flip = true, crop = 1 }'),
    ):
        hashes.add(load(tmp_path, old, new).hash)
    assert len(hashes) == 10


VARIATION = """
[variation]
base_lr = [0.1, 10.0]
horizon = [0.5]
"""


def test_where_data_lie_is_not_part_of_the_hash(tmp_path: Path) -> None:
    source = 'source = "digits"'
    assert load(tmp_path, source, f'{source}\nlocal = true\nfolder = "copy"').hash == load(tmp_path).hash


def test_a_suite_that_varies_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    plain, varied = load(tmp_path), load(tmp_path, "\n[budget]", f"{VARIATION}\n[budget]")
    assert plain.variation is None
    assert "variation" not in plain.model_dump()
    assert plain.hash != varied.hash
    assert varied.variation is not None
    assert varied.variation.settings == (("base_lr", 0.1), ("base_lr", 10.0), ("horizon", 0.5))
    assert varied.variation.seeds == 5
    # The hashes of suites that were released before variations existed.
    released = {"quickstart": "1bf7f12c0eafa428", "headline": "98f82bf0dbb192c0", "transfer": "43cc9bc8dbd3d77d"}
    assert {name: load_suite(name).hash for name in released} == released


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("base_lr", "base_rl", "unknown key 'variation.base_rl'; did you mean 'base_lr'?"),
        ("10.0", "0.0", "key 'variation.base_lr[1]': Input should be greater than 0 (value: 0.0)"),
        ("10.0", "1.0", "key 'variation.base_lr': must not contain 1, which is the report itself (value: 1)"),
        ("10.0", "0.1", "key 'variation.base_lr': 0.1 occurs 2 times"),
        (
            "horizon = [0.5]",
            "horizon = [0.01]",
            "key 'variation.horizon': 0.01 is too close to 0 or 1: it gives workload 'small' 0 updates of 8 examples",
        ),
        (
            "horizon",
            "seeds = 2\nbatch_size = [1.01]\nhorizon",
            "key 'variation.batch_size': 1.01 is too close to 0 or 1: it gives workload 'small' 10 updates of 8 examp",
        ),
        (
            "horizon",
            "seeds = 11\nhorizon",
            "key 'variation.seeds': must be at most 10, the number of report seeds (value: 11)",
        ),
        (
            "base_lr = [0.1, 10.0]\nhorizon = [0.5]",
            "seeds = 2",
            "key 'variation': give multiples for at least one factor (base_lr, weight_decay, horizon, batch_size)",
        ),
    ],
)
def test_what_is_wrong_with_a_variation(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in VARIATION
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "\n[budget]", VARIATION.replace(old, new) + "\n[budget]")
    assert str(caught.value).startswith(f"{tmp_path / 'mine.toml'}: {message}")
    assert "\n" not in str(caught.value)


def test_the_projects_own_suites_are_valid() -> None:
    assert "quickstart" in suite_names()
    for name in suite_names():
        suite = load_suite(name)
        assert suite.name == name == find_suite(name).stem
        for workload in suite.workload:
            check_model(workload.model, name)
    hashes = {load_suite(name).hash for name in suite_names()}
    assert len(hashes) == len(suite_names())


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("quickstrat", "unknown suite 'quickstrat'; did you mean 'quickstart'?"),
        ("no/such.toml", "suite file 'no/such.toml' does not exist"),
        ("quick.toml", "suite file 'quick.toml' does not exist"),
    ],
)
def test_an_unknown_suite(ref: str, message: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_suite(ref)
    assert str(caught.value) == message


def test_an_unknown_workload(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="suite 'mine' has no workload 'smal'; did you mean 'small'"):
        load(tmp_path).find_workload("smal")
