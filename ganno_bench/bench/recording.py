"""Turn the trajectories of a population into run records."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import torch

from ganno_bench.bench.plan import Job
from ganno_bench.core.processor import processor
from ganno_bench.core.records import Cost, Curve, LrTrace, Metrics, Provenance, RunRecord, significant
from ganno_bench.schedulers.drive import Trajectory
from ganno_bench.schedulers.registry import SchedulerEntry
from ganno_bench.training.evaluate import Evaluation
from ganno_bench.training.population import Engine
from ganno_bench.tuning.space import Config

__all__ = ["Recorder"]

_VERSIONED = ("ganno-bench", "torch", "optuna", "numpy", "datasets")


@dataclass(frozen=True)
class Recorder:
    """Makes records for one scheduler on one workload.

    Attributes:
        suite: Name of the suite.
        suite_hash: Hash of the suite with the suite's budget.
        custom: Whether the run has another budget.
        study: Index of the tuning study.
        engine: The engine of the workload.
        entry: The scheduler.
    """

    suite: str
    suite_hash: str
    custom: bool
    study: int
    engine: Engine
    entry: SchedulerEntry

    def records(
        self,
        job: Job,
        configs: Sequence[tuple[int, Config]],
        result: Trajectory,
        test: Evaluation | None,
        tuning_updates: int,
        wall_seconds: float,
    ) -> list[RunRecord]:
        """Return a record for each run of a population.

        Args:
            job: The job that was run.
            configs: (trial, configuration) of each contestant.
            result: The trajectories of the runs.
            test: Their results on test data; None for tuning.
            tuning_updates: Updates that tuning spent to find the configuration.
            wall_seconds: Time that the population took.
        """
        dataset = self.engine.workload.dataset
        open_optimizer = self.entry.open_optimizer(self.engine.workload.spec.optimizer.name)
        provenance = self._provenance()
        train, val = result.train_loss.tolist(), result.val_loss.tolist()
        val_error = result.val_error.tolist()
        traces = result.lr_trace.cpu()
        nothing = [None] * result.population.n_runs
        test_loss, test_error = (test.loss.tolist(), test.error.tolist()) if test else (nothing, nothing)
        diverged_at = result.population.diverged_at.tolist()
        records = []
        for run in range(result.population.n_runs):
            trial, config = configs[run // job.n_seeds]
            change = job.changes[run // job.n_seeds] if job.changes else None
            kept = [index for index, row in enumerate(traces[:, run]) if bool(row.isfinite().all())]
            # If the last update made a run diverge, only the evaluation after it shows that.
            diverged = diverged_at[run] >= 0 or not math.isfinite(val[-1][run])
            at = diverged_at[run] if diverged_at[run] >= 0 else result.eval_updates[-1]
            metrics = Metrics(
                train_loss=None if diverged else train[-1][run],
                val_loss=_finite(val[-1][run]),
                val_error=None if diverged else val_error[run],
                test_loss=None if diverged else _finite(test_loss[run]),
                test_error=None if diverged else test_error[run],
            )
            records.append(
                RunRecord(
                    suite=self.suite,
                    suite_hash=self.suite_hash,
                    custom=self.custom,
                    workload=job.workload,
                    dataset_fingerprint=dataset.fingerprint,
                    task=dataset.task,
                    scheduler=self.entry.name,
                    code=self.entry.code,
                    ruleset="zero-shot" if self.entry.zero_shot else "tuned",
                    study=self.study,
                    role=job.role,
                    trial=trial,
                    seed=run % job.n_seeds,
                    factor=None if change is None else change.factor,
                    multiple=None if change is None else change.multiple,
                    config=config,
                    status="diverged" if diverged else "completed",
                    diverged_at=at if diverged else None,
                    chance_loss=dataset.chance_loss,
                    metrics=metrics,
                    curve=Curve(
                        updates=result.eval_updates,
                        train_loss=tuple(_finite(row[run]) for row in train),
                        val_loss=tuple(_finite(row[run]) for row in val),
                    ),
                    lr_trace=LrTrace(
                        updates=tuple(result.trace_updates[index] for index in kept),
                        layers=tuple(layer.name for layer in self.engine.layout.layers),
                        # Six digits are enough for a plot and keep records small.
                        lr=tuple(tuple(map(significant, traces[index, run].tolist())) for index in kept),
                    ),
                    open_optimizer=open_optimizer,
                    cost=Cost(
                        updates=result.eval_updates[-1],
                        tuning_updates=tuning_updates,
                        wall_seconds=round(wall_seconds / result.population.n_runs, 4),
                    ),
                    provenance=provenance,
                )
            )
        return records

    def _provenance(self) -> Provenance:
        device, workload = self.engine.device, self.engine.workload
        plugins = {**workload.plugins, **self.entry.plugins}
        packages = {*self.entry.packages, *workload.packages}
        packages |= {origin.package for origin in workload.plugins.values() if origin.package}
        return Provenance(
            timestamp=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            host=platform.node(),
            platform=platform.platform(),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            backend=self.engine.backend.name,
            threads=torch.get_num_threads(),
            cpu=processor(),
            versions=_versions() | {name: version(name) for name in sorted(packages)},
            plugins={key: str(origin) for key, origin in plugins.items()},
        )


@cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {name: version(name) for name in _VERSIONED}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
