"""Tuning a scheduler on a workload as an OptunaHub benchmark problem, on which samplers can be compared.

A problem is what a tuning study of the benchmark minimises, value for value: the mean over the tuning seeds of the
final validation loss, at worst chance. Test data has no part in it.
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
        f"OptunaHub problems need more: pip install 'ganno-bench[optunahub]' ({error})"
    ) from error

__all__ = ["SchedulerProblem"]


class SchedulerProblem(BaseProblem):
    """Tune a scheduler on a workload: an objective for `optuna.Study.optimize`.

        problem = SchedulerProblem("quickstart", "digits-mlp-4", "cosine")
        study = optuna.create_study(directions=problem.directions)
        study.optimize(problem, n_trials=32)

    It is deterministic: equal parameters give equal bits, whatever they are evaluated with, on one machine with one
    number of threads (`torch.set_num_threads`). Evaluations from several threads wait for one another; what makes it
    fast is `evaluate_batch`, which trains all runs of a batch side by side.

    Attributes:
        name: `SUITE/WORKLOAD/SCHEDULER`.
        chance: The worst value there is, nats: the loss of a predictor that knows nothing but the frequencies.
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
            scheduler: Reference to a scheduler, `cosine` or `./file.py:Name`.
            study: Index of the independent study, on which the tuning seeds depend.
            tuning_seeds: Seeds that a value is the mean of; None for as many as the suite has.
            data_dirs: Folders in which the dataset is looked up, before those in `GANNO_BENCH_DATA`.
            device: A PyTorch device.
            backend: `auto`, `vmap` or `loop`.

        Raises:
            UnknownNameError: There is no such suite, workload or scheduler.
            ConfigError: Nothing of the scheduler is tuned, or there would be no seed.
            DatasetError: The dataset is missing, or not as declared.
            PluginError: The scheduler breaks a rule.
        """
        n_seeds = load_suite(suite).budget.tuning_seeds if tuning_seeds is None else tuning_seeds
        if n_seeds < 1:
            raise ConfigError(f"tuning_seeds is less than 1 (value: {n_seeds})")
        self._entry = load_scheduler(scheduler)
        if self._entry.zero_shot:
            raise ConfigError(f"scheduler {scheduler!r} competes zero-shot: nothing of it is tuned")
        self._engine = Engine(
            load_workload(suite, workload, [Path(folder) for folder in data_dirs]), backend=backend, device=device
        )
        self._seeds = run_seeds("tuning", study, n_seeds)
        self._space = search_space(self._entry, self._engine.workload.spec.optimizer.name)
        self._lock = threading.Lock()
        self.name = f"{suite}/{workload}/{self._entry.name}"
        self.chance = self._engine.workload.dataset.chance_loss
        self.default: Config = default_config(self._entry, self._engine.workload.spec.optimizer.name)

    @property
    def search_space(self) -> dict[str, BaseDistribution]:
        """Base learning rate, weight decay, and what the scheduler has tuned besides."""
        return dict(self._space)

    @property
    def directions(self) -> list[StudyDirection]:
        """One objective, which is minimised."""
        return [StudyDirection.MINIMIZE]

    def evaluate(self, params: dict[str, Any]) -> float:
        """Return the objective: mean final validation loss, nats, in [0, `chance`].

        Args:
            params: A value for every parameter of `search_space`.

        Raises:
            ConfigError: A parameter is missing, unknown, or outside of its range.
        """
        return self.evaluate_batch([params])[0]

    def evaluate_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the objectives of several configurations, trained as one population: the values of `evaluate`.

        Args:
            batch: Configurations.

        Raises:
            ConfigError: A parameter is missing, unknown, or outside of its range; nothing was trained.
        """
        contestants = [contestant(self._entry, self._checked(params)) for params in batch]
        if not contestants:
            return []
        with self._lock:
            losses = drive(self._engine, contestants, self._seeds).val_loss[-1]
        # A run that diverged has NaN from there on; it counts as chance, as in a record.
        clipped = losses.nan_to_num(self.chance, posinf=self.chance).clamp(max=self.chance)
        return [sum(row) / len(row) for row in clipped.view(len(contestants), -1).tolist()]

    def _checked(self, params: Mapping[str, Any]) -> Config:
        for name in params:
            if name not in self._space:
                raise ConfigError(f"problem {self.name}: unknown parameter {name!r}{did_you_mean(name, self._space)}")
        for name, distribution in self._space.items():
            if name not in params:
                raise ConfigError(f"problem {self.name}: parameter {name!r} is missing")
            try:
                create_trial(params={name: params[name]}, distributions={name: distribution}, value=0.0)
            except (ValueError, TypeError):
                raise ConfigError(
                    f"problem {self.name}: parameter {name!r} is not in {distribution} (value: {params[name]!r})"
                ) from None
        return {**self.default, **params}
