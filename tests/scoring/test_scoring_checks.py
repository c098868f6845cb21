import json
import math
import random

import pytest

from ganno_bench.core.errors import ConfigError, RecordError
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.reference import ReferenceValues, read_reference, reference_losses, reference_values
from tests.helpers.fake_records import fake_benchmark, make_record

REFUSED = {
    "custom": (
        [make_record(custom=True), make_record(scheduler="wsd")],
        "custom runs cannot be mixed with runs at the suite's own settings: cosine (tuned) on 'mlp' is custom, "
        "wsd (tuned) on 'mlp' is not; give records of one kind",
    ),
    "suite": (
        [make_record(), make_record(scheduler="wsd", suite_hash="beef")],
        "records of two suites cannot be compared: ladder@5f1e (cosine (tuned) on 'mlp') and "
        "ladder@beef (wsd (tuned) on 'mlp'); give records of one suite",
    ),
    "dataset": (
        [make_record(), make_record(scheduler="wsd", dataset_fingerprint="0dd")],
        "workload 'mlp' was run on two datasets: fingerprint 'da7a' (cosine (tuned) on 'mlp') and '0dd' "
        "(wsd (tuned) on 'mlp'); give records on one of them",
    ),
    "code": (
        [make_record(), make_record(seed=1, code="new")],
        "scheduler 'cosine' was run with two versions of its code: 'c0de' and 'new'; give records of one version",
    ),
    "winner": (
        [make_record(config={"base_lr": 0.1}), make_record(seed=1, trial=9, config={"base_lr": 0.2})],
        "cosine (tuned) on 'mlp' has report runs of two configurations in study 0: trial 3 {'base_lr': 0.1} and "
        "trial 9 {'base_lr': 0.2}; give the records of one of them",
    ),
    "zero-shot": (
        [
            make_record(ruleset="zero-shot", config={"base_lr": 0.1, "power": 1.0}),
            make_record(ruleset="zero-shot", config={"base_lr": 0.2, "power": 2.0}, workload="other"),
        ],
        "zero-shot entry 'cosine' has two configurations: {'power': 1.0} on 'mlp' and {'power': 2.0} on 'other'; "
        "give the records of one of them",
    ),
    "duplicate": (
        [make_record(test_loss=0.5), make_record(test_loss=0.6)],
        "there are two different results of one run: cosine (tuned) on 'mlp', report study 0, trial 3, seed 0; "
        "give the records of one of them",
    ),
}


@pytest.mark.parametrize(("records", "message"), REFUSED.values(), ids=REFUSED)
def test_records_that_cannot_be_compared_are_refused(records, message):
    with pytest.raises(RecordError) as error:
        check_records(records)
    assert str(error.value) == message


def test_the_same_run_from_two_directories_counts_once():
    records = [make_record(seed=0), make_record(seed=1)]
    assert check_records(records + records) == records


def test_zero_shot_learning_rates_may_follow_the_optimizer():
    check_records(
        make_record(ruleset="zero-shot", workload=name, config={"base_lr": lr, "weight_decay": 0.0, "power": 1.0})
        for name, lr in (("sgd", 0.01), ("adam", 0.001))
    )


def test_the_order_of_records_is_canonical():
    records = fake_benchmark(["mlp-depth-2"], n_seeds=2, n_trials=2)
    shuffled = random.Random(0).sample(records, len(records))
    assert check_records(shuffled) == check_records(records)


def test_the_reference_is_the_median_of_tuned_cosines_report_runs():
    records = [make_record(seed=seed, test_loss=loss) for seed, loss in enumerate((0.1, 0.4, None))]
    records += [make_record(role="tuning", test_loss=0.001), make_record(ruleset="zero-shot", test_loss=0.001)]
    assert reference_losses(records, {}) == {"mlp": 0.4}


def test_the_committed_reference_comes_first():
    assert reference_losses([make_record(test_loss=0.1)], {"mlp": 0.3}) == {"mlp": 0.3}


def test_a_workload_without_reference_is_an_error():
    with pytest.raises(RecordError) as error:
        reference_losses([make_record(scheduler="wsd")], {"other": 1.0})
    assert str(error.value) == (
        "workload 'mlp' of ladder@5f1e has no reference to score against: no results are committed, and "
        "the records have no report runs of tuned 'cosine'; add --scheduler cosine to the run"
    )


VALUES = {"loss": 0.25, "spread": 0.02, "target": 0.3, "fingerprint": "da7a"}


def test_the_committed_reference_is_read_by_the_suites_hash(tmp_path):
    path = tmp_path / "reference.json"
    assert read_reference("5f1e", path) == {}
    path.write_text(json.dumps({"5f1e": {"mlp": VALUES}}))
    assert read_reference("5f1e", path) == {"mlp": ReferenceValues(**VALUES)}
    assert read_reference("beef", path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], ": must have the form {suite hash: {workload: {loss, spread, target, fingerprint}}} (value: [1])"),
        ({"5f1e": 3}, ": key '5f1e': must have the form {suite hash: "),
        ({"5f1e": {"mlp": 0.25}}, ": key '5f1e': must have the form {suite hash: "),
        (
            {"5f1e": {"mlp": VALUES | {"loss": -1}}},
            ": 5f1e.mlp: key 'loss': Input should be greater than or equal to 0 (value: -1",
        ),
        ({"5f1e": {"mlp": VALUES | {"los": 1}}}, ": 5f1e.mlp: unknown key 'los'; did you mean 'loss'?"),
    ],
)
def test_a_broken_reference_file_is_named(tmp_path, content, message):
    path = tmp_path / "reference.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError) as error:
        read_reference("5f1e", path)
    assert str(error.value).startswith(f"{path}{message}")


def test_a_reference_file_that_is_no_json_is_named(tmp_path):
    path = tmp_path / "reference.json"
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"reference\.json: cannot be read: "):
        read_reference("5f1e", path)


def test_what_is_committed_of_the_reference():
    runs = [make_record(seed=s, test_loss=x, val_loss=x / 2) for s, x in enumerate((0.1, 0.2, 0.3, 0.4))] + [
        make_record(seed=4, test_loss=None)
    ]
    chance = math.log(10)
    assert reference_values(runs) == ReferenceValues(loss=0.3, spread=0.4 - 0.2, target=0.15, fingerprint="da7a")
    assert reference_values(runs[-1:]).loss == reference_values(runs[-1:]).target == chance


def test_a_reference_may_have_nothing_left_to_learn():
    values = reference_values([make_record(seed=seed, test_loss=0.0) for seed in range(3)])
    assert (values.loss, values.target) == (0.0, 0.0)
