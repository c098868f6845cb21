"""Evaluations of a policy: scores, novelty, missing data, resumed runs, the report."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ganno_bench.bench.derived import middle_workloads, varied_middle, write_derived
from ganno_bench.bench.evaluation import Evaluation
from ganno_bench.bench.novelty import novelty
from ganno_bench.bench.progress import Progress
from ganno_bench.core.errors import ConfigError, DatasetError, PluginError, UnknownNameError
from ganno_bench.core.records import LrTrace, RunRecord
from ganno_bench.leaderboard.evaluation import write_evaluation
from ganno_bench.leaderboard.evaluation_tables import (
    cells_of,
    matrix_csv,
    robustness_csv,
    robustness_table,
    summary_table,
)
from ganno_bench.policies.policy import PolicyCard, TrainingCard
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.scoring.transfer import compare
from ganno_bench.workloads.suite import DatasetSpec, WorkloadSpec, load_suite
from tests.helpers.evaluation_cases import TASKS, evaluate, write_policy, write_suite
from tests.helpers.resealed import reseal
from tests.helpers.tiny_suite import Started, keep, snapshot, write_plugin

pytestmark = pytest.mark.usefixtures("undrawn")

WORKLOADS = ("digits-mlp-1", "digits-mlp-3")
RIVALS = ("cosine", "trust-ratio", "depth-factor", "cosine@default")


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """A complete evaluation of a policy with its report; read-only."""
    folder = tmp_path_factory.mktemp("evaluation")
    write_policy(folder / "policy")
    write_suite(folder)
    evaluation = evaluate(folder)
    write_evaluation(evaluation)
    return evaluation


@pytest.fixture(scope="module")
def folder(evaluation: Evaluation) -> Path:
    """The folder of the policy, the suite and the evaluation; read-only."""
    return evaluation.path.parent


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be changed."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def final_losses(out: Path, workload: str, entry: str) -> list[float]:
    """Return the final validation losses of an entry's report runs, straight from the files."""
    lines = [line for file in sorted(out.glob("*/records.jsonl")) for line in file.read_text().splitlines()]
    records = [
        r for r in map(json.loads, lines) if (r["workload"], r["scheduler"], r["role"]) == (workload, entry, "report")
    ]
    return [min(r["metrics"]["val_loss"], r["chance_loss"]) for r in records]


# Scores


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_score_is_what_the_records_say(folder: Path, evaluation: Evaluation, workload: str) -> None:
    cell = next(cell for cell in cells_of(evaluation) if cell.workload == workload)
    ours = median(final_losses(folder / "out", workload, "policy:mine"))
    for rival in RIVALS:
        theirs = median(final_losses(folder / "out", workload, rival))
        assert cell.against[rival].score == pytest.approx(100 * math.log(theirs / ours), abs=1e-9)
    assert cell.cosine == cell.against["cosine"]
    layerwise = {name: median(final_losses(folder / "out", workload, name)) for name in ("trust-ratio", "depth-factor")}
    assert cell.layerwise == cell.against[min(layerwise, key=lambda name: layerwise[name])]


def of(evaluation: Evaluation, entry: str) -> list[RunRecord]:
    return [run for run in evaluation.records if (run.workload, run.scheduler) == (WORKLOADS[0], entry)]


def with_losses(runs: list[RunRecord], losses: list[float]) -> list[RunRecord]:
    """Return one run as many, which ended at these validation losses."""
    return [
        runs[0].model_copy(update={"seed": seed, "metrics": runs[0].metrics.model_copy(update={"val_loss": loss})})
        for seed, loss in enumerate(losses)
    ]


def test_intervals_are_paired_by_seed(evaluation: Evaluation) -> None:
    hard = [0.2, 0.9, 0.4, 0.7, 0.3, 0.5]  # seeds differ by more than the entries
    policy = with_losses(of(evaluation, "policy:mine"), [0.9 * loss for loss in hard])
    cosine = with_losses(of(evaluation, "cosine"), hard)
    found = compare(policy, cosine[::-1])
    assert [found.low, found.score, found.high] == pytest.approx([100 * math.log(1 / 0.9)] * 3)
    assert found.verdict == "win"
    assert compare(cosine, policy).verdict == "loss"
    same = compare(policy, with_losses(of(evaluation, "cosine"), [0.9 * loss for loss in hard]))
    assert (same.score, same.low, same.high, same.verdict) == (0, 0, 0, "tie")


