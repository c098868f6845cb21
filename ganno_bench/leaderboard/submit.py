"""Turn run directories into a submission."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ganno_bench.baselines.files import record_lines, study_lines
from ganno_bench.baselines.write import space_snapshot
from ganno_bench.bench.plan import jobs_of
from ganno_bench.bench.store import RunConfig
from ganno_bench.core.config import parse_config, read_toml
from ganno_bench.core.errors import SubmissionError, did_you_mean
from ganno_bench.core.files import replace_file
from ganno_bench.core.records import RunRecord, compact_record, read_records
from ganno_bench.core.studies import StudyRecord, study_of
from ganno_bench.leaderboard.known import KnownSuite, KnownSuites
from ganno_bench.leaderboard.rules import derived
from ganno_bench.leaderboard.submissions import RECORDS, STUDIES, TOML, Submission
from ganno_bench.leaderboard.untrusted import parse_model
from ganno_bench.leaderboard.validate import Verdict, check_submission
from ganno_bench.policies.policy import PolicyCard
from ganno_bench.schedulers.policy import PolicyScheduler
from ganno_bench.schedulers.registry import SchedulerEntry, load_scheduler

__all__ = ["Written", "submit"]


@dataclass(frozen=True)
class Written:
    """A written submission.

    Attributes:
        path: Its folder.
        files: Names of its files.
        verdict: The result of checking it.
    """

    path: Path
    files: tuple[str, ...]
    verdict: Verdict


def submit(
    run_dirs: Sequence[Path],
    out: Path,
    *,
    name: str,
    description: str,
    author: str = "",
    url: str = "",
    scheduler: str | None = None,
    suites: KnownSuites | None = None,
) -> Written:
    """Write a run's results of one scheduler as a submission; after an error nothing is left.

    Args:
        run_dirs: Run directories; each is an independent tuning study of the same scheduler.
        out: Folder of the submissions.
        name: Name of the entry on the leaderboard.
        description: One line about the entry.
        author: Who submits it.
        url: Web address of code or a paper.
        scheduler: Name or reference of the scheduler; required if a run has several schedulers.
        suites: The project's suites.

    Raises:
        SubmissionError: The run is custom or incomplete, its suite or code has changed, or the submission would break
            a rule; nothing was written.
        UserError: A run directory cannot be read, or the scheduler cannot be loaded.
    """
    suites = suites or KnownSuites()
    runs = [_Run(path, scheduler, suites) for path in run_dirs]
    first = runs[0]
    for run in runs[1:]:
        if (run.config.suite, run.name) != (first.config.suite, first.name):
            raise SubmissionError(
                f"{run.path}: must be a run of {first.name!r} on {first.config.suite!r}, as in {first.path} "
                f"(value: {run.name!r} on {run.config.suite!r})"
            )
    entry = load_scheduler(first.ref)
    for run in runs:
        if run.code != entry.code:
            raise SubmissionError(
                f"{run.path}: the code of scheduler {run.name!r} has changed since ({run.code}, now "
                f"{entry.code}); run it again, into another --out"
            )
    texts = _texts(runs, entry, first.known, {"name": name, "description": description, "author": author, "url": url})
    target = out / first.known.suite.name / name
    if target.exists() or target.is_symlink():
        raise SubmissionError(f"{target}: exists; remove it, or give another --name")
    return Written(target, tuple(texts), _write(target, texts, suites))


class _Run:
    """The results of one scheduler in a run directory."""

    def __init__(self, path: Path, scheduler: str | None, suites: KnownSuites) -> None:
        self.path = path
        file = path / "config.toml"
        if not file.is_file():
            raise SubmissionError(f"{path}: is not a run directory: it has no config.toml")
        self.config = parse_config(RunConfig, read_toml(file), str(file))
        if self.config.custom:
            raise SubmissionError(
                f"{path}: custom runs cannot be submitted; run without --trials, --tuning-seeds and --report-seeds"
            )
        self.known = suites.load(self.config.suite)
        if self.config.suite_hash != self.known.suite.hash:
            raise SubmissionError(
                f"{path}: suite {self.config.suite!r} must have hash {self.known.suite.hash}, as in the project "
                f"(value: {self.config.suite_hash}); run the project's suite"
            )
        if not self.known.workloads:
            raise SubmissionError(f"{path}: suite {self.config.suite!r} has local data only; it has no leaderboard")
        entries = {entry.name: entry for entry in self.config.entries}
        if scheduler is None and len(entries) > 1:
            raise SubmissionError(f"{path}: has several schedulers; choose one with --scheduler ({', '.join(entries)})")
        wanted = [entry for entry in entries.values() if scheduler in (None, entry.name, entry.ref)]
        if not wanted:
            raise SubmissionError(f"{path}: has no scheduler {scheduler!r}{did_you_mean(str(scheduler), entries)}")
        self.name, self.ref, self.code = wanted[0].name, wanted[0].ref, wanted[0].code
        records = read_records([path])
        self.records = [r for r in records if r.scheduler == self.name and r.workload in self.known.workloads]

    def check_complete(self, entry: SchedulerEntry) -> None:
        """Refuse a run that has not finished.

        Raises:
            SubmissionError: Runs are missing.
        """
        suite = self.known.suite
        for workload in self.known.workloads:
            jobs = list(jobs_of(workload, self.name, suite.budget, suite.variation, zero_shot=entry.zero_shot))
            n_wanted = sum(job.n_runs for job in jobs)
            n_there = sum(any(job.covers(record) for job in jobs) for record in self.records)
            if n_there < n_wanted:
                raise SubmissionError(
                    f"{self.path}: is incomplete: {n_wanted - n_there} of {n_wanted} runs of {self.name!r} on "
                    f"{workload!r} are missing; resume it with `ganno-bench run` and the same settings"
                )


def _texts(runs: Sequence[_Run], entry: SchedulerEntry, known: KnownSuite, said: dict[str, str]) -> dict[str, str]:
    """Return file name -> text of a submission."""
    for run in runs:
        run.check_complete(entry)
    every = [record for run in runs for record in run.records]
    records = [compact_record(record) for record in every if record.role != "tuning"]
    studies: list[StudyRecord] = []
    for run in runs:
        for workload in known.workloads:
            study = study_of(record for record in run.records if record.workload == workload)
            studies += [study] if study else []
    facts = derived(records, studies, known)
    optimizers = {name: entry.open_optimizer(name) for name in sorted(known.optimizers)}
    data = {
        **said,
        "suite": known.suite.name,
        "suite_hash": known.suite.hash,
        "ruleset": records[0].ruleset,
        "scheduler": entry.name,
        "ref": _public(entry.ref),
        "code": entry.code,
        "studies": sorted(run.config.study for run in runs),
        "date": facts["date"],
        "open_optimizer": {name: released for name, released in optimizers.items() if released is not None},
        "cost": {
            "updates": facts["cost.updates"],
            "tuning_updates": facts["cost.tuning_updates"],
            "wall_seconds": _seconds(every),
        },
        "versions": facts["versions"],
        "search_space": {}
        if entry.zero_shot
        else {name: space_snapshot(entry, name) for name in sorted(known.optimizers)},
    }
    if (card := _card(entry)) is not None:
        data["policy"] = card.model_dump(mode="json")
    info, wrong = parse_model(Submission, data)
    if info is None:
        raise SubmissionError(f"{TOML}: {wrong[0]}")
    texts = {TOML: info.text(), RECORDS: record_lines(records)}
    return texts | ({STUDIES: study_lines(studies)} if studies else {})


def _write(target: Path, texts: dict[str, str], suites: KnownSuites) -> Verdict:
    """Write the files into a temporary folder next to the target, check them, and rename the folder to the target."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=target.parent))
    except OSError as error:
        raise SubmissionError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        temporary.chmod(0o755)  # temporary folders are readable by their owner only
        for name, text in texts.items():
            replace_file(temporary / name, text)
        verdict = check_submission(temporary, target.parent.name, target.name, suites, str(target))
        if verdict.faults:
            more = f" (and {verdict.n_faults - 1} more)" if verdict.n_faults > 1 else ""
            raise SubmissionError(f"{verdict.faults[0]}{more}")
        temporary.rename(target)
    except OSError as error:
        raise SubmissionError(f"{target}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # the folder has other submissions
            target.parent.rmdir()
    return verdict


def _card(entry: SchedulerEntry) -> PolicyCard | None:
    if entry.name.startswith("policy:") and issubclass(entry.cls, PolicyScheduler):
        return entry.cls.policy.card
    return None


def _seconds(records: Sequence[RunRecord]) -> float:
    return round(sum(record.cost.wall_seconds for record in records), 2)


def _public(ref: str) -> str:
    """Return a reference without the folders of this machine: `./mine/file.py:Name` becomes `file.py:Name`."""
    before, mark, after = ref.rpartition(".py:")
    if mark:
        kind = "default:" if ref.startswith("default:") else ""
        return f"{kind}{Path(before.removeprefix(kind)).name}{mark}{after}"
    kind, colon, path = ref.rpartition(":")
    return f"{kind}{colon}{Path(path).name}" if colon and "/" in path and "(" not in path else ref
