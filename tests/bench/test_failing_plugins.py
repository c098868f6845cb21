"""A scheduler that fails takes down its own runs and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from ganno_bench import api
from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Failure
from ganno_bench.core.errors import PluginError, UnknownNameError
from ganno_bench.core.records import read_records
from tests.helpers.tiny_suite import SMALL, WORKLOADS, results, run_tiny, write_plugin

RETURN = "return Controls(lr), state"
INTERVAL = "    interval = 2\n"
TUNED = """
    @classmethod
    def search_space(cls):
        from optuna.distributions import CategoricalDistribution
        return {"x": CategoricalDistribution(%s)}
"""
BROKEN = {  # class -> what is changed in the plugin, and what is said of it
    "RaisesInInit": (
        ("        return run.base_lr\n", "        raise OSError('out of luck')\n"),
        "init raised OSError: out of luck",
    ),
    "RaisesInStep": (
        ("        lr = ", "        assert signals.n_updates < 4, 'too far'\n        lr = "),
        "step raised AssertionError: too far",
    ),
    "GivesNaN": (
        (RETURN, "return Controls(lr * (float('nan') if signals.n_updates == 2 else 1)), state"),
        "update 2, run 0: expected a finite learning rate >= 0, got nan for layer 0",
    ),
    "GivesNegative": ((RETURN, "return Controls(-lr), state"), "update 0, run 0: expected a finite"),
    "GivesOtherShape": ((RETURN, "return Controls(lr[:, :1]), state"), ", got float64 of shape (2, 1)"),
    "GivesNumber": ((RETURN, "return Controls(0.1), state"), ""),
    "GivesNoControls": ((RETURN, "return lr, state"), ""),
    "GivesNoState": ((RETURN, "return Controls(lr)"), ""),
    "GivesNothing": ((RETURN, "pass"), ""),
    "GivesNoUpdates": ((RETURN, "return Controls(lr.expand(0, *lr.shape)), state"), ""),
    "GivesFloat": (
        (RETURN, "return Controls(lr.float()), state"),
        "update 0: expected float64 learning rates of shape (2, 2) or (n, 2, 2), got float32 of shape (2, 2)",
    ),
    "SetsDtype": (
        (
            "        return run.base_lr\n",
            "        torch.set_default_dtype(torch.float64)\n        return run.base_lr\n",
        ),
        "init changed PyTorch's default dtype from torch.float32 to torch.float64",
    ),
    "SetsThreads": (
        (RETURN, "torch.set_num_threads(2); " + RETURN),
        "step changed PyTorch's number of threads from 1 to 2",
    ),
    "Seeds": (
        (RETURN, "torch.manual_seed(0); " + RETURN),
        "step drew from or seeded the global random numbers of",
    ),
    "Ends": ((RETURN, "exit(0)"), "step raised SystemExit: 0"),
    "RefusesConfigs": (
        (
            "    interval = 2\n",
            """
    interval = 2
    share: float = 0.5
    @classmethod
    def search_space(cls):
        from optuna.distributions import FloatDistribution
        return {"share": FloatDistribution(0.1, 0.9)}
    def __post_init__(self):
        from ganno_bench.core.errors import ConfigError
        if self.share != 0.5:
            raise ConfigError("share is odd")