def test_one_seed_decides_nothing(evaluation: Evaluation) -> None:
    policy, cosine = (with_losses(of(evaluation, name), [loss]) for name, loss in (("policy:mine", 0.1), ("cosine", 2)))
    found = compare(policy, cosine)
    assert (found.low, found.high, found.verdict) == (None, None, "tie")


def test_who_diverged_is_scored_at_chance(evaluation: Evaluation) -> None:
    (run, *_), cosine = of(evaluation, "policy:mine"), with_losses(of(evaluation, "cosine"), [1.0])
    gone = run.model_copy(update={"seed": 0, "metrics": run.metrics.model_copy(update={"val_loss": None})})
    assert compare([gone], cosine).score == pytest.approx(100 * math.log(1.0 / math.log(10)))


def test_the_summary_is_the_mean_of_its_cells(evaluation: Evaluation) -> None:
    cells = cells_of(evaluation)
    rows = {row[0]: row for row in summary_table(evaluation, cells).rows}
    assert {label: row[1] for label, row in rows.items()} == {"all": "2", "seen": "1", "unseen": "1", "new depth": "1"}
    scores = {label: float(row[2].split()[0]) for label, row in rows.items()}
    assert scores["seen"] == pytest.approx(cells[0].cosine.score, abs=0.06)
    assert scores["unseen"] == pytest.approx(cells[1].cosine.score, abs=0.06)
    assert scores["all"] == pytest.approx((cells[0].cosine.score + cells[1].cosine.score) / 2, abs=0.06)


# What is new


def test_a_seen_workload_and_a_deeper_one(evaluation: Evaluation) -> None:
    assert [evaluation.novelty[name].label for name in WORKLOADS] == ["seen", "new depth"]
    assert evaluation.novelty["digits-mlp-3"].reason == "depth 3 is outside of 1-2"


@pytest.mark.parametrize(
    ("family", "depth", "source", "fingerprint", "label"),
    [
        ("mlp", 1, "digits", "other", "seen"),
        ("mlp", 2, "some-one/digits", "other", "seen"),
        ("mlp", 2, "renamed", "f1", "seen"),
        ("mlp", 3, "digits", "f1", "new depth"),
        ("mlp", 2, "mnist", "f2", "new data"),
        ("mlp", 9, "mnist", "f2", "new depth + data"),
        ("cnn", 4, "digits", "f1", "new combination"),
        ("cnn", 1, "digits", "f1", "new depth"),
        ("cnn", 4, "letters", "f3", "seen"),
        ("cnn", 2, "letters", "f3", "new depth"),
        ("transformer", 1, "digits", "f1", "new family"),
        ("transformer", 1, "mnist", "f2", "new family + data"),
    ],
)
def test_what_is_new(family: str, depth: int, source: str, fingerprint: str, label: str) -> None:
    tasks = {
        "dataset": {"pixels": {"source": "digits"}, "letters": {"source": "a/letters"}},
        "family": [*TASKS["family"], {"dataset": "letters", "model": {"family": "cnn"}, "depth": [4, 5]}],
    }
    assert judged(tasks, family, depth, source, fingerprint) == label


@pytest.mark.parametrize("tasks", [{}, {"family": [{"dataset": "pixels"}]}, {"family": 3}, 3])
def test_a_card_that_does_not_say_what_was_seen(tasks: Any) -> None:
    assert judged(tasks, "mlp", 1, "digits", "f1") == "unknown"


def judged(tasks: Any, family: str, depth: int, source: str, fingerprint: str) -> str:
    training = TrainingCard(config={"tasks": tasks}, datasets={"pixels": "f1", "letters": "f3"})
    card = PolicyCard(name="mine", observation=("progress",), training=training)
    workload = WorkloadSpec.model_validate(
        {
            "id": "w",
            "dataset": "data",
            "model": {"family": family, "depth": depth},
            "optimizer": {"name": "sgd"},
            "batch_size": 8,
            "n_updates": 8,
        }
    )
    dataset = DatasetSpec(source=source, task="image-classification", input="image", target="label")
    return novelty(card, workload, dataset, fingerprint).label


# Test data


