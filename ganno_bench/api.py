"""What the command line does, for Python: run or tune a suite, evaluate a policy, read records."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganno_bench.baselines.files import BaselineFolder, compare_with
from ganno_bench.baselines.write import BaselineWriter
from ganno_bench.bench.evaluation import Evaluation, EvaluationSettings, run_evaluation
from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Failure, RunResult, Settings, run_suite
from ganno_bench.core.errors import RecordError, one_line
from ganno_bench.core.records import RunRecord, read_records
from ganno_bench.leaderboard.evaluation import write_evaluation
from ganno_bench.leaderboard.evaluation_tables import cells_of
from ganno_bench.leaderboard.formats import write_tables
from ganno_bench.leaderboard.plots import write_plots
from ganno_bench.leaderboard.robustness_formats import write_robustness
from ganno_bench.scoring.results import Standings
from ganno_bench.scoring.robustness import Robustness, robustness
from ganno_bench.scoring.transfer import TransferCell
from ganno_bench.workloads.suite import load_suite

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "EvaluationReport",
    "Report",
    "baselines_folder",
    "evaluate",
    "evaluate_with_settings",
    "load_records",
    "run",
    "run_with_settings",
    "tune",
    "tune_with_settings",
]


@dataclass(frozen=True)
class Report:
    """What a run left behind.

    Attributes:
        path: The run directory.
        records: All of its records.
        failures: Schedulers that could not be run on a workload, and why.
        standings: Who stands where; None where there is nothing to score against.
        note: Why there are no standings, or no plots, or an empty string.
        files: What was written, by what it is.
        robustness: How the entries fare with one factor changed; None where the suite varies nothing.
    """

    path: Path
    records: list[RunRecord]
    failures: list[Failure]
    standings: Standings | None
    note: str
    files: dict[str, Path]
    robustness: Robustness | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """How a policy generalises.

    Attributes:
        evaluation: What was measured.
        cells: The transfer matrix.
        files: What was written, by what it is.
    """

    evaluation: Evaluation
    cells: tuple[TransferCell, ...]
    files: dict[str, Path]


def run(suite: str, *, baselines: bool | str | Path = True, **settings: Any) -> Report:
    """Run a suite to its end, or go on where an earlier call stopped; write the tables and plots.

    Args:
        suite: Name of a suite, or path to a TOML file.
        baselines: Whether to compare with the committed baselines, or the folder that they lie in.
        settings: See `Settings`: `schedulers`, `trials`, `out`, `data_dirs`, `device`, ...

    Raises:
        UserError: Something in the settings, the suite or the data is wrong.
    """
    return run_with_settings(Settings(suite, **_with_paths(settings)), baselines=baselines)


def run_with_settings(
    settings: Settings, progress: Progress | None = None, *, baselines: bool | str | Path = True
) -> Report:
    """Run a suite; see `run`."""
    return _report(run_suite(settings, progress), baselines_folder(baselines))


def tune(
    suite: str,
    *,
    baselines: str | Path | None = None,
    write_baselines: bool = False,
    replace: bool = False,
    **settings: Any,
) -> Report:
    """Run a suite as `run` does, and commit what comes out as baselines.

    Args:
        suite: Name of a suite, or path to a TOML file.
        baselines: The folder of the baselines; by default the project's.
        write_baselines: Whether to write into it, whenever an entry is done with a workload.
        replace: Whether to replace what is there and differs, which is an error otherwise.
        settings: See `Settings`; `out` is `runs/tune/SUITE/study-N` by default.

    Raises:
        BaselineError: The settings are not the suite's own, or a result contradicts a committed one.
        UserError: Something else in the settings, the suite or the data is wrong.
    """
    wanted = Settings(suite, **_with_paths(settings))
    return tune_with_settings(wanted, baselines=baselines, write_baselines=write_baselines, replace_baselines=replace)


def tune_with_settings(
    settings: Settings,
    progress: Progress | None = None,
    *,
    baselines: str | Path | None = None,
    write_baselines: bool = False,
    replace_baselines: bool = False,
) -> Report:
    """Tune a suite; see `tune`."""
    suite = load_suite(settings.suite)
    if settings.out is None:
        settings = replace(settings, out=Path("runs") / "tune" / suite.name / f"study-{settings.study}")
    folder = BaselineFolder(Path(baselines)) if baselines else BaselineFolder()
    if not write_baselines:
        return _report(run_suite(settings, progress), folder)
    writer = BaselineWriter(folder, replace=replace_baselines)
    writer.check_budget(settings.budget(suite) != suite.budget)
    result = run_suite(settings, progress, writer.write, writer.is_needed)
    report = _report(result, folder)
    if not result.records and not result.failures:
        report = replace(report, note="nothing to run: all of it is committed; --replace runs it again", files={})
    report.files["baselines"] = folder.path
    return report


def baselines_folder(baselines: bool | str | Path) -> BaselineFolder | None:
    """Return the folder that a value of the option means: True is the project's, False is none."""
    if isinstance(baselines, bool):
        return BaselineFolder() if baselines else None
    return BaselineFolder(Path(baselines))


