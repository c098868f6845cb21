"""What the records of an entry on a workload must be, given what is said of them; for baselines and submissions."""

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
    """What is said of an entry on one workload, in one study.

    Attributes:
        suite: Name of the suite.
        dataset_fingerprint: Of the workload's data.
        scheduler: Name of the entry.
        code: What stands for its code.
        ruleset: Its ruleset.
        winner: Index of the trial that won.
        config: Its configuration.
        report_seeds: Number of report seeds.
        trials: Number of trials; 0 where nothing is tuned.
        tuning_seeds: Number of seeds of each.
        val_loss: Objective of the winner, nats; None where nothing is tuned.
        source: Which file says so.
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
    """Check the report, and what the suite varies of it: one line for each thing that is wrong.

    Args:
        expected: What they must be.
        records: Report and varied runs on the workload, those of each setting sorted by seed.
        variation: What the suite varies.
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
            expected_seeds = f"of 0 to {n_seeds - 1}" if n_seeds else "any"
            yield f"{name}there are records of the seeds {seeds}, not {expected_seeds}"
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
                    yield f"{name}seed {record.seed}: key {key!r}: {there!r} is not {right!r}, as in {expected.source}"


def check_study(expected: Expected, studies: Sequence[StudyRecord]) -> Iterator[str]:
    """Check the tuning study of an entry on a workload: one line for each thing that is wrong."""
    if len(studies) != (1 if expected.trials else 0):
        yield f"there are {len(studies)} studies"
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
                yield f"key {key!r}: {found!r} is not {wanted!r}, as in {expected.source}"
        if len(study.trials) != expected.trials:
            yield f"there are {len(study.trials)} trials, not {expected.trials}"
        if counts := {len(trial.values) for trial in study.trials} - {expected.tuning_seeds}:
            yield f"a trial has {min(counts)} tuning seeds, not {expected.tuning_seeds}"
        winner = study.trials[study.winner]
        if winner.config != expected.config or winner.objective != expected.val_loss:
            yield (
                f"the best trial has {winner.config} and {winner.objective}, "
                f"not {expected.config} and {expected.val_loss}"
            )