@pytest.mark.usefixtures("drawn")
def test_test_data_change_nothing_and_nothing_is_trained_again(copied: Path) -> None:
    before = snapshot(copied / "out")
    files = list((copied / "out").rglob("records.jsonl"))
    assert len(files) == 4  # the policy, its rivals, the varied runs of both
    for file in files:
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for at, record in enumerate(records):
            if record["role"] != "tuning":
                record["metrics"] |= {"test_loss": 0.001 * at, "test_error": 0.5}
        file.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
        reseal(file)
    started = Started()
    evaluation = evaluate(copied, started)
    assert started.jobs == []
    write_evaluation(evaluation)
    shown = ("README.md", "matrix.csv", "robustness.csv", "plots/")
    after = snapshot(copied / "out")
    assert {name for name in after if name.startswith("plots/")} >= {"plots/transfer.png", "plots/schedules.png"}
    for name in before.keys() | after.keys():
        assert before.get(name) == after.get(name) or not name.startswith(shown), name
    shown_runs = (*evaluation.records, *evaluation.robustness)
    assert all(run.metrics.test_loss is None and run.metrics.test_error is None for run in shown_runs)


# Data that are not there


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def left_out(self, line: str) -> None:
        self.lines.append(line)


def test_workloads_without_data_are_left_out(copied: Path) -> None:
    told = Lines()
    evaluation = evaluate(copied, told)
    line = (
        "left out: 1 workload on dataset 'letters' (some-one/letters), which was not found; put a copy in hub layout "
        "into a folder 'letters' below --data-dir or GANNO_BENCH_DATA"
    )
    assert told.lines == [line]
    assert [missing.workloads for missing in evaluation.left_out] == [("letters-mlp-1",)]
    assert line.replace("_", r"\_") in (copied / "out" / "README.md").read_text()
    reduced = load_suite(str(copied / "out" / "tiny-reduced.toml"))
    assert [spec.id for spec in reduced.workload] == list(WORKLOADS)
    assert reduced.budget == load_suite(str(copied / "tiny.toml")).budget


def test_no_data_at_all(tmp_path: Path) -> None:
    write_policy(tmp_path / "policy")
    write_suite(tmp_path, with_data=False)
    with pytest.raises(DatasetError, match="no dataset of suite 'tiny' was found; 'letters': "):
        evaluate(tmp_path)


# What is run


def test_a_policy_that_changed_is_run_and_its_rivals_are_not(copied: Path) -> None:
    write_policy(copied / "policy", seed=1)
    started = Started()
    evaluation = evaluate(copied, started)
    assert {entry for _, entry, _, _ in started.jobs} == {"policy:mine"}
    codes = {run.code for run in evaluation.robustness if run.scheduler == "policy:mine"}
    assert codes == {evaluation.code}


def test_a_further_rival(copied: Path) -> None:
    evaluation = evaluate(copied, against=["default:constant", "cosine"])
    assert evaluation.rivals == (*RIVALS, "constant@default")
    assert {"constant@default"} < set(cells_of(evaluation)[0].against)


def test_a_rival_that_fails_takes_down_its_own_runs_alone(copied: Path) -> None:
    broken = write_plugin(copied, ("return Controls(lr), state", "raise RuntimeError('not yet')"))
    evaluation = evaluate(copied, against=[f"default:{broken}"])
    assert [(failure.workload, failure.scheduler) for failure in evaluation.failures] == [
        (workload, "mine@default") for workload in WORKLOADS
    ]
    assert set(cells_of(evaluation)[0].against) == set(RIVALS)
    write_evaluation(evaluation)
    page = (copied / "out" / "README.md").read_text()
    assert "- mine@default on digits-mlp-1: scheduler 'mine@default': step raised RuntimeError: not yet" in page


def test_a_start_is_a_multiple_of_the_default_which_is_the_report(evaluation: Evaluation) -> None:
    middle = middle_workloads(evaluation.suite)
    assert middle == ("digits-mlp-3",)
    assert len(evaluation.robustness) == len(middle) * 2 * 7 * 2
    for entry in ("policy:mine", "cosine@default"):
        runs = [run for run in evaluation.robustness if run.scheduler == entry]
        reported = [run.objective for run in evaluation.records if (run.workload, run.scheduler) == (middle[0], entry)]
        assert [run.objective for run in runs if run.factor is None] == reported
        rates = {run.multiple: run.config["base_lr"] for run in runs if run.factor != "weight_decay"}
        assert rates == pytest.approx({0.1: 0.001, 0.3: 0.003, None: 0.01, 3: 0.03, 10: 0.1})
        decays = {run.multiple: run.config["weight_decay"] for run in runs if run.factor != "base_lr"}
        assert decays == pytest.approx({0: 0, None: 0.0001, 10: 0.001})


