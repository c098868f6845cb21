"""The OptunaHub problem returns the values of the benchmark's own studies, however Optuna calls it."""

from __future__ import annotations

import dataclasses
import math
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import optuna
import optunahub
import pytest

from ganno_bench.core.errors import ConfigError, UnknownNameError, UserError
from ganno_bench.core.records import RunRecord, read_records
from ganno_bench.integrations.optunahub import SchedulerProblem
from ganno_bench.workloads.workload import Workload, load_workload

ROOT = Path(__file__).resolve().parents[2]
HUB = ROOT / "examples" / "optunahub" / "package"
EXPLODE = """
from dataclasses import dataclass
from ganno_bench.schedulers import ClosedForm


@dataclass(frozen=True)
class Explode(ClosedForm):
    '''Explodes.'''

    def factor(self, update, total):
        return 1e30
"""


@pytest.fixture(scope="module")
def suite(tiny_run: Path) -> str:
    return str(tiny_run.parent / "tiny.toml")


@pytest.fixture(scope="module")
def problem(suite: str) -> SchedulerProblem:
    return SchedulerProblem(suite, "sgd-mlp", "cosine")


def test_values_are_those_of_a_recorded_study(tiny_run: Path, problem: SchedulerProblem) -> None:
    trials: dict[int, list[RunRecord]] = defaultdict(list)
    for record in read_records([tiny_run]):
        if (record.workload, record.scheduler, record.role) == ("sgd-mlp", "cosine", "tuning"):
            trials[record.trial].append(record)
    assert len(trials) == 6
    recorded = [sum(record.objective for record in runs) / len(runs) for runs in trials.values()]
    configs = [runs[0].config for runs in trials.values()]
    assert problem.evaluate_batch(configs) == recorded
    assert [problem.evaluate(config) for config in configs] == recorded
    assert len(set(recorded)) > 1


def test_an_optuna_study_optimizes_it(problem: SchedulerProblem) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0), directions=problem.directions)
    study.enqueue_trial(problem.default)
    study.optimize(problem, n_trials=3)
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.trials[0].params == problem.default
    assert [trial.distributions for trial in study.trials] == [problem.search_space] * 3
    assert [trial.value for trial in study.trials] == problem.evaluate_batch([trial.params for trial in study.trials])


def test_threads_that_share_it_get_the_same_values(problem: SchedulerProblem) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=6, n_jobs=3)
    assert [trial.value for trial in study.trials] == problem.evaluate_batch([trial.params for trial in study.trials])


def test_what_diverges_counts_as_chance(tmp_path: Path, suite: str) -> None:
    plugin = tmp_path / "explode.py"
    plugin.write_text(EXPLODE)
    problem = SchedulerProblem(suite, "sgd-mlp", f"{plugin}:Explode")
    assert problem.evaluate(problem.default) == problem.chance == math.log(10)


def test_seeds_are_those_of_the_study(tiny_run: Path, problem: SchedulerProblem, suite: str) -> None:
    first = [
        r for r in read_records([tiny_run]) if (r.workload, r.scheduler, r.role) == ("sgd-mlp", "cosine", "tuning")
    ]
    best = min((record for record in first if record.seed == 0), key=lambda record: record.objective)
    single = SchedulerProblem(suite, "sgd-mlp", "cosine", tuning_seeds=1)
    assert single.evaluate(best.config) == best.objective < problem.chance
    assert SchedulerProblem(suite, "sgd-mlp", "cosine", study=1).evaluate(best.config) != problem.evaluate(best.config)


def test_test_data_are_never_touched(problem: SchedulerProblem, suite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Untouchable:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"test data were asked for {name!r}")

    def without_test(*arguments: Any) -> Workload:
        workload = load_workload(*arguments)
        return dataclasses.replace(workload, dataset=dataclasses.replace(workload.dataset, test=Untouchable()))  # type: ignore[arg-type]

    monkeypatch.setattr("ganno_bench.integrations.optunahub.load_workload", without_test)
    blind = SchedulerProblem(suite, "sgd-mlp", "cosine")
    assert blind.evaluate(problem.default) == problem.evaluate(problem.default)
    with pytest.raises(AssertionError, match="asked for"):
        blind._engine.workload.dataset.test.windows()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"base_lr": 0.1, "weight_decay": 1e-4}, "parameter 'final_factor' is missing"),
        ({"base_ir": 0.1}, "unknown parameter 'base_ir'; did you mean 'base_lr'?"),
        ({"base_lr": 100.0, "weight_decay": 1e-4, "final_factor": 0.1}, "parameter 'base_lr': must be in FloatDistr"),
        ({"base_lr": "x", "weight_decay": 1e-4, "final_factor": 0.1}, "(value: 'x')"),
    ],
)
def test_parameters_that_are_not_in_the_search_space(
    problem: SchedulerProblem, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        problem.evaluate_batch([problem.default, params])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "settings", "error", "message"),
    [
        (("sgd-mlp", "policy:ganno"), {}, ConfigError, "is zero-shot and has nothing to tune"),
        (("sgd-mlp", "default:cosine"), {}, ConfigError, "is zero-shot and has nothing to tune"),
        (("sdg-mlp", "cosine"), {}, UnknownNameError, "has no workload 'sdg-mlp'; did you mean 'sgd-mlp'?"),
        (("sgd-mlp", "cosin"), {}, UnknownNameError, "unknown scheduler 'cosin'; did you mean 'cosine'?"),
        (("sgd-mlp", "cosine"), {"tuning_seeds": 0}, ConfigError, "tuning_seeds: must be at least 1 (value: 0)"),
    ],
)
def test_problems_that_there_are_not(
    suite: str, arguments: tuple[str, str], settings: dict[str, Any], error: type[UserError], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        SchedulerProblem(suite, *arguments, **settings)


def test_an_empty_batch(problem: SchedulerProblem) -> None:
    assert problem.evaluate_batch([]) == []


def test_without_optunahub_the_message_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['optunahub'] = None; import ganno_bench.integrations.optunahub"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        "MissingPackageError: OptunaHub problems need optional packages; pip install 'ganno-bench[optunahub]'"
        in done.stderr
    )


def test_the_package_for_the_hub(suite: str, problem: SchedulerProblem) -> None:
    hub = optunahub.load_local_module("benchmarks/ganno_bench", registry_root=str(HUB))
    assert hub.Problem(suite, "sgd-mlp", "cosine").evaluate(problem.default) == problem.evaluate(problem.default)


def test_what_the_hub_asks_of_a_package() -> None:
    folder = HUB / "benchmarks" / "ganno_bench"
    _, front, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert list(fields) == ["author", "title", "description", "tags", "optuna_versions", "license"]
    assert "benchmark" in fields["tags"]
    assert optuna.__version__ in fields["optuna_versions"]
    assert (folder / "LICENSE").is_file()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (folder / "requirements.txt").read_text() == f"{project['name']}[optunahub]\n"
    assert fields["license"] == "Apache License 2.0"
