"""Measure how far a frozen policy generalises: run it and its rivals on a suite, and drop all test results.

The policy and its rivals have separate run directories. So a changed policy is rerun without tuning its rivals again,
and several policies can share one set of rivals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ganno_bench.bench.derived import middle_workloads, part_of, varied_middle, write_derived
from ganno_bench.bench.novelty import Novelty, novelty
from ganno_bench.bench.progress import Progress
from ganno_bench.bench.runner import Failure, Settings, run_suite
from ganno_bench.core.config import check_least
from ganno_bench.core.errors import ConfigError, DatasetError
from ganno_bench.core.records import RunRecord
from ganno_bench.policies.policy import PolicyCard, load_policy
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler
from ganno_bench.schedulers.shipped import locate_policy
from ganno_bench.scoring.transfer import blinded
from ganno_bench.workloads.datasets import data_directories
from ganno_bench.workloads.sources import open_source
from ganno_bench.workloads.suite import Suite, find_suite, load_suite

__all__ = ["LAYERWISE", "UNTUNED", "Evaluation", "EvaluationSettings", "LeftOut", "run_evaluation"]

LAYERWISE = ("trust-ratio", "depth-factor")
"""Tuned schedules with a learning rate per layer: the rivals of layerwise control."""

UNTUNED = "cosine@default"
"""Name of the entry `default:cosine`."""

_RIVALS = ("cosine", *LAYERWISE, "default:cosine")


@dataclass(frozen=True)
class EvaluationSettings:
    """The settings of an evaluation.

    Attributes:
        policy: Folder of a policy, or name of a shipped one.
        suite: Name of a suite, or path to one.
        against: References of further rivals.
        trials: Optuna trials for each rival and workload; by default the suite's.
        seeds: Report seeds; by default the suite's.
        out: Folder of all results; `runs/evaluate/NAME-OF-POLICY` by default.
        rivals: Run directory of the rivals; `rivals` in `out` by default.
        data_dirs: Folders that are searched for datasets, before those in `GANNO_BENCH_DATA`.
        device: A PyTorch device.
    """

    policy: str
    suite: str = "transfer"
    against: Sequence[str] = ()
    trials: int | None = None
    seeds: int | None = None
    out: Path | None = None
    rivals: Path | None = None
    data_dirs: Sequence[Path] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class LeftOut:
    """Workloads whose dataset was not found.

    Attributes:
        dataset: Its name in the suite.
        source: Its hub id or folder.
        workloads: Ids of the workloads.
    """

    dataset: str
    source: str
    workloads: tuple[str, ...]

    @property
    def line(self) -> str:
        """Message that names the missing dataset and where to put a copy."""
        n, folder = len(self.workloads), self.source.rstrip("/").rpartition("/")[2]
        return (
            f"left out: {n} workload{'s' if n > 1 else ''} on dataset {self.dataset!r} ({self.source}), which was not "
            f"found; put a copy in hub layout into a folder {folder!r} below --data-dir or GANNO_BENCH_DATA"
        )


@dataclass(frozen=True)
class Evaluation:
    """All measurements of an evaluation; none is on test data.

    Attributes:
        path: Folder of all results.
        policy: Name of the policy's entry.
        card: The policy's card.
        code: Identifier of the policy's card, weights and code.
        suite: The suite as it was run: without workloads whose data are missing, with the budget of the settings.
        rivals: Names of the rivals' entries.
        records: Report runs of the policy and its rivals, without test metrics.
        novelty: Workload -> what is new about it to the policy.
        left_out: Workloads that were not run, because their data are missing.
        robustness: Report and varied runs of the policy and `UNTUNED` on the middle workloads, without test metrics.
        failures: Entries that failed on a workload.
    """

    path: Path
    policy: str
    card: PolicyCard
    code: str
    suite: Suite
    rivals: tuple[str, ...]
    records: tuple[RunRecord, ...]
    novelty: Mapping[str, Novelty]
    left_out: tuple[LeftOut, ...]
    robustness: tuple[RunRecord, ...]
    failures: tuple[Failure, ...]


def run_evaluation(settings: EvaluationSettings, progress: Progress | None = None) -> Evaluation:
    """Run a policy and its rivals on a suite, or resume an evaluation that was interrupted.

    Raises:
        UserError: The settings, the policy, the suite or the data are invalid; nothing was run.
        ResumeError: A run directory belongs to a run with other settings.
    """
    progress = progress or Progress()
    for option in ("trials", "seeds"):
        check_least(option, getattr(settings, option), 1)
    folder = locate_policy(settings.policy.removeprefix("policy:"))
    entry = load_scheduler(f"policy:{folder}")
    rivals = _load_rivals((*_RIVALS, *settings.against), entry)
    out = settings.out or Path("runs") / "evaluate" / entry.cls.__name__
    suite, source, left_out = _available(settings, out)
    for missing in left_out:
        progress.left_out(missing.line)

    def run(source: Path, entries: Sequence[SchedulerEntry], path: Path) -> tuple[list[RunRecord], list[Failure]]:
        result = run_suite(
            Settings(
                suite=str(source),
                schedulers=[entry.ref for entry in entries],
                trials=settings.trials,
                report_seeds=settings.seeds,
                out=path,
                data_dirs=settings.data_dirs,
                device=settings.device,
            ),
            progress,
        )
        return blinded(record for record in result.records if record.role != "tuning"), result.failures

    own, failures = run(source, [entry], out / f"policy-{entry.tag}")
    theirs, more = run(source, rivals, settings.rivals or out / "rivals")
    failures = [*failures, *more]
    names = tuple(rival.name for rival in rivals)
    reported = [record for record in (*own, *theirs) if record.role == "report"]
    records = tuple(record for record in reported if record.scheduler in (entry.name, *names))
    budget = {"trials": settings.trials, "report_seeds": settings.seeds}
    given = {name: value for name, value in budget.items() if value is not None}
    suite = suite.model_copy(update={"budget": suite.budget.model_copy(update=given)})
    varied = write_derived(varied_middle(suite), source, out)
    untuned = next(rival for rival in rivals if rival.name == UNTUNED)
    robustness: list[RunRecord] = []
    for who, one in {"policy": entry, "untuned": untuned}.items():
        runs, failed = run(varied, [one], out / "robustness" / f"{who}-{one.tag}")
        robustness += runs
        failures += [Failure(each.workload, each.scheduler, f"robustness: {each.error}") for each in failed]
    middle = middle_workloads(suite)
    fingerprints = {record.workload: record.dataset_fingerprint for record in records}
    card = load_policy(folder).card
    return Evaluation(
        path=out,
        policy=entry.name,
        card=card,
        code=entry.code,
        suite=suite,
        rivals=names,
        records=records,
        novelty={
            spec.id: novelty(card, spec, suite.dataset[spec.dataset], fingerprints[spec.id])
            for spec in suite.workload
            if spec.id in fingerprints
        },
        left_out=left_out,
        robustness=tuple(sorted(robustness, key=lambda record: middle.index(record.workload))),
        failures=tuple(failures),
    )


def _load_rivals(refs: Sequence[str], policy: SchedulerEntry) -> list[SchedulerEntry]:
    """Load the rivals, each once.

    Raises:
        ConfigError: A rival has the policy's name.
    """
    entries: dict[str, SchedulerEntry] = {}
    for ref in dict.fromkeys(refs):
        rival = load_scheduler(ref)
        if rival.name == policy.name:
            raise ConfigError(f"option --against: {ref!r} has the policy's name, {policy.name!r}; leave it out")
        entries.setdefault(rival.name, rival)
    return list(entries.values())


def _available(settings: EvaluationSettings, out: Path) -> tuple[Suite, Path, tuple[LeftOut, ...]]:
    """Return the part of a suite whose datasets were found, its file, and the workloads that are left out."""
    suite, source = load_suite(settings.suite), find_suite(settings.suite)
    directories = data_directories(settings.data_dirs)
    missing: dict[str, DatasetError] = {}
    for name in dict.fromkeys(spec.dataset for spec in suite.workload):
        try:
            open_source(suite.dataset[name], directories, source.parent)
        except DatasetError as error:
            missing[name] = error
    if not missing:
        return suite, source, ()
    left_out = tuple(
        LeftOut(name, suite.dataset[name].source, tuple(spec.id for spec in suite.workload if spec.dataset == name))
        for name in missing
    )
    kept = [spec.id for spec in suite.workload if spec.dataset not in missing]
    if not kept:
        name, reason = next(iter(missing.items()))
        raise DatasetError(f"no dataset of suite {suite.name!r} was found; {name!r}: {reason}")
    file = write_derived(part_of(suite, "reduced", kept), source, out)
    return load_suite(str(file)), file, left_out
