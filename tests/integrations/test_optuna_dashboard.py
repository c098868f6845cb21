"""The released optuna-dashboard shows the studies of a run, opened as its command opens them."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest

from ganno_bench.core.records import read_records
from tests.helpers.tiny_suite import SMALL, results, run_tiny


class Dashboard:
    """The requests of the dashboard's page to its server."""

    def __init__(self, journal: Path) -> None:
        self.app = optuna_dashboard.wsgi(str(journal))

    def get(self, path: str) -> Any:
        environment: dict[str, Any] = {}
        setup_testing_defaults(environment)
        environment |= {"PATH_INFO": path, "wsgi.input": io.BytesIO()}
        status: list[str] = []
        body = b"".join(self.app(environment, lambda line, headers, *rest: status.append(line)))
        assert status == ["200 OK"], body
        return json.loads(body)

    def studies(self) -> dict[str, Any]:
        """Return name of a study, without the part of the run -> the shown data."""
        listed = self.get("/api/studies")["study_summaries"]
        found = {study["study_name"].split("@")[0]: self.get(f"/api/studies/{study['study_id']}") for study in listed}
        assert len(found) == len(listed)
        return found


def test_every_study_of_a_run_with_its_trials(tiny_run: Path) -> None:
    objectives: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    configs: dict[tuple[str, int], Any] = {}
    for record in read_records([tiny_run]):
        if record.role == "tuning":
            name = f"{record.suite}/{record.workload}/{record.scheduler}/{record.study}"
            objectives[name][record.trial].append(record.objective)
            configs[name, record.trial] = record.config
    shown = Dashboard(tiny_run / "studies.journal").studies()
    assert sorted(shown) == sorted(objectives)
    assert len(shown) == 4
    for name, study in shown.items():
        assert study["directions"] == ["minimize"]
        assert [trial["state"] for trial in study["trials"]] == ["Complete"] * 6
        for trial in study["trials"]:
            values = objectives[name][trial["number"]]
            assert trial["values"] == [sum(values) / len(values)]
            params = {param["name"]: param["param_external_value"] for param in trial["params"]}
            assert params == {key: str(value) for key, value in configs[name, trial["number"]].items()}
        best = min(study["trials"], key=lambda trial: trial["values"])
        assert [trial["number"] for trial in study["best_trials"]] == [best["number"]]
        assert study["has_intermediate_values"]


def test_looking_changes_nothing_and_a_run_goes_on_afterwards(tiny_run: Path, tmp_path: Path) -> None:
    for name in ("tiny.toml", "out"):
        copy = shutil.copytree if (tiny_run.parent / name).is_dir() else shutil.copy
        copy(tiny_run.parent / name, tmp_path / name)
    suite, out = tmp_path / "tiny.toml", tmp_path / "out"
    before = (out / "studies.journal").read_bytes()
    dashboard = Dashboard(out / "studies.journal")
    assert len(dashboard.studies()) == 4
    assert (out / "studies.journal").read_bytes() == before
    run_tiny(suite, out, schedulers=["cosine", "wsd", "linear"])
    assert results(out)[:60] == results(tiny_run)
    # The page that is open sees what came since.
    assert len(dashboard.studies()) == 6


def test_a_run_while_it_is_going_on(tiny_run: Path, tmp_path: Path) -> None:
    """The journal is read while its last line is being written."""
    journal = tmp_path / "studies.journal"
    content = (tiny_run / "studies.journal").read_bytes()
    journal.write_bytes(content[:-20])
    assert len(Dashboard(journal).studies()) == 4


@pytest.mark.slow(group="storage")
def test_the_studies_of_a_storage_of_the_users(tiny_run: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    for study in (0, 1):
        run_tiny(
            tiny_run.parent / "tiny.toml",
            tmp_path / f"out-{study}",
            storage=url,
            study=study,
            schedulers=["wsd"],
            **SMALL,
        )
    shown = Dashboard(url).studies()  # type: ignore[arg-type]
    assert sorted(shown) == [f"tiny/{workload}/wsd/{study}" for workload in ("adam-mlp", "sgd-mlp") for study in (0, 1)]
