"""Tuning a scheduler on a workload as an OptunaHub benchmark problem, for comparing Optuna samplers.

A problem returns exactly the values that a tuning study of the benchmark minimises: the mean final validation loss over
the tuning seeds, at most chance. It never uses test data.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import create_trial

from ganno_bench.core.errors import ConfigError, MissingPackageError, did_you_mean
from ganno_bench.core.seeding import run_seeds
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.population import Engine
from ganno_bench.tuning.space import Config, contestant, default_config, search_space
from ganno_bench.workloads.suite import load_suite
from ganno_bench.workloads.workload import load_workload

try:
    from optunahub.benchmarks import BaseProblem
except ImportError as error:
    raise MissingPackageError(
        f"OptunaHub problems need optional packages; pip install 'ganno-bench[optunahub]' ({error})"
    ) from error

__all__ = ["SchedulerProblem"]


class SchedulerProblem(BaseProblem):
    """The tuning of one scheduler on one workload, as an objective for `optuna.Study.optimize`.

        problem = SchedulerProblem("quickstart", "digits-mlp-4", "cosine")
        study = optuna.create_study(directions=problem.directions)
        study.optimize(problem, n_trials=32)

    It is deterministic: equal parameters give equal bits, alone or in a batch, on one machine with the same number of
    threads (`torch.set_num_threads`). Evaluations in several threads run one after another. For speed call
    `evaluate_batch`, which trains all runs of a batch side by side.

    Attributes:
        name: `SUITE/WORKLOAD/SCHEDULER`.
        chance: The highest possible value, nats: the loss of a predictor that knows only the targets' frequencies.
        default: The configuration that the benchmark's own studies try first.
    """

    def __init__(
        self,
        suite: str = "quickstart",
        workload: str = "digits-mlp-4",
        scheduler: str = "cosine",
        *,
        study: int = 0,
        tuning_seeds: int | None = None,
        data_dirs: Sequence[str | Path] = (),
        device: str = "cpu",
        backend: str = "auto",
    ) -> None:
        """Load the workload's data.

        Args:
            suite: Name of a suite, or path to a TOML file.
            workload: Id of one of its workloads.
            scheduler: Name of a scheduler: `cosine` or `./file.py:Name`.
            study: Index of the independent study, which decides the tuning seeds.
            tuning_seeds: The number of seeds that each value is the mean of. None: as many as the suite says.
            data_dirs: Folders to search for the dataset, before those in `GANNO_BENCH_DATA`.
            device: A PyTorch device.
            backend: `auto`, `compiled`, `eager`, `vmap` or `loop`.

        Raises:
            UnknownNameError: There is no such suite, workload or scheduler.
            ConfigError: The scheduler is zero-shot and has nothing to tune, or `tuning_seeds` is below 1.
            DatasetError: The dataset is missing, or differs from its declaration.
            PluginError: The scheduler breaks a rule.
            CompilationError: The backend is `compiled`, and this machine cannot compile.
        """
        n_seeds = load_suite(suite).budget.tuning_seeds if tuning_seeds is None else tuning_seeds
        if n_seeds < 1:
            raise ConfigError(f"tuning_seeds: must be at least 1 (value: {n_seeds})")
        self._entry = load_scheduler(scheduler)
        if self._entry.zero_shot:
            raise ConfigError(
                f"scheduler {scheduler!r}: is zero-shot and has nothing to tune; choose a tuned scheduler"
            )
        self._engine = Engine(
            load_workload(suite, workload, [Path(folder) for folder in data_dirs]), backend=backend, device=device
        )
        if self._engine.backend.name == "compiled":
            is_open = self._entry.open_optimizer(self._engine.workload.spec.optimizer.name) is not None
            self._engine.warm_up({frozenset(self._entry.cls.needs)}, is_open)
        self._seeds = run_seeds("tuning", study, n_seeds)
        self._space = search_space(self._entry, self._engine.workload.spec.optimizer.name)
        self._lock = threading.Lock()
        self.name = f"{suite}/{workload}/{self._entry.name}"
        self.chance = self._engine.workload.dataset.chance_loss
        self.default: Config = default_config(self._entry, self._engine.workload.spec.optimizer.name)

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """The base learning rate, the weight decay, and the scheduler's tuned hyperparameters."""
        return dict(self._space)

    @property
    def directions(self) -> list[StudyDirection]:
        """One objective, which is minimised."""
        return [StudyDirection.MINIMIZE]

    def evaluate(self, params: dict[str, Any]) -> float:
        """Return the objective: the mean final validation loss, nats, in [0, `chance`].

        Args:
            params: A value for every parameter of `search_space`.

        Raises:
            ConfigError: A parameter is missing, unknown, or outside its range.
        """
        return self.evaluate_batch([params])[0]

    def evaluate_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[float]:
        """Train several configurations as one population and return their objectives, equal to those of `evaluate`.

        Args:
            batch: Configurations, each as in `evaluate`.

        Raises:
            ConfigError: A parameter is missing, unknown, or outside its range. Nothing was trained.
        """
        contestants = [contestant(self._entry, self._checked(params)) for params in batch]
        if not contestants:
            return []
        with self._lock:
            losses = drive(self._engine, contestants, self._seeds).val_loss[-1]
        # The loss of a diverged run is NaN; it counts as chance, as in a record.
        clipped = losses.nan_to_num(self.chance, posinf=self.chance).clamp(max=self.chance)
        return [sum(row) / len(row) for row in clipped.view(len(contestants), -1).tolist()]

    def _checked(self, params: Mapping[str, Any]) -> Config:
        for name in params:
            if name not in self._space:
                raise ConfigError(f"problem {self.name}: unknown parameter {name!r}{did_you_mean(name, self._space)}")
        for name, distribution in self._space.items():
            if name not in params:
                raise ConfigError(f"problem {self.name}: parameter {name!r} is missing; give a value in {distribution}")
            try:
                create_trial(params={name: params[name]}, distributions={name: distribution}, value=0.0)
            except (ValueError, TypeError):
                raise ConfigError(
                    f"problem {self.name}: parameter {name!r}: must be in {distribution} (value: {params[name]!r})"
                ) from None
        return {**self.default, **params}