def test_the_middle_is_varied_on_all_seeds_and_on_no_other_data() -> None:
    suite = load_suite("transfer")
    varied = varied_middle(suite)
    assert [spec.id for spec in varied.workload] == ["digits-mlp-6", "digits-cnn-6", "stdlib-chars-transformer-3"]
    assert set(varied.dataset) == {"digits", "stdlib-chars"}
    assert varied.variation is not None
    assert varied.variation.seeds == suite.budget.report_seeds


def test_a_derived_suite_finds_the_data_beside_the_one_it_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "own" / "digits").mkdir(parents=True)
    suite = load_suite("transfer")
    digits = suite.dataset["digits"].model_copy(update={"source": "some-one/digits", "folder": "digits"})
    suite = suite.model_copy(update={"dataset": {**suite.dataset, "digits": digits}})
    file = write_derived(varied_middle(suite), tmp_path / "own" / "suite.toml", tmp_path / "elsewhere")
    assert file == tmp_path / "elsewhere" / "transfer-robustness.toml"
    written = load_suite(str(file)).dataset
    assert (written["digits"].source, written["digits"].folder) == ("some-one/digits", str(tmp_path / "own" / "digits"))
    assert written["stdlib-chars"] == suite.dataset["stdlib-chars"]


def test_torn_robustness_runs_are_run_again(copied: Path) -> None:
    evaluation = evaluate(copied)
    (file,) = (copied / "out" / "robustness").glob("policy-*/records.jsonl")
    keep(file.parent, 5)  # of 2 reports and 12 varied runs
    started = Started()
    again = evaluate(copied, started)
    assert started.jobs == [("digits-mlp-3", "policy:mine", "varied", 1)]
    assert robustness_csv(again) == robustness_csv(evaluation)


