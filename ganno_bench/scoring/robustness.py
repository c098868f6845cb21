"""Robustness: the scores of varied runs, in which one factor differs from the tuned or reported one.

A varied run is scored like any other, relative to the suite's reference: tuned cosine with its tuned configuration, at
the workload's horizon and batch size. So 0 is the result of tuning cosine for the workload itself. Compare entries
setting by setting: a longer horizon is easier for all of them.

Means over runs, workloads and settings are plain means. An interquartile mean, as in the standings, would cut off the
worst quarter, and robustness is about these. No run counts as worse than chance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self, get_args

import numpy as np

from ganno_bench.core.records import Factor, RunRecord
from ganno_bench.scoring.bootstrap import interval, resample_workload
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.metrics import FloatArray, clipped_loss, is_diverged, workload_score
from ganno_bench.scoring.reference import remark
from ganno_bench.scoring.results import Ruleset, Standings

__all__ = ["OWN", "Robustness", "Setting", "VariedCell", "VariedEntry", "robustness"]


@dataclass(frozen=True)
class Setting:
    """The change of a varied run.

    Attributes:
        factor: The changed factor. None: nothing was changed; the run is a report run.
        multiple: The new value as a multiple of the entry's or the workload's value.
    """

    factor: Factor | None
    multiple: float

    @classmethod
    def of(cls, record: RunRecord) -> Self:
        """Return the setting of a record's run."""
        return cls(record.factor, 1.0 if record.multiple is None else record.multiple)


OWN = Setting(None, 1.0)
"""The unchanged setting: report runs, with the seeds of the varied runs."""


@dataclass(frozen=True)
class VariedCell:
    """The result of one entry under one setting, on one workload or as the mean over workloads.

    Attributes:
        setting: The change.
        n_runs: Number of runs.
        diverged: Number of runs that diverged.
        test_loss: Median of the clipped final test loss, nats; None for the mean over workloads.
        score: Mean score over runs, or the mean of the workloads' means.
        low: Lower end of its 95 % confidence interval (bootstrap); None if there is a single seed.
        high: Upper end.
    """

    setting: Setting
    n_runs: int
    diverged: int
    test_loss: float | None
    score: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class VariedEntry:
    """The results of one entry under all settings.

    Attributes:
        entry: Name of the scheduler.
        ruleset: Its ruleset. A tuned entry is varied around its best configuration on the workload, a zero-shot one
            around its only configuration.
        overall: Setting -> mean over the workloads, including `OWN`.
        cells: Workload -> setting -> result.
        factors: Factor -> mean score over its settings.
        mean: Mean score over all settings except `OWN`.
        low: Lower end of its 95 % confidence interval (bootstrap); None if there is a single seed.
        high: Upper end.
    """

    entry: str
    ruleset: Ruleset
    overall: Mapping[Setting, VariedCell]
    cells: Mapping[str, Mapping[Setting, VariedCell]]
    factors: Mapping[Factor, float]
    mean: float
    low: float | None
    high: float | None

    @property
    def worst(self) -> VariedCell:
        """The result with the lowest mean over the workloads; the first one of several."""
        return min((cell for setting, cell in self.overall.items() if setting != OWN), key=lambda cell: cell.score)


@dataclass(frozen=True)
class Robustness:
    """The robustness of all entries of one suite.

    Attributes:
        workloads: Workload ids.
        settings: All settings except `OWN`, by factor, with ascending multiples.
        entries: The entries, best mean first.
        n_seeds: The smallest number of seeds per study in a cell.
        notes: Notes for the reader, one sentence each.
    """

    workloads: tuple[str, ...]
    settings: tuple[Setting, ...]
    entries: tuple[VariedEntry, ...]
    n_seeds: int
    notes: tuple[str, ...]

    @property
    def factors(self) -> dict[Factor, tuple[Setting, ...]]:
        """Factor -> settings."""
        found: dict[Factor, list[Setting]] = defaultdict(list)
        for setting in self.settings:
            if setting.factor is not None:
                found[setting.factor].append(setting)
        return {factor: tuple(settings) for factor, settings in found.items()}


_Runs = dict[str, dict[Setting, list[RunRecord]]]
"""Workload -> setting -> runs of an entry."""


