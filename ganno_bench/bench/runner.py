"""Runs a suite: tunes every scheduler on every workload, then trains the winners on report seeds. Can resume."""

from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import torch
from optuna.storages import BaseStorage

from ganno_bench.bench.entries import code_of, load_entries, space_of
from ganno_bench.bench.plan import Job, jobs_of
from ganno_bench.bench.progress import Progress, Scope
from ganno_bench.bench.recorded import n_torn
from ganno_bench.bench.recording import Recorder
from ganno_bench.bench.store import EntryConfig, RunConfig, RunDirectory, pinned_backends
from ganno_bench.core.config import check_least
from ganno_bench.core.errors import PluginError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.seeding import run_seeds, study_seed
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.training.evaluate import Evaluation
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.prepare import prepared_engine
from ganno_bench.tuning.space import Config, contestant, default_config, search_space
from ganno_bench.tuning.study import BatchedStudy, Outcome, open_storage
from ganno_bench.workloads.datasets import data_directories
from ganno_bench.workloads.suite import Budget, Suite, WorkloadSpec, find_suite, load_suite
from ganno_bench.workloads.workload import Workload, load_workloads

__all__ = ["Failure", "Finished", "RunResult", "Settings", "run_suite"]


@dataclass(frozen=True)
class Settings:
    """Settings of a run; None means the suite's own value.

    Attributes:
        suite: Name of a suite, or path to one.
        schedulers: References to schedulers.
        trials: Optuna trials for each scheduler and workload.
        tuning_seeds: Seeds for each trial.
        report_seeds: Seeds for the best configuration of each study.
        out: The run directory; `runs/NAME-OF-SUITE` by default.
        data_dirs: Folders with datasets, searched before the folders in `GANNO_BENCH_DATA`.
        device: A PyTorch device.
        backend: `auto`, `compiled`, `eager`, `vmap` or `loop`.
        threads: Threads for each operation. The threads of one operation wait for one another in busy loops, so with
            another process on one of the cores an update can take up to a hundred times longer; one thread never waits.
        max_population: Largest number of runs in one pass; by default as many as fit the cache.
        storage: URL of an Optuna storage; by default a journal in the run directory.
        study: Index of the independent tuning study.
    """

    suite: str
    schedulers: Sequence[str] | None = None
    trials: int | None = None
    tuning_seeds: int | None = None
    report_seeds: int | None = None
    out: Path | None = None
    data_dirs: Sequence[Path] = ()
    device: str = "cpu"
    backend: str = "auto"
    threads: int = 1
    max_population: int | None = None
    storage: str | None = None
    study: int = 0

    def budget(self, suite: Suite) -> Budget:
        """Return the suite's budget with the given settings in place of its own."""
        given = {name: getattr(self, name) for name in ("trials", "tuning_seeds", "report_seeds")}
        return suite.budget.model_copy(update={name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True)
class Finished:
    """An entry that has finished a workload: it was tuned, unless it is zero-shot, and reported.

    Attributes:
        suite: The suite, with the budget of the run.
        spec: The workload.
        entry: The scheduler.
        config: The settings of the run.
        records: All records of the entry on the workload.
    """

    suite: Suite
    spec: WorkloadSpec
    entry: SchedulerEntry
    config: RunConfig
    records: Sequence[RunRecord]


@dataclass(frozen=True)
class Failure:
    """A scheduler that failed on a workload."""

    workload: str
    scheduler: str
    error: str


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    Attributes:
        path: The run directory.
        records: All of its records.
        failures: Schedulers that failed on a workload.
    """

    path: Path
    records: list[RunRecord]
    failures: list[Failure]


def run_suite(
    settings: Settings,
    progress: Progress | None = None,
    on_finished: Callable[[Finished], None] = lambda done: None,
    is_needed: Callable[[RunConfig, str, SchedulerEntry], bool] = lambda config, workload, entry: True,
) -> RunResult:
    """Run a suite to its end, or resume an earlier run in the same run directory.

    Args:
        settings: What to run.
        progress: Receives the events of the run.
        on_finished: Called when an entry has finished a workload, in this call or in an earlier one.
        is_needed: Whether to run an entry on a workload at all.

    Raises:
        UserError: The settings, the suite or the data have a fault; nothing was run.
        ResumeError: The run directory belongs to a run with other settings.
        RecordError: The records in the run directory were changed or damaged.
        StorageError: New results cannot be written; earlier ones are safe.
    """
    progress = progress or Progress()
    _check_numbers(settings)
    suite = load_suite(settings.suite)
    source = find_suite(settings.suite)
    budget = settings.budget(suite)
    torch.set_num_threads(settings.threads)
    entries, broken = load_entries(settings.schedulers or suite.schedulers)
    workloads = load_workloads(suite, source, data_directories(settings.data_dirs))
    out = settings.out or Path("runs") / suite.name
    pinned = pinned_backends(out)
    engines = {
        workload.id: _engine(workload, settings, pinned, suite, budget, entries, progress) for workload in workloads
    }
    backends = {name: engine.backend.name for name, engine in engines.items()}
    wanted = RunConfig(
        run_id=uuid.uuid4().hex[:8],
        suite=suite.name,
        suite_hash=suite.hash,
        custom=budget != suite.budget,
        study=settings.study,
        trials=budget.trials,
        tuning_seeds=budget.tuning_seeds,
        report_seeds=budget.report_seeds,
        batch=budget.batch,
        device=_device_name(settings.device),
        threads=settings.threads,
        torch=torch.__version__,
        optuna=optuna.__version__,
        backends=backends,
        chunks={name: engine.chunk for name, engine in engines.items()},
        fingerprints={workload.id: workload.dataset.fingerprint for workload in workloads},
        plugins={key: str(origin) for workload in workloads for key, origin in workload.plugins.items()},
        entries=tuple(EntryConfig(name=e.name, ref=e.ref, code=e.code, tag=e.tag[:8]) for e in entries),
    )
    database = None if settings.storage is None else open_storage(settings.storage)
    with RunDirectory(out) as directory:
        config = directory.pin(wanted, source.read_text(encoding="utf-8"))
        directory.check_suite(config.suite_hash)
        chosen = backends if settings.backend == "auto" else {}
        run = _Run(suite.model_copy(update={"budget": budget}), config, directory, progress, on_finished, chosen)
        for workload_id in engines:
            for ref, error in broken.items():
                run.fail(workload_id, ref, error)
        run.execute(engines, entries, database or open_storage(directory.journal), is_needed)
        return RunResult(directory.path, directory.records, run.failures)


def _engine(
    workload: Workload,
    settings: Settings,
    pinned: Mapping[str, str],
    suite: Suite,
    budget: Budget,
    entries: Sequence[SchedulerEntry],
    progress: Progress,
) -> Engine:
    """Return the engine of a workload, with the backend that an earlier call pinned if the settings leave it open."""
    optimizer = workload.spec.optimizer.name
    jobs = [
        job
        for entry in entries
        for job in jobs_of(workload.id, entry.name, budget, suite.variation, zero_shot=entry.zero_shot)
    ]
    closed = [entry for entry in entries if entry.open_optimizer(optimizer) is None]
    return prepared_engine(
        workload,
        backend=pinned.get(workload.id, "auto") if settings.backend == "auto" else settings.backend,
        needs={frozenset(entry.cls.needs) for entry in closed},
        has_open_optimizers=len(closed) < len(entries),
        batch_sizes={job.spec(workload.spec).batch_size for job in jobs},
        n_run_updates=sum(job.n_runs * job.spec(workload.spec).n_updates for job in jobs),
        on_compiling=progress.compiling,
        device=settings.device,
        max_population=settings.max_population,
    )


class _Run:
    """A run in progress."""

    def __init__(
        self,
        suite: Suite,
        config: RunConfig,
        directory: RunDirectory,
        progress: Progress,
        on_finished: Callable[[Finished], None],
        chosen: Mapping[str, str],
    ) -> None:
        self.suite = suite
        self.config = config
        self.directory = directory
        self.progress = progress
        self.on_finished = on_finished
        self.chosen = chosen  # workload -> backend, if the user left it open
        self.failures: list[Failure] = []

    def execute(
        self,
        engines: Mapping[str, Engine],
        entries: Sequence[SchedulerEntry],
        storage: BaseStorage,
        is_needed: Callable[[RunConfig, str, SchedulerEntry], bool],
    ) -> None:
        self._drop_torn_population()
        jobs = {
            (workload, entry.name): list(
                jobs_of(workload, entry.name, self.suite.budget, self.suite.variation, zero_shot=entry.zero_shot)
            )
            for workload in engines
            for entry in entries
            if self._recorded(workload, entry.name) or is_needed(self.config, workload, entry)
        }
        costs = {job: _cost(engines[job.workload], job) for several in jobs.values() for job in several}
        total = sum(costs.values())
        done = total - sum(costs[job] for key, several in jobs.items() for job in self._remaining(*key, several))
        self.progress.planned(self._scope(list(engines), entries, jobs))
        if self.chosen and total > done:
            self.progress.backends(self.chosen)
        self.progress.started(f"suite {self.suite.name}", total, done)
        for workload, engine in engines.items():
            n_before = len(self.directory.records)
            for entry in entries:
                if (workload, entry.name) not in jobs:
                    continue
                try:
                    self._contest(engine, entry, jobs[workload, entry.name], storage)
                except PluginError as error:
                    self.fail(workload, entry.name, error)
                else:
                    records = self._recorded(workload, entry.name)
                    self.on_finished(Finished(self.suite, engine.workload.spec, entry, self.config, records))
            on_workload = [record for record in self.directory.records if record.workload == workload]
            self.progress.workload_finished(workload, on_workload, resumed=len(self.directory.records) == n_before)
        self.progress.finished()

    def _scope(
        self,
        workloads: Sequence[str],
        entries: Sequence[SchedulerEntry],
        jobs: Mapping[tuple[str, str], Sequence[Job]],
    ) -> Scope:
        left = [job for key, several in jobs.items() for job in self._remaining(*key, several)]
        n_runs = sum(job.n_runs for several in jobs.values() for job in several)
        return Scope(
            suite=self.suite.name,
            workloads=[name for name in workloads if any(key[0] == name for key in jobs)],
            tuned=[entry.name for entry in entries if not entry.zero_shot],
            zero_shot=[entry.name for entry in entries if entry.zero_shot],
            budget=self.suite.budget,
            n_runs=n_runs,
            n_done=n_runs - sum(job.n_runs for job in left),
        )

    def fail(self, workload: str, scheduler: str, error: PluginError) -> None:
        self.failures.append(Failure(workload, scheduler, str(error)))
        trace = "".join(traceback.format_exception(error))
        self.directory.fail(workload=workload, scheduler=scheduler, error=str(error), traceback=trace)
        self.progress.failed(workload, scheduler, str(error))

    def _contest(self, engine: Engine, entry: SchedulerEntry, jobs: Sequence[Job], storage: BaseStorage) -> None:
        """Run one scheduler on one workload: tuning, unless it is zero-shot, then the report runs and varied runs."""
        spec = engine.workload.spec
        with code_of(entry):
            default, space = default_config(entry, spec.optimizer.name), search_space(entry, spec.optimizer.name)
        remaining = self._remaining(spec.id, entry.name, jobs)
        if entry.zero_shot:
            for job in remaining:
                self.progress.job_started(job, 0)
                self._train(engine, entry, job, [(0, default)])
            return
        outcomes = _outcomes([r for r in self._recorded(spec.id, entry.name) if r.role == "tuning"])
        tag = next(known.tag for known in self.config.entries if known.name == entry.name)
        study = BatchedStudy(
            storage,
            f"{self.suite.name}/{spec.id}/{entry.name}/{self.config.study}@{self.config.run_id}.{tag}",
            space=space,
            default=default,
            startup_trials=self.suite.budget.startup_trials,
            seed=study_seed(self.config.study, self.suite.hash, spec.id, entry.name),
        )
        with space_of(entry):
            study.restore(outcomes)
        for job in remaining:
            self.progress.job_started(job, self.suite.budget.trials)
            if job.role == "tuning":
                with space_of(entry):
                    pending = study.ask(job.batch, job.trials.start, len(job.trials))
                new = self._train(engine, entry, job, [(trial.index, trial.config) for trial in pending])
                told = _outcomes(new)
                study.tell(pending, [told[trial.index] for trial in pending])
                outcomes |= told
            else:
                winner = min(outcomes, key=lambda index: (outcomes[index].value, index))
                self._train(engine, entry, job, [(winner, outcomes[winner].config)])

    def _train(
        self, engine: Engine, entry: SchedulerEntry, job: Job, configs: Sequence[tuple[int, Config]]
    ) -> list[RunRecord]:
        """Train one population and record it."""
        start = time.perf_counter()
        spec = job.spec(engine.workload.spec)
        cost = _cost(engine, job) / spec.n_updates
        budget, tuned = self.suite.budget, job.role != "tuning" and not entry.zero_shot
        tuning_updates = budget.trials * budget.tuning_seeds * engine.workload.spec.n_updates if tuned else 0
        engine = engine.with_spec(spec)
        if job.changes:
            ((trial, own),) = configs
            configs = [(trial, change.of_config(own)) for change in job.changes]
        seeds = run_seeds(job.role, self.config.study, job.n_seeds)
        with code_of(entry):
            contestants = [contestant(entry, config) for _, config in configs]
            result = drive(engine, contestants, seeds, lambda updates: self.progress.advanced(updates * cost))
            del contestants
            # The only place that reads test data: after the last update, when the schedulers, their states and
            # optimizers are gone. The data are released before anything else runs.
            test = None if job.role == "tuning" else _test(engine, result.population)
            seconds = time.perf_counter() - start
            config = self.config
            recorder = Recorder(config.suite, config.suite_hash, config.custom, config.study, engine, entry)
            records = recorder.records(job, configs, result, test, tuning_updates, seconds)
        self.directory.append(records)
        return records

    def _remaining(self, workload: str, entry: str, jobs: Sequence[Job]) -> list[Job]:
        records = self._recorded(workload, entry)
        return [job for job in jobs if not any(job.covers(record) for record in records)]

    def _recorded(self, workload: str, entry: str) -> list[RunRecord]:
        return [r for r in self.directory.records if r.workload == workload and r.scheduler == entry]

    def _drop_torn_population(self) -> None:
        """Remove the records of a population whose last ones were never written, and check that all others are whole.

        The population may belong to a scheduler that is not part of this call.
        """

        def jobs(record: RunRecord) -> Iterator[Job]:
            budget, zero_shot = self.suite.budget, record.ruleset == "zero-shot"
            return jobs_of(record.workload, record.scheduler, budget, self.suite.variation, zero_shot=zero_shot)

        self.directory.drop_tail(n_torn(self.directory, self.config, jobs))


def _outcomes(records: Sequence[RunRecord]) -> dict[int, Outcome]:
    """Return the outcome of each trial from its records, one for each seed."""
    trials: dict[int, list[RunRecord]] = {}
    for record in records:
        trials.setdefault(record.trial, []).append(record)
    return {
        trial: Outcome(
            config=runs[0].config,
            values=tuple(run.objective for run in runs),
            curve=tuple(
                (update, sum(run.clipped(run.curve.val_loss[point]) for run in runs) / len(runs))
                for point, update in enumerate(runs[0].curve.updates)
            ),
        )
        for trial, runs in trials.items()
    }


def _test(engine: Engine, population: Population) -> Evaluation:
    return population.evaluate(engine.workload.dataset.test.to(engine.device, engine.dtype))


def _cost(engine: Engine, job: Job) -> float:
    """Estimate the floating-point operations of a population, for the progress bar."""
    spec, shape = job.spec(engine.workload.spec), engine.workload.dataset.shape
    tokens = spec.batch_size * (shape.input_shape[0] if shape.next_token else 1)
    return job.n_runs * spec.n_updates * (6.0 * engine.layout.n_columns * tokens + 1e6)


def _device_name(device: str) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def _check_numbers(settings: Settings) -> None:
    least = {"trials": 1, "tuning_seeds": 1, "report_seeds": 1, "threads": 1, "max_population": 1, "study": 0}
    for name, smallest in least.items():
        check_least(name, getattr(settings, name), smallest)