def test_robustness_runs_that_failed_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy whose varied runs fail keeps its row, with its report only."""
    shutil.copytree(folder, tmp_path / "copied")
    shutil.rmtree(tmp_path / "copied" / "out" / "robustness")

    def fails(engine: Any, contestants: Sequence[Contestant], *words: Any) -> Any:
        if len(contestants) > 1 and contestants[0].name == "policy:mine":
            raise PluginError("not from here")
        return drive(engine, contestants, *words)

    monkeypatch.setattr("ganno_bench.bench.runner.drive", fails)
    evaluation = evaluate(tmp_path / "copied")
    assert [failure.error for failure in evaluation.failures] == ["robustness: not from here"]
    rows = {row[1]: row[2:] for row in robustness_table(evaluation).rows}
    assert [cell == "-" for cell in rows["policy:mine"]] == [True, True, False, True, True, True, True]
    assert "-" not in rows["cosine@default"]
    write_evaluation(evaluation)
    page = (tmp_path / "copied" / "out" / "README.md").read_text()
    assert "- policy:mine on digits-mlp-3: robustness: not from here" in page


# The page


@pytest.mark.usefixtures("drawn")
def test_the_report_lists_failures_from_the_worst(evaluation: Evaluation, tmp_path: Path) -> None:
    trace = LrTrace(updates=(0, 4, 11), layers=("a", "b"), lr=((0.01, 0.01), (0.08, 0.02), (0.004, 0.001)))

    def worse(run: RunRecord) -> RunRecord:
        if run.scheduler == "cosine":
            metrics = run.metrics.model_copy(update={"val_loss": 1.0})
            return run.model_copy(update={"metrics": metrics, "config": {"base_lr": 0.4, "weight_decay": 1e-5}})
        if run.scheduler != "policy:mine":
            return run
        metrics = run.metrics.model_copy(update={"val_loss": {"digits-mlp-1": 1.1, "digits-mlp-3": 2.0}[run.workload]})
        return run.model_copy(update={"metrics": metrics, "lr_trace": trace})

    stale = tmp_path / "plots" / "failure-of-before.png"
    stale.parent.mkdir()
    stale.touch()
    lost = replace(evaluation, path=tmp_path, records=tuple(map(worse, evaluation.records)))
    write_evaluation(lost)
    page = (tmp_path / "README.md").read_text()
    assert "The policy is significantly worse than tuned cosine in 2 of 2 cells." in page
    deep, shallow = (f"### {name}: {score}" for name, score in (("digits-mlp-3", "-69.3"), ("digits-mlp-1", "-9.5")))
    assert 0 < page.index(deep) < page.index(shallow)
    assert "Median loss: 2 nats, tuned cosine 1 nats (new depth)." in page
    assert (
        "The policy's learning rate (mean over layers) starts from the default, 0.01. It peaks at 0.04 at update 4, "
        "0.1 times the tuned base learning rate of 0.4. It ends at 0.05 of its peak"
    ) in page
    assert (
        "Learning rates of layers differ by a factor of up to 4. Weight decay is 0.0001, tuned cosine's 1e-05."
    ) in page
    for name in WORKLOADS:
        assert f"(plots/failure-{name}.png)" in page
        assert (tmp_path / "plots" / f"failure-{name}.png").stat().st_size > 10_000
    assert not stale.exists()


def test_every_plot_of_the_report_exists(folder: Path) -> None:
    page = (folder / "out" / "README.md").read_text()
    names = [part.partition(")")[0] for part in page.split("](")[1:]]
    assert {"plots/transfer.png", "plots/schedules.png", "plots/robustness.png"} <= set(names)
    assert all((folder / "out" / name).is_file() for name in names)
    assert str(folder) not in page


def test_the_matrix_as_csv(evaluation: Evaluation) -> None:
    lines = matrix_csv(evaluation, cells_of(evaluation)).splitlines()
    assert len(lines) == 1 + len(WORKLOADS) * len(RIVALS)
    assert lines[1].startswith("digits-mlp-1,mlp,1,digits,sgd,seen,cosine,false,")


def test_robustness_as_csv(evaluation: Evaluation) -> None:
    text = (evaluation.path / "robustness.csv").read_text()
    assert text == robustness_csv(evaluation)
    rows = list(csv.DictReader(io.StringIO(text)))
    for row, run in zip(rows, evaluation.robustness, strict=True):
        assert (row["factor"], float(row["multiple"])) == (
            run.factor or "",
            1 if run.multiple is None else run.multiple,
        )
        assert (row["entry"], int(row["seed"]), float(row["val_loss"])) == (run.scheduler, run.seed, run.objective)


# What can be wrong


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"policy": "gano"},
            ConfigError,
            "policy 'gano' is neither a folder nor the name of a shipped policy; did you mean 'ganno'?; "
            "shipped policies: ganno, ganno-anchored, ganno-global, ganno-light",
        ),
        ({"suite": "transfr"}, UnknownNameError, "unknown suite 'transfr'; did you mean 'transfer'?"),
        ({"trials": -1}, ConfigError, "option --trials: must be at least 1 (value: -1)"),
        ({"seeds": 0}, ConfigError, "option --seeds: must be at least 1 (value: 0)"),
        ({"against": ["cosin"]}, UnknownNameError, "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        ({"data_dirs": [Path("no/where")]}, DatasetError, "--data-dir: data folder 'no/where' does not exist"),
    ],
)
def test_one_line_says_it(folder: Path, settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        evaluate(folder, **settings)
    assert str(caught.value) == message


def test_a_policy_is_no_rival_of_its_own(folder: Path) -> None:
    with pytest.raises(ConfigError, match="has the policy's name, 'policy:mine'; leave it out"):
        evaluate(folder, against=[f"policy:{folder / 'policy'}"])


def test_the_suite_transfer() -> None:
    suite = load_suite("transfer")
    families = {str(spec.model["family"]) for spec in suite.workload}
    assert families == {"mlp", "cnn", "transformer"}
    for family in families:
        own = [spec for spec in suite.workload if spec.model["family"] == family]
        assert len({spec.dataset for spec in own}) == 3
        assert len({spec.model["depth"] for spec in own}) == 4
        assert len({(spec.dataset, spec.model["depth"]) for spec in own}) == len(own) == 12
    assert {spec.optimizer.name for spec in suite.workload if spec.model["family"] == "mlp"} == {"sgd", "adamw"}
