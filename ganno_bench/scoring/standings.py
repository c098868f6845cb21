"""Standings: ranked rows with confidence intervals, computed from records.

An entry's score, confidence interval and speed-up depend only on its own records, the reference and the bootstrap seed.
Ranks, mean ranks and the oracle also depend on the other entries.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np

from ganno_bench.core.errors import RecordError
from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.scoring.bootstrap import interval, resample_workload, resampled_iqm
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.metrics import (
    FloatArray,
    clipped_error,
    clipped_loss,
    counted,
    improvements,
    interquartile_mean,
    is_diverged,
    mean_ranks,
    median_speed_up,
    speed_up,
    target_of,
    workload_score,
)
from ganno_bench.scoring.reference import REFERENCE, reference_losses, remark
from ganno_bench.scoring.results import Cell, Row, Ruleset, Standings

__all__ = ["UNRANKED_IN_ZERO_SHOT", "Cell", "Row", "Ruleset", "Standings", "standings"]

UNRANKED_IN_ZERO_SHOT = ("constant", "step", REFERENCE)
"""Tuned schedulers that the zero-shot table shows as unranked reference rows."""


def standings(
    records: Iterable[RunRecord],
    *,
    reference: Mapping[str, float] | None = None,
    reference_runs: Iterable[RunRecord] = (),
    studies: Iterable[StudyRecord] = (),
    baselines: Collection[tuple[Ruleset, str]] = (),
    notes: Sequence[str] = (),
    workloads: Sequence[str] | None = None,
    rng_seed: int = 0,
    n_resamples: int = 2000,
) -> Standings:
    """Score, compare and rank the entries of one suite.

    Args:
        records: Report runs, and the tuning runs behind them. Their order does not matter.
        reference: Workload -> committed reference loss, nats. On other workloads the reference is tuned cosine of the
            records.
        reference_runs: The runs of the committed reference, for the probability of improvement and the speed-up. By
            default the runs of tuned cosine in the records.
        studies: Tuning studies whose runs are not among the records.
        baselines: (ruleset, scheduler) of the entries with committed runs.
        notes: Remarks to put before those on the runs.
        workloads: Ids of the workloads to aggregate, in the order of the tables. By default all workloads with a
            reference.
        rng_seed: Root seed of the bootstrap.
        n_resamples: Number of bootstrap resamples.

    Raises:
        RecordError: There are no report runs, a workload has no reference, or the records cannot be compared (see
            `check_records`).
    """
    checked = check_records(records)
    if workloads is not None:
        checked = [record for record in checked if record.workload in workloads]
    if not any(record.role == "report" for record in checked):
        raise RecordError("the records have no report runs, so there is nothing to score")
    some = checked[0]
    committed = reference or {}
    losses = reference_losses(checked, committed)
    names = tuple(workloads) if workloads is not None else tuple(sorted(losses, key=_natural))
    scorer = _Scorer(checked, names, losses, rng_seed, n_resamples)
    scorer.add_studies(studies)
    scorer.add_baselines(baselines, reference_runs)
    tables: dict[Ruleset, tuple[Row, ...]] = {}
    for ruleset in ("tuned", "zero-shot"):
        if rows := scorer.table(ruleset):
            tables[ruleset] = rows
    versions: dict[str, set[str]] = defaultdict(set)
    for record in checked:
        for package, version in record.provenance.versions.items():
            versions[package].add(version)
    return Standings(
        suite=some.suite,
        suite_hash=some.suite_hash,
        custom=some.custom,
        workloads=names,
        reference={name: losses[name] for name in names if name in losses},
        committed=frozenset(committed) & frozenset(names),
        tables=tables,
        cells=scorer.cells,
        n_trials=tuple(sorted(set(scorer.n_trials.values()))),
        n_seeds=tuple(sorted({len(runs.seeds) for on in scorer.entries.values() for runs in on.values()})),
        studies={
            name: min(runs.losses.shape[0] for runs in on.values())
            for (rules, name), on in scorer.entries.items()
            if rules == "tuned"
        },
        n_resamples=n_resamples,
        rng_seed=rng_seed,
        versions={package: tuple(sorted(found)) for package, found in sorted(versions.items())},
        notes=(*notes, *scorer.notes()),
    )


_Entry = tuple[Ruleset, str]


class _Runs:
    """The report runs of one entry on one workload, as a grid of tuning studies x seeds."""

    def __init__(self, records: Sequence[RunRecord], reference: float) -> None:
        studies: dict[int, dict[int, RunRecord]] = defaultdict(dict)
        for record in records:
            studies[record.study][record.seed] = record
        self.seeds = sorted(set.intersection(*(set(runs) for runs in studies.values())))
        if not self.seeds:
            some = records[0]
            label = f"{some.scheduler} ({some.ruleset}) on {some.workload!r}"
            raise RecordError(f"{label}: its studies {sorted(studies)} have no report seed in common")
        self.records = [runs[seed] for runs in studies.values() for seed in self.seeds]
        self.left_out = len(records) - len(self.records)
        self.losses = np.array([clipped_loss(record) for record in self.records]).reshape(len(studies), -1)
        self.chance = records[0].chance_loss
        self.counted = counted(self.losses, reference, self.chance)
        self.scores = workload_score(self.losses, reference, self.chance)

    def scores_of(self, seeds: Sequence[int]) -> FloatArray:
        """Return the scores of some of its seeds, shape (studies, seeds)."""
        wanted = {*seeds}
        return self.scores[:, [seed in wanted for seed in self.seeds]]


class _Scorer:
    """Computes cells and rows, and keeps what several rows need."""

    def __init__(
        self,
        records: Sequence[RunRecord],
        workloads: Sequence[str],
        reference: Mapping[str, float],
        rng_seed: int,
        n_resamples: int,
    ) -> None:
        self.workloads, self.reference = workloads, reference
        self.rng_seed, self.n_resamples = rng_seed, n_resamples
        grouped: dict[tuple[Ruleset, str, str], list[RunRecord]] = defaultdict(list)
        trials: dict[tuple[str, str, int], set[int]] = defaultdict(set)
        for record in records:
            if record.role == "report":
                grouped[record.ruleset, record.scheduler, record.workload].append(record)
            elif record.role == "tuning":
                trials[record.scheduler, record.workload, record.study].add(record.trial)
        self.entries: dict[_Entry, dict[str, _Runs]] = defaultdict(dict)
        for name in workloads:
            for (ruleset, scheduler, workload), group in grouped.items():
                if workload == name:
                    self.entries[ruleset, scheduler][name] = _Runs(group, reference[name])
        self.n_trials: dict[str, int] = {}
        for (scheduler, _, _), found in trials.items():
            self.n_trials[scheduler] = min(len(found), self.n_trials.get(scheduler, len(found)))
        self.cosine = self.entries.get(("tuned", REFERENCE), {})
        self.baselines: Collection[_Entry] = ()
        self._samples: dict[tuple[_Entry, tuple[tuple[str, tuple[int, ...]], ...]], FloatArray] = {}

    def add_studies(self, studies: Iterable[StudyRecord]) -> None:
        """Count the trials of studies whose runs are not among the records."""
        for study in studies:
            found = len(study.trials)
            self.n_trials[study.scheduler] = min(found, self.n_trials.get(study.scheduler, found))

    def add_baselines(self, entries: Collection[_Entry], reference_runs: Iterable[RunRecord]) -> None:
        """Mark committed entries, and compare with the committed runs of the reference."""
        self.baselines = entries
        runs: dict[str, list[RunRecord]] = defaultdict(list)
        for record in reference_runs:
            runs[record.workload].append(record)
        if runs:
            self.cosine = {name: _Runs(runs[name], self.reference[name]) for name in self.workloads if name in runs}

    @cached_property
    def targets(self) -> dict[str, tuple[float, float] | None]:
        """Return horizon and target of the reference on each workload; see `target_of`."""
        return {name: target_of(runs.records) for name, runs in self.cosine.items()}

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], Cell]:
        """Return every entry's cells."""
        return {(*entry, name): self._cell(entry, name) for entry, on in self.entries.items() for name in on}

    def table(self, ruleset: Ruleset) -> tuple[Row, ...]:
        """Return a ruleset's rows: ranked entries best first, incomplete ones, reference rows, the oracle."""
        own = [entry for entry in self.entries if entry[0] == ruleset]
        if not own:
            return ()
        complete = [entry for entry in own if len(self.entries[entry]) == len(self.workloads)]
        medians = np.array([[np.median(runs.counted) for runs in self.entries[entry].values()] for entry in complete])
        ranks = dict(zip(complete, mean_ranks(medians), strict=True)) if complete else {}
        rows = []
        for entry in own:
            better = sum(self._is_better(other, entry) for other in complete) if entry in ranks else None
            rank = None if better is None else 1 + better
            mean_rank = float(ranks[entry]) if entry in ranks else None
            rows.append(self._row(entry, "entry", rank, mean_rank))
        if ruleset == "zero-shot":
            carried: list[_Entry] = [("tuned", name) for name in UNRANKED_IN_ZERO_SHOT]
            rows += [self._row(entry, "reference", None, None) for entry in carried if entry in self.entries]
        order = {"entry": 0, "reference": 1}
        rows.sort(key=lambda row: (order[row.kind], row.rank is None, row.rank or 0, -row.iqm, row.entry))
        return (*rows, self._oracle(ruleset, own)) if len(own) > 1 else tuple(rows)

    def notes(self) -> tuple[str, ...]:
        """Return remarks about missing runs, runs that do not count, and scores that say little."""
        notes = []
        for name in self.workloads:
            chance = next((on[name].chance for on in self.entries.values() if name in on), None)
            if chance is not None and (said := remark(name, self.reference[name], chance)) is not None:
                notes.append(said)
        if without := [name for name in self.workloads if name in self.targets and self.targets[name] is None]:
            notes.append(
                f"No speed-up on {', '.join(without)}: tuned {REFERENCE} ends at chance, or its first measured "
                "validation loss is as low as its final one."
            )
        for (ruleset, scheduler), on in self.entries.items():
            for name, runs in on.items():
                if runs.left_out:
                    notes.append(
                        f"{scheduler} ({ruleset}) on {name}: {runs.left_out} runs do not count, because not every "
                        "tuning study has their seeds."
                    )
        for name in self.workloads:
            if len({tuple(on[name].seeds) for on in self.entries.values() if name in on}) > 1:
                notes.append(f"{name}: report seeds differ between entries, so comparisons use only common seeds.")
        if not self.cosine:
            notes.append(f"The records have no runs of tuned {REFERENCE}, so P(better) and speed-up have no values.")
        if len(set(self.n_trials.values())) > 1:
            counts = ", ".join(f"{name} {n}" for name, n in sorted(self.n_trials.items()))
            notes.append(f"Entries were tuned with different numbers of trials: {counts}.")
        return tuple(notes)

    def _cell(self, entry: _Entry, workload: str) -> Cell:
        runs, target = self.entries[entry][workload], self.targets.get(workload)
        samples = resample_workload(runs.scores, self.n_resamples, self.rng_seed, workload).mean(axis=1)
        low, high = _interval(samples, [runs.seeds])
        errors = [error for record in runs.records if (error := clipped_error(record)) is not None]
        return Cell(
            entry=entry[1],
            ruleset=entry[0],
            workload=workload,
            n_runs=len(runs.records),
            diverged=sum(map(is_diverged, runs.records)),
            test_loss=float(np.median(runs.losses)),
            test_error=float(np.median(errors)) if errors else None,
            score=float(runs.scores.mean()),
            score_low=low,
            score_high=high,
            speed_up=None if target is None else speed_up(runs.records, target),
        )

    def _row(
        self, entry: _Entry, kind: Literal["entry", "reference"], rank: int | None, mean_rank: float | None
    ) -> Row:
        on = self.entries[entry]
        seeds = {name: runs.seeds for name, runs in on.items()}
        low, high = _interval(self._resampled(entry, seeds), seeds.values())
        improvement, improvement_low, improvement_high = self._improvement(entry)
        cells = [self.cells[(*entry, name)] for name in on]
        speed_ups = [cell.speed_up for cell in cells if cell.speed_up is not None]
        return Row(
            entry=entry[1],
            ruleset=entry[0],
            kind=kind,
            rank=rank,
            iqm=_iqm([runs.scores for runs in on.values()]),
            iqm_low=low,
            iqm_high=high,
            improvement=improvement,
            improvement_low=improvement_low,
            improvement_high=improvement_high,
            mean_rank=mean_rank,
            speed_up=median_speed_up(speed_ups) if speed_ups else None,
            diverged=sum(cell.diverged for cell in cells),
            n_runs=sum(cell.n_runs for cell in cells),
            n_workloads=len(on),
            n_trials=self.n_trials.get(entry[1]) if entry[0] == "tuned" else None,
            open_optimizer=any(record.open_optimizer for runs in on.values() for record in runs.records),
            baseline=entry in self.baselines,
        )

    def _oracle(self, ruleset: Ruleset, own: Sequence[_Entry]) -> Row:
        best = {}
        for name in self.workloads:
            if found := [self.entries[entry][name] for entry in own if name in self.entries[entry]]:
                best[name] = max(found, key=lambda runs: float(np.median(runs.scores)))
        records = [record for runs in best.values() for record in runs.records]
        return Row(
            entry="oracle",
            ruleset=ruleset,
            kind="oracle",
            iqm=_iqm([runs.scores for runs in best.values()]),
            diverged=sum(map(is_diverged, records)),
            n_runs=len(records),
            n_workloads=len(best),
        )

    def _resampled(self, entry: _Entry, seeds: Mapping[str, Sequence[int]]) -> FloatArray:
        """Return an entry's resampled interquartile means from these seeds of these workloads."""
        key = (entry, tuple((name, tuple(found)) for name, found in seeds.items()))
        if key not in self._samples:
            scores = {name: self.entries[entry][name].scores_of(found) for name, found in seeds.items()}
            self._samples[key] = resampled_iqm(scores, self.n_resamples, self.rng_seed)
        return self._samples[key]

    def _common_seeds(self, first: Mapping[str, _Runs], second: Mapping[str, _Runs]) -> dict[str, list[int]]:
        common = {name: sorted({*first[name].seeds} & {*second[name].seeds}) for name in first if name in second}
        return {name: seeds for name, seeds in common.items() if seeds}

    def _is_better(self, entry: _Entry, than: _Entry) -> bool:
        """Return whether the 95 % confidence interval of the paired difference, over common seeds, lies above 0."""
        seeds = self._common_seeds(self.entries[entry], self.entries[than])
        if entry == than or len(seeds) < len(self.workloads):
            return False
        low, _ = _interval(self._resampled(entry, seeds) - self._resampled(than, seeds), seeds.values())
        return low is not None and low > 0

    def _improvement(self, entry: _Entry) -> tuple[float | None, float | None, float | None]:
        seeds = self._common_seeds(self.entries[entry], self.cosine)
        if entry == ("tuned", REFERENCE) or not seeds:
            return None, None, None
        means, samples = [], []
        for name, found in seeds.items():
            wins = improvements(self.entries[entry][name].scores_of(found), self.cosine[name].scores_of(found))
            means.append(wins.mean())
            samples.append(resample_workload(wins, self.n_resamples, self.rng_seed, name).mean(axis=1))
        return float(np.mean(means)), *_interval(np.mean(samples, axis=0), seeds.values())


def _interval(samples: FloatArray, seeds: Iterable[Sequence[int]]) -> tuple[float, float] | tuple[None, None]:
    """Return a confidence interval; None if a workload has a single seed, whose resamples are all equal."""
    return interval(samples) if all(len(found) > 1 for found in seeds) else (None, None)


def _iqm(scores: Sequence[FloatArray]) -> float:
    return float(interquartile_mean(np.concatenate([values.ravel() for values in scores])))


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts `mlp-4` before `mlp-16`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
