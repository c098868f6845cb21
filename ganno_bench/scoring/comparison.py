"""Comparison of your own runs with committed baselines, with notes for the reader.

An entry that you ran replaces the committed one. Scores, P(better) and speed-ups remain relative to the committed
reference. So they do not depend on whether you ran cosine again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.reference import REFERENCE, REFERENCE_STUDY, ReferenceValues, is_reference, reference_values
from ganno_bench.scoring.results import Ruleset, Standings
from ganno_bench.scoring.standings import standings

__all__ = ["Baselines", "Comparison", "against_each_study", "committed_alone", "compare", "complete_workloads"]


@dataclass(frozen=True)
class Baselines:
    """The committed results of one suite.

    Attributes:
        records: Report runs.
        studies: The tuning studies that led to them.
        reference: Workload -> reference. A workload without a reference is not compared.
    """

    records: Sequence[RunRecord] = ()
    studies: Sequence[StudyRecord] = ()
    reference: Mapping[str, ReferenceValues] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """The data of tables and plots.

    Attributes:
        records: Own records, and committed report runs.
        studies: Committed tuning studies.
        reference: Workload -> committed reference loss, nats.
        reference_runs: The runs from which the reference is computed.
        baselines: (ruleset, scheduler) of the entries with committed records.
        notes: Notes for the reader, one line each.
    """

    records: Sequence[RunRecord]
    studies: Sequence[StudyRecord] = ()
    reference: Mapping[str, float] = field(default_factory=dict)
    reference_runs: Sequence[RunRecord] = ()
    baselines: Collection[tuple[Ruleset, str]] = frozenset()
    notes: Sequence[str] = ()

    def standings(self, **options: Any) -> Standings:
        """Return the scored and ranked entries; see `ganno_bench.scoring.standings.standings`."""
        return standings(
            self.records,
            reference=self.reference,
            reference_runs=self.reference_runs,
            studies=self.studies,
            baselines=self.baselines,
            notes=self.notes,
            **options,
        )


def compare(records: Iterable[RunRecord], baselines: Baselines) -> Comparison:
    """Combine own runs with the committed baselines of their suite.

    If a workload has no committed reference, or a reference on other data, it is scored relative to your own runs of
    tuned cosine. Without such runs it is left out. If no workload can be compared with the baselines, the comparison
    has only your own runs.

    Args:
        records: Own records, of one suite.
        baselines: The committed results of that suite.

    Raises:
        RecordError: The records cannot be compared with each other.
    """
    own = list(records)
    if not own or not baselines.reference:
        return Comparison(own)
    check_records(own)
    if any(record.custom for record in own):
        return Comparison(own, notes=["Custom settings: not compared with the committed baselines."])
    strange = [name for name in dict.fromkeys(r.workload for r in own) if not _same_data(name, own, baselines)]
    if all(record.workload in strange for record in own):
        return Comparison(own, notes=_about_strange(strange, (), own, baselines))
    own_reference = {record.workload for record in own if record.workload in strange and is_reference(record)}
    notes = _about_strange(strange, own_reference, own, baselines)
    kept = [record for record in own if record.workload not in strange or record.workload in own_reference]
    mine = {(record.ruleset, record.scheduler) for record in kept}
    usable = {name: values for name, values in baselines.reference.items() if name not in strange}
    runs = [
        run
        for run in baselines.records
        if run.workload in usable and run.dataset_fingerprint == usable[run.workload].fingerprint
    ]
    committed = [run for run in runs if (run.ruleset, run.scheduler) not in mine]
    if lacking := sorted(own_reference - baselines.reference.keys()):
        # Their means would be over fewer workloads than the means of own entries.
        committed = []
        notes.append(f"The committed entries are left out: they have no runs on {', '.join(lacking)}.")
    if committed:
        notes.append(_about_committed(committed, kept))
    return Comparison(
        records=[*kept, *committed],
        studies=[s for s in baselines.studies if s.workload in usable and ("tuned", s.scheduler) not in mine],
        reference={name: values.loss for name, values in usable.items()},
        reference_runs=[
            *_reference_runs(runs),
            *(run for run in own if run.workload in own_reference and is_reference(run)),
        ],
        baselines=frozenset((run.ruleset, run.scheduler) for run in committed),
        notes=notes,
    )


def complete_workloads(baselines: Baselines) -> frozenset[str]:
    """Return the workloads with a reference on which all entries of the baselines have report runs.

    Published tables leave out the others: their rows would be means over different workloads.
    """
    through: dict[str, set[tuple[str, str]]] = {}
    for run in baselines.records:
        through.setdefault(run.workload, set()).add((run.ruleset, run.scheduler))
    everyone = set().union(*through.values())
    return frozenset(name for name in baselines.reference if through.get(name) == everyone)


def committed_alone(baselines: Baselines, workloads: Collection[str]) -> Comparison:
    """Return a comparison of the committed results alone, on some workloads, each of which has a reference."""
    records = [run for run in baselines.records if run.workload in workloads]
    return Comparison(
        records=records,
        studies=[study for study in baselines.studies if study.workload in workloads],
        reference={name: baselines.reference[name].loss for name in workloads},
        reference_runs=_reference_runs(records),
    )


def against_each_study(comparison: Comparison) -> dict[int, Comparison]:
    """Return the comparison with the reference of each tuning study, by study, ascending.

    The differences of a score between them show how much it depends on luck in tuning the reference. A study that lacks
    a workload is left out.
    """
    found: dict[int, dict[str, list[RunRecord]]] = {}
    for run in comparison.records:
        if is_reference(run):
            found.setdefault(run.study, {}).setdefault(run.workload, []).append(run)
    return {
        study: replace(
            comparison,
            reference={workload: reference_values(own).loss for workload, own in runs.items()},
            reference_runs=[run for own in runs.values() for run in own],
        )
        for study, runs in sorted(found.items())
        if runs.keys() >= comparison.reference.keys()
    }


def _reference_runs(records: Iterable[RunRecord]) -> list[RunRecord]:
    return [run for run in records if is_reference(run) and run.study == REFERENCE_STUDY]


def _same_data(workload: str, own: Sequence[RunRecord], baselines: Baselines) -> bool:
    if workload not in baselines.reference:
        return False
    return {r.dataset_fingerprint for r in own if r.workload == workload} == {baselines.reference[workload].fingerprint}


def _about_strange(
    names: Sequence[str], own_reference: Collection[str], own: Sequence[RunRecord], baselines: Baselines
) -> list[str]:
    def listed(names: Sequence[str]) -> str:
        other = [name for name in names if name in baselines.reference]
        without = [name for name in names if name not in baselines.reference]
        reasons = [f"{', '.join(other)} (other data than the baselines')"] if other else []
        reasons += [f"{', '.join(without)} (no committed reference)"] if without else []
        return "; ".join(reasons)

    notes = []
    if covered := [name for name in names if name in own_reference]:
        notes.append(f"Compared only with the {REFERENCE} of these runs: {listed(covered)}.")
    if left_out := [name for name in names if name not in own_reference]:
        notes.append(
            f"Not compared with the baselines: {listed(left_out)}. For a reference of your own: "
            f"ganno-bench run {own[0].suite} --scheduler {REFERENCE} --no-baselines, into the same --out."
        )
    return notes


def _about_committed(committed: Sequence[RunRecord], own: Sequence[RunRecord]) -> str:
    days = sorted({run.provenance.timestamp[:10] for run in committed})
    made = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    theirs, mine = _versions(committed), _versions(own)
    differing = [name for name in sorted(theirs) if name in mine and theirs[name] != mine[name]]
    parts = [f"{name} {theirs[name]} (these runs: {mine[name]})" for name in differing]
    before, now = _backends(committed), _backends(own)
    if other := [workload for workload in before.keys() & now.keys() if before[workload] != now[workload]]:
        old, new = ("/".join(sorted(set().union(*(found[name] for name in other)))) for found in (before, now))
        parts.append(f"backend {old} (these runs: {new})")
    return f"* committed baseline, of {made}" + (f"; made with {', '.join(parts)}" if parts else "") + "."


def _backends(records: Iterable[RunRecord]) -> dict[str, set[str]]:
    """Return workload -> the backends that trained its runs."""
    found: dict[str, set[str]] = {}
    for record in records:
        found.setdefault(record.workload, set()).add(record.provenance.backend)
    return found


def _versions(records: Iterable[RunRecord]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in record.provenance.versions.items():
            found.setdefault(package, set()).add(version)
    return {package: "/".join(sorted(versions)) for package, versions in found.items()}