""",
        ),
        "'refuses-configs' cannot be run: share is odd",
    ),
    "GivesDecayAsNumber": ((RETURN, "return Controls(lr, 0.1), state"), ""),
}


def test_the_others_are_complete(suite: Path, tmp_path: Path, unbroken: Path) -> None:
    out = tmp_path / "out"
    refs = {
        name: write_plugin(tmp_path, edit, ("class Mine", f"class {name}"), name=f"{name}.py").replace(
            ":Mine", f":{name}"
        )
        for name, (edit, _) in BROKEN.items()
    }
    done = run_tiny(suite, out, schedulers=["cosine", *refs.values(), "wsd"])
    assert results(out) == results(unbroken)
    assert len(done.failures) == len(BROKEN) * len(WORKLOADS)
    for failure, (name, (_, reason)) in zip(done.failures, 2 * [*BROKEN.items()], strict=True):
        assert failure.scheduler.replace("-", "") == name.lower()
        assert reason in failure.error
        assert "\n" not in failure.error
        assert name in failure.error or failure.scheduler in failure.error
    assert [failure.workload for failure in done.failures] == [w for w in WORKLOADS for _ in BROKEN]
    written = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    traces = [line.pop("traceback") for line in written]
    assert [Failure(**line) for line in written] == done.failures
    assert re.search(r'/RaisesInStep.py", line \d+, in step\n', traces[1])


def test_it_may_fail_on_one_workload_only(suite: Path, tmp_path: Path) -> None:
    picky = ("        return run.base_lr\n", "        assert run.optimizer == 'adam'\n        return run.base_lr\n")
    done = run_tiny(suite, tmp_path / "out", schedulers=[write_plugin(tmp_path, picky)], **SMALL)
    assert [failure.workload for failure in done.failures] == ["sgd-mlp"]
    assert [(r.workload, r.role) for r in done.records] == [("adam-mlp", "tuning")] * 2 + [("adam-mlp", "report")] * 2


def test_what_it_did_before_it_failed_is_kept(suite: Path, tmp_path: Path) -> None:
    # The first batch has 6 runs in configurations of 2, the report has 3.
    late = ("        return run.base_lr\n", "        assert run.n_runs == 2, 'no report'\n        return run.base_lr\n")
    out = tmp_path / "out"
    ref = write_plugin(tmp_path, late)
    for _ in range(2):  # the same call again tries again, and fails again
        done = run_tiny(suite, out, schedulers=[ref, "cosine"])
        own = [r for r in done.records if r.scheduler == "mine"]
        assert len(own) == 24
        assert {r.role for r in own} == {"tuning"}
        assert len(done.failures) == 2
    assert len((out / "failures.jsonl").read_text().splitlines()) == 4


class Told(Progress):
    def __init__(self) -> None:
        self.failures: list[tuple[str, str, str]] = []

    def failed(self, workload: str, entry: str, error: str) -> None:
        self.failures.append((workload, entry, error))


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")  # Optuna's own
@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (("import torch\n", "import torhc\n"), "cannot be imported: ModuleNotFoundError: No module named 'torhc'"),
        (("import torch\n", "raise ValueError('a\\nb')\n"), "cannot be imported: ValueError: a b"),
        (("import torch\n", "exit(0)\n"), "importing it raised SystemExit: 0"),
        (
            ("import torch\n", "import torch\ntorch.set_default_dtype(torch.float64)\n"),
            "importing it changed PyTorch's default dtype from torch.float32 to torch.float64",
        ),
        (("class Mine(", "class Mine:\n  pass\nclass Other("), "is not a subclass of ganno_bench.schedulers.Scheduler"),
        (("@dataclass(frozen=True)", ""), "is not a dataclass"),
        ((INTERVAL, f"{TUNED % '(None, 1.0)'}\n    x: float | None = None\n{INTERVAL}"), "has the choice None for 'x'"),
        (
            (INTERVAL, f"{TUNED % '((1, 2), (3, 4))'}\n    x: tuple = (1, 2)\n{INTERVAL}"),
            "has the choice (1, 2) for 'x'",
        ),
    ],
)
def test_a_broken_file_among_good_ones(suite: Path, tmp_path: Path, edit: tuple[str, str], reason: str) -> None:
    told = Told()
    ref = write_plugin(tmp_path, edit)
    done = run_tiny(suite, tmp_path / "out", told, schedulers=["cosine", ref], **SMALL)
    assert torch.get_default_dtype() == torch.float32
    assert [(w, s) for w, s, _ in told.failures] == [(w, ref) for w in WORKLOADS]
    assert all(reason in error and "\n" not in error for _, _, error in told.failures)
    assert [Failure(*failure) for failure in told.failures] == done.failures
    assert {(r.workload, r.scheduler) for r in read_records([tmp_path / "out"])} == {(w, "cosine") for w in WORKLOADS}


def test_a_class_that_refuses_what_its_own_search_space_proposes(suite: Path, tmp_path: Path) -> None:
    error = ("import torch\n", "import torch\nfrom ganno_bench.core.errors import ConfigError\n")
    check = "def __post_init__(self):\n        if self.x: raise ConfigError('odd')"
    ref = write_plugin(tmp_path, error, (INTERVAL, f"{TUNED % '(0, 1)'}\n    x: int = 0\n    {check}\n{INTERVAL}"))
    done = run_tiny(suite, tmp_path / "out", schedulers=[ref, "cosine"], trials=6, tuning_seeds=1, report_seeds=2)
    assert {(f.workload, f.scheduler) for f in done.failures} == {(w, "mine") for w in WORKLOADS}
    assert all(": odd" in failure.error for failure in done.failures)
    assert {(r.workload, r.scheduler) for r in done.records} >= {(w, "cosine") for w in WORKLOADS}


def test_two_pinned_variants_of_a_broken_file_are_two_failures(suite: Path, tmp_path: Path) -> None:
    ref = write_plugin(tmp_path, ("import torch\n", "import torhc\n"))
    done = run_tiny(suite, tmp_path / "out", schedulers=["cosine", f"{ref}(a=1)", f"{ref}(a=2)"], **SMALL)
    assert {failure.scheduler for failure in done.failures} == {f"{ref}(a=1)", f"{ref}(a=2)"}


def test_with_nothing_but_broken_files_there_is_nothing_to_run(suite: Path, tmp_path: Path) -> None:
    ref = write_plugin(tmp_path, ("import torch\n", "import torhc\n"))
    with pytest.raises(PluginError, match="cannot be imported: ModuleNotFoundError: No module named 'torhc'") as caught:
        run_tiny(suite, tmp_path / "out", schedulers=[ref])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_misspelt_name_among_good_ones_stops_everything_before_it_begins(suite: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown scheduler 'cosin'; did you mean 'cosine'"):
        run_tiny(suite, tmp_path / "out", schedulers=["wsd", "cosin"])
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_tables_name_who_is_missing(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = write_plugin(tmp_path, ("        return run.base_lr\n", "        return 1 / 0\n"))
    settings = {"schedulers": [broken, "cosine"], "baselines": False, "trials": 2, "tuning_seeds": 1, "report_seeds": 1}
    report = api.run(str(suite), out=tmp_path / "out", **settings)
    remark = "Missing from these tables, because they failed on every workload: mine."
    assert report.standings is not None
    assert report.standings.notes[0] == remark
    assert remark in (tmp_path / "out" / "standings.md").read_text()

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(api, "write_plots", fail)
    again = api.run(str(suite), out=tmp_path / "out", **settings)
    assert again.standings == report.standings
    assert (
        again.note
        == "no plots: ZeroDivisionError: float division by zero (test_failing_plugins.py:213); please report it"
    )
