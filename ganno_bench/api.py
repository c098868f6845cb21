"""The Python API: run or tune a suite, evaluate a policy, read records."""

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
    """The results of a run.

    Attributes:
        path: The run directory.
        records: All records in it.
        failures: Schedulers that failed on a workload, each with its error.
        standings: The tables; None if the records cannot be scored.
        note: Why there are no standings or no plots; otherwise empty.
        files: Kind of output, such as `records` or `table` -> its path.
        robustness: Results with one factor changed; None if the suite varies nothing.
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
    """The results of an evaluation of a policy.

    Attributes:
        evaluation: All measurements.
        cells: The transfer matrix: the policy against its rivals, one cell for each workload.
        files: Kind of output, such as `page` or `matrix` -> its path.
    """

    evaluation: Evaluation
    cells: tuple[TransferCell, ...]
    files: dict[str, Path]


def run(suite: str, *, baselines: bool | str | Path = True, **settings: Any) -> Report:
    """Run a suite, or resume a run that was interrupted; write tables and plots.

    Args:
        suite: Name of a suite, or path to a TOML file.
        baselines: Whether to compare with the committed baselines; a path names another folder of baselines.
        settings: Fields of `Settings`: `schedulers`, `trials`, `out`, `data_dirs`, `device`, ...

    Raises:
        UserError: The settings, the suite or the data are invalid.
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
    """Run a suite as `run` does, and optionally write the results as baselines.

    Args:
        suite: Name of a suite, or path to a TOML file.
        baselines: The folder of the baselines; by default the project's.
        write_baselines: Whether to write the result of each entry on each workload there, as soon as it has finished.
        replace: Whether to replace committed results that differ; without it, a difference is an error.
        settings: Fields of `Settings`; `out` is `runs/tune/SUITE/study-N` by default.

    Raises:
        BaselineError: The budget is not the suite's, or a result contradicts a committed one.
        UserError: The settings, the suite or the data are invalid.
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
        report = replace(report, note="nothing to run: all results are committed; use --replace to rerun", files={})
    report.files["baselines"] = folder.path
    return report


def baselines_folder(baselines: bool | str | Path) -> BaselineFolder | None:
    """Return the folder that the option names: True is the project's folder, False is none."""
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
        remark = f"Missing from these tables, because they failed on every workload: {', '.join(absent)}."
        table = replace(table, notes=(remark, *table.notes))
    files["table"] = write_tables(table, result.path)[0]
    varied = robustness(comparison.records, table)
    if varied is not None:
        files["varied"] = write_robustness(varied, result.path)[0]
    note = ""
    try:
        write_plots(comparison.records, table, result.path / "plots", comparison.studies)
    except Exception as error:  # a failed plot must not cost the user the tables
        note = f"no plots: {one_line(error)}; please report it"
    else:
        files["plots"] = result.path / "plots"
    return Report(result.path, result.records, result.failures, table, note, files, varied)


def evaluate(policy: str, suite: str = "transfer", **settings: Any) -> EvaluationReport:
    """Measure how far a policy generalises, by validation loss only; resume an evaluation that was interrupted.

    Args:
        policy: Folder of a policy, or name of a shipped one.
        suite: Name of a suite, or path to a TOML file.
        settings: Fields of `EvaluationSettings`: `against`, `trials`, `seeds`, `out`, `data_dirs`, `device`, ...

    Raises:
        UserError: The settings, the policy, the suite or the data are invalid.
    """
    return evaluate_with_settings(EvaluationSettings(policy, suite, **_with_paths(settings)))


def evaluate_with_settings(settings: EvaluationSettings, progress: Progress | None = None) -> EvaluationReport:
    """Evaluate a policy; see `evaluate`."""
    evaluation = run_evaluation(settings, progress)
    return EvaluationReport(evaluation, cells_of(evaluation), write_evaluation(evaluation))


def load_records(*paths: str | Path) -> pd.DataFrame:
    """Read records into a data frame: one row for each run, nested fields as columns such as `metrics.test_loss`.

    The column `config` holds each run's hyperparameters as a dictionary.

    Args:
        paths: Run directories, or record files.

    Raises:
        RecordError: A file is missing, was changed after it was written, or has a line that is not a record.
    """
    import pandas as pd

    records: Iterable[RunRecord] = read_records(Path(path) for path in paths)
    rows = [record.model_dump(mode="json") for record in records]
    # Hyperparameters stay in one column, because schedulers have different ones.
    configs = [row.pop("config") for row in rows]
    frame = pd.json_normalize(rows)
    frame["config"] = configs
    return frame


def _with_paths(settings: dict[str, Any]) -> dict[str, Any]:
    paths: dict[str, Any] = {name: Path(settings[name]) for name in ("out", "rivals") if settings.get(name) is not None}
    if "data_dirs" in settings:
        paths["data_dirs"] = [Path(folder) for folder in settings["data_dirs"]]
    return settings | paths