def robustness(records: Iterable[RunRecord], standings: Standings) -> Robustness | None:
    """Score the varied runs of a suite; return None if no entry has all settings on all workloads.

    The scores of an entry depend only on its records, the reference and the bootstrap's seed. An entry that lacks
    settings, since it failed or has not finished, is left out, with a note.

    Args:
        records: Report and varied runs; others are ignored.
        standings: The standings of the same records, which give reference, workloads and bootstrap.

    Raises:
        RecordError: The records cannot be compared.
    """
    runs: dict[tuple[Ruleset, str], _Runs] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    chance: dict[str, float] = {}
    for record in check_records(records):
        chance[record.workload] = record.chance_loss
        if record.role != "tuning" and record.workload in standings.workloads:
            runs[record.ruleset, record.scheduler][record.workload][Setting.of(record)].append(record)
    varied = {key: on for key, on in runs.items() if any(setting != OWN for own in on.values() for setting in own)}
    order = get_args(Factor)
    settings = sorted(
        {setting for on in varied.values() for own in on.values() for setting in own if setting != OWN},
        key=lambda setting: (order.index(setting.factor), setting.multiple),
    )
    varied_on = {name for on in varied.values() for name, own in on.items() if own.keys() - {OWN}}
    workloads = [name for name in standings.workloads if name in varied_on]
    remarks = [remark(name, standings.reference[name], chance[name]) for name in workloads]
    notes = [said for said in remarks if said is not None]
    entries, n_seeds = [], []
    for (ruleset, name), on in varied.items():
        seeds = {workload: _common_seeds(on.get(workload, {}), [OWN, *settings]) for workload in workloads}
        if missing := [workload for workload in workloads if not seeds[workload]]:
            notes.append(f"{name} ({ruleset}) is left out: it lacks settings on {', '.join(missing)}.")
            continue
        n_seeds.append(min(map(len, seeds.values())))
        entries.append(_entry(name, ruleset, on, seeds, [OWN, *settings], standings))
    if not entries:
        return None
    entries.sort(key=lambda entry: (-entry.mean, entry.entry))
    return Robustness(tuple(workloads), tuple(settings), tuple(entries), min(n_seeds), tuple(notes))


def _common_seeds(runs: Mapping[Setting, Sequence[RunRecord]], settings: Sequence[Setting]) -> list[int]:
    """Return the seeds that every study has under every setting."""
    if any(setting not in runs for setting in settings):
        return []
    studies = sorted({record.study for found in runs.values() for record in found})
    sets = [{r.seed for r in runs[setting] if r.study == study} for setting in settings for study in studies]
    return sorted(set.intersection(*sets))


def _entry(
    name: str,
    ruleset: Ruleset,
    runs: _Runs,
    seeds: Mapping[str, Sequence[int]],
    settings: Sequence[Setting],
    standings: Standings,
) -> VariedEntry:
    bounded = all(len(found) > 1 for found in seeds.values())
    cells: dict[str, dict[Setting, VariedCell]] = {}
    samples: dict[Setting, list[FloatArray]] = defaultdict(list)  # for each workload its resampled means, shape (R,)
    for workload, own in seeds.items():
        cells[workload] = {}
        for setting in settings:
            kept = sorted((r for r in runs[workload][setting] if r.seed in own), key=lambda r: (r.study, r.seed))
            losses = np.array([clipped_loss(record) for record in kept]).reshape(-1, len(own))
            reference, chance = standings.reference[workload], kept[0].chance_loss
            scores = workload_score(losses, reference, chance)
            drawn = resample_workload(scores, standings.n_resamples, standings.rng_seed, workload)
            samples[setting].append(drawn.mean(axis=1))  # all settings have the same resamples
            cells[workload][setting] = VariedCell(
                setting,
                len(kept),
                sum(map(is_diverged, kept)),
                float(np.median(losses)),
                float(scores.mean()),
                *_interval(samples[setting][-1], len(own) > 1),
            )
    overall, over_workloads = {}, {}
    for setting in settings:
        across = [cells[workload][setting] for workload in seeds]
        over_workloads[setting] = np.mean(samples[setting], axis=0)
        overall[setting] = VariedCell(
            setting,
            sum(cell.n_runs for cell in across),
            sum(cell.diverged for cell in across),
            None,
            float(np.mean([cell.score for cell in across])),
            *_interval(over_workloads[setting], bounded),
        )
    varied = [setting for setting in settings if setting != OWN]
    by_factor: dict[Factor, list[float]] = defaultdict(list)
    for setting in varied:
        if setting.factor is not None:
            by_factor[setting.factor].append(overall[setting].score)
    low, high = _interval(np.mean([over_workloads[setting] for setting in varied], axis=0), bounded)
    return VariedEntry(
        entry=name,
        ruleset=ruleset,
        overall=overall,
        cells=cells,
        factors={factor: float(np.mean(scores)) for factor, scores in by_factor.items()},
        mean=float(np.mean([overall[setting].score for setting in varied])),
        low=low,
        high=high,
    )


def _interval(samples: FloatArray, bounded: bool) -> tuple[float, float] | tuple[None, None]:
    return interval(samples) if bounded else (None, None)