def _report(result: RunResult, folder: BaselineFolder | None) -> Report:
    files = {"records": result.path / "records.jsonl"}
    comparison = compare_with(folder, result.records)
    try:
        table = comparison.standings()
    except RecordError as error:
        note = "\n".join([f"no standings: {error}", *comparison.notes])
        return Report(result.path, result.records, result.failures, None, note, files)
    ranked = {record.scheduler for record in result.records}
    if absent := sorted({failure.scheduler for failure in result.failures} - ranked):
        remark = f"Not in these tables, since they failed on every workload: {', '.join(absent)}."
        table = replace(table, notes=(remark, *table.notes))
    files["table"] = write_tables(table, result.path)[0]
    varied = robustness(comparison.records, table)
    if varied is not None:
        files["varied"] = write_robustness(varied, result.path)[0]
    note = ""
    try:
        write_plots(comparison.records, table, result.path / "plots", comparison.studies)
    except Exception as error:  # a picture that cannot be drawn takes no table away
        note = f"no plots: {one_line(error)}; please report it"
    else:
        files["plots"] = result.path / "plots"
    return Report(result.path, result.records, result.failures, table, note, files, varied)


def evaluate(policy: str, suite: str = "transfer", **settings: Any) -> EvaluationReport:
    """Say how far a policy generalises, by validation loss alone, or go on where an earlier call stopped.

    Args:
        policy: A policy's folder, or the name of a shipped one.
        suite: Name of a suite, or path to a TOML file.
        settings: See `EvaluationSettings`: `against`, `trials`, `seeds`, `out`, `data_dirs`, `device`, ...

    Raises:
        UserError: Something in the settings, the policy, the suite or the data is wrong.
    """
    return evaluate_with_settings(EvaluationSettings(policy, suite, **_with_paths(settings)))


def evaluate_with_settings(settings: EvaluationSettings, progress: Progress | None = None) -> EvaluationReport:
    """Evaluate a policy; see `evaluate`."""
    evaluation = run_evaluation(settings, progress)
    return EvaluationReport(evaluation, cells_of(evaluation), write_evaluation(evaluation))


def load_records(*paths: str | Path) -> pd.DataFrame:
    """Read records into a table: a row for each training run, nested fields as `metrics.test_loss` and so on.

    Args:
        paths: Run directories, or record files.

    Raises:
        RecordError: A file is missing, a line of it is no record, or it is not as it was written.
    """
    import pandas as pd

    records: Iterable[RunRecord] = read_records(Path(path) for path in paths)
    rows = [record.model_dump(mode="json") for record in records]
    # The hyperparameters stay together: each scheduler has others.
    configs = [row.pop("config") for row in rows]
    frame = pd.json_normalize(rows)
    frame["config"] = configs
    return frame


def _with_paths(settings: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {name: Path(settings[name]) for name in ("out", "rivals") if settings.get(name) is not None}
    if "data_dirs" in settings:
        paths["data_dirs"] = [Path(folder) for folder in settings["data_dirs"]]
    return settings | paths
