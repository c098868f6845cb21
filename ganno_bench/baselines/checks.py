"""Check the records of an entry on a workload against its TOML file; for baselines and submissions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ganno_bench.bench.plan import Change
from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.scoring.results import Ruleset
from ganno_bench.tuning.space import Config
from ganno_bench.workloads.suite import Variation

__all__ = ["Expected", "check_runs", "check_study"]


@dataclass(frozen=True)
class Expected:
    """The expected content of an entry's records on one workload, in one study.

    Attributes:
        suite: Name of the suite.
        dataset_fingerprint: Fingerprint of the workload's data.
        scheduler: Name of the entry.
        code: Identifier of its code.
        ruleset: Its ruleset.
        winner: Index of the best trial.
        config: Configuration of that trial.
        report_seeds: Number of report seeds.
        trials: Number of trials; 0 if nothing is tuned.
        tuning_seeds: Number of tuning seeds of each trial.
        val_loss: Objective of the best trial, nats; None if nothing is tuned.
        source: The file with the expected values, for messages.
    """

    suite: str
    dataset_fingerprint: str
    scheduler: str
    code: str
    ruleset: Ruleset
    winner: int
    config: Config
    report_seeds: int
    trials: int
    tuning_seeds: int
    val_loss: float | None
    source: str = "the TOML file"


def check_runs(expected: Expected, records: Sequence[RunRecord], variation: Variation | None) -> Iterator[str]:
    """Check report and varied runs; yield one line for each fault.

    Args:
        expected: The expected content.
        records: Report and varied runs on the workload; those of each setting are sorted by seed.
        variation: The factors that the suite varies; None if it varies none.
    """
    found: dict[Change | None, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[Change.of_record(record)].append(record)
    wanted: dict[Change | None, int] = {None: expected.report_seeds}
    if variation is not None:
        wanted |= {Change(*setting): min(variation.seeds, expected.report_seeds) for setting in variation.settings}
    for change in dict.fromkeys([*wanted, *found]):
        runs, n_seeds = found[change], wanted.get(change, 0)
        name = "" if change is None else f"{change.factor} x {change.multiple:g}: "
        if (seeds := [record.seed for record in runs]) != list(range(n_seeds)):
            yield f"{name}has records of seeds {seeds}, expected {list(range(n_seeds))}"
        values = {
            "suite": expected.suite,
            "custom": False,
            "dataset_fingerprint": expected.dataset_fingerprint,
            "scheduler": expected.scheduler,
            "code": expected.code,
            "ruleset": expected.ruleset,
            "role": "report" if change is None else "varied",
            "trial": expected.winner,
            "config": expected.config if change is None else change.of_config(expected.config),
        }
        for record in runs:
            for key, right in values.items():
                if (there := getattr(record, key)) != right:
                    must = f"must be {right!r}, as in {expected.source}"
                    yield f"{name}seed {record.seed}: key {key!r}: {must} (value: {there!r})"


def check_study(expected: Expected, studies: Sequence[StudyRecord]) -> Iterator[str]:
    """Check the tuning study of an entry on a workload; yield one line for each fault."""
    if len(studies) != (n_studies := 1 if expected.trials else 0):
        yield f"has {len(studies)} studies, expected {n_studies}"
        return
    for study in studies:
        values = {
            "suite": expected.suite,
            "dataset_fingerprint": expected.dataset_fingerprint,
            "scheduler": expected.scheduler,
            "code": expected.code,
            "winner": expected.winner,
        }
        for key, wanted in values.items():
            if (found := getattr(study, key)) != wanted:
                yield f"key {key!r}: must be {wanted!r}, as in {expected.source} (value: {found!r})"
        if len(study.trials) != expected.trials:
            yield f"has {len(study.trials)} trials, expected {expected.trials}"
        if counts := {len(trial.values) for trial in study.trials} - {expected.tuning_seeds}:
            yield f"a trial has {min(counts)} tuning seeds, expected {expected.tuning_seeds}"
        winner = study.trials[study.winner]
        if winner.config != expected.config or winner.objective != expected.val_loss:
            yield (
                f"the best trial has configuration {winner.config} and objective {winner.objective}, "
                f"expected {expected.config} and {expected.val_loss}"
            )
