"""The project's own facts about a suite, to check submissions by: workloads, baselines, reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ganno_bench.baselines.files import BaselineFolder, read_baselines
from ganno_bench.core.errors import UnknownNameError, did_you_mean
from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.comparison import Baselines
from ganno_bench.workloads.suite import Suite, WorkloadSpec, load_suite, suite_names

__all__ = ["KnownSuite", "KnownSuites"]


@dataclass(frozen=True)
class KnownSuite:
    """A suite of the project and its committed baselines.

    Attributes:
        suite: The suite.
        baselines: Committed baselines.
    """

    suite: Suite
    baselines: Baselines

    @cached_property
    def workloads(self) -> Mapping[str, WorkloadSpec]:
        """The workloads that a submission must have: all except those on local data."""
        suite = self.suite
        return {spec.id: spec for spec in suite.workload if not suite.dataset[spec.dataset].local}

    @cached_property
    def examples(self) -> Mapping[str, RunRecord]:
        """Workload -> a committed record on the reference's data, for workloads with a reference."""
        reference = self.baselines.reference
        return {
            run.workload: run
            for run in self.baselines.records
            if run.workload in reference and run.dataset_fingerprint == reference[run.workload].fingerprint
        }

    @cached_property
    def entries(self) -> frozenset[str]:
        """Names of the committed entries."""
        return frozenset(run.scheduler for run in self.baselines.records)

    @cached_property
    def optimizers(self) -> frozenset[str]:
        """The optimizers of these workloads."""
        return frozenset(spec.optimizer.name for spec in self.workloads.values())


class KnownSuites:
    """The project's suites by name, each loaded once."""

    def __init__(self, folder: BaselineFolder | None = None) -> None:
        """Use a folder of baselines; by default the project's."""
        self._folder = folder or BaselineFolder()
        self._loaded: dict[str, KnownSuite] = {}

    def load(self, name: str) -> KnownSuite:
        """Return a suite of the project.

        Raises:
            UnknownNameError: The project has no suite of this name; files elsewhere are not searched.
        """
        if name not in self._loaded:
            if name not in (names := suite_names()):
                raise UnknownNameError(f"unknown suite {name!r}{did_you_mean(name, names)}")
            suite = load_suite(name)
            self._loaded[name] = KnownSuite(suite, read_baselines(suite.name, suite.hash, self._folder))
        return self._loaded[name]
