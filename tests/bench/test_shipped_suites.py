"""The project's own suites run: the tiny one from end to end, the large ones for an update of every workload."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ganno_bench import api
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.population import Engine
from ganno_bench.tuning.space import contestant, default_config
from ganno_bench.workloads.datasets import data_directories
from ganno_bench.workloads.models import MODELS
from ganno_bench.workloads.suite import find_suite, load_suite
from ganno_bench.workloads.workload import load_workloads

DATA = os.environ.get("GANNO_BENCH_DATA", "")
LARGE = [(name, spec.id) for name in ("vision-large", "text-large") for spec in load_suite(name).workload]


def test_the_smoke_suite_has_every_family() -> None:
    assert {spec.model["family"] for spec in load_suite("smoke").workload} == set(MODELS.entries())


@pytest.mark.slow(group="suites")
def test_the_smoke_suite_runs(tmp_path: Path) -> None:
    # One network after another: to record the vectorised passes would take most of the time.
    report = api.run("smoke", schedulers=["cosine", "policy:ganno-anchored"], backend="loop", out=tmp_path / "out")
    assert not report.failures
    assert report.standings is not None
    entries = [("tuned", "cosine"), ("zero-shot", "policy:ganno-anchored")]
    assert report.standings.cells.keys() == {
        (*entry, spec.id) for entry in entries for spec in load_suite("smoke").workload
    }
    assert all(cell.n_runs == 2 for cell in report.standings.cells.values())


@pytest.mark.slow(group="long")
@pytest.mark.skipif(not DATA, reason="GANNO_BENCH_DATA names no folder with the datasets")
@pytest.mark.parametrize(("name", "workload"), LARGE, ids=[workload for _, workload in LARGE])
def test_a_large_workload_can_be_trained_on_a_cpu(name: str, workload: str) -> None:
    suite = load_suite(name)
    spec = suite.find_workload(workload).model_copy(update={"n_updates": 1, "n_evaluations": 1, "batch_size": 8})
    small = suite.dataset[spec.dataset].model_copy(
        update={"max_train": 20000, "max_validation": 1024, "max_test": 1024}
    )
    part = suite.model_copy(update={"workload": (spec,), "dataset": {spec.dataset: small}})
    (loaded,) = load_workloads(part, find_suite(name), data_directories(()))
    entry = load_scheduler("cosine")
    result = drive(Engine(loaded), [contestant(entry, default_config(entry, spec.optimizer.name))], [0])
    assert not bool(result.population.diverged.any())
    assert bool(result.val_loss.isfinite().all())
