"""One suite of the leaderboard: its scored entries, and the data of its tables and drawings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.core.records import RunRecord
from ganno_bench.leaderboard.entries import Entry, by_suite
from ganno_bench.leaderboard.style import Look, looks
from ganno_bench.scoring.budget import budget_scores
from ganno_bench.scoring.comparison import Baselines, Comparison, committed_alone, complete_workloads
from ganno_bench.scoring.metrics import FloatArray
from ganno_bench.scoring.pairwise import Duel, duels
from ganno_bench.scoring.reference import ReferenceValues, read_reference
from ganno_bench.scoring.results import Row, Ruleset, Standings
from ganno_bench.scoring.robustness import Robustness, robustness
from ganno_bench.workloads.suite import Suite, load_suite

__all__ = ["Board", "build_boards", "make_board"]


@dataclass(frozen=True, eq=False)
class Board:
    """A suite with its standings.

    Attributes:
        suite: The suite.
        entries: (ruleset, name) -> entry, ranked or not.
        comparison: The records and studies that are compared.
        standings: The resulting tables.
        reference_file: Path of the reference's file, relative to the project.
    """

    suite: Suite
    entries: Mapping[tuple[str, str], Entry]
    comparison: Comparison
    standings: Standings
    reference_file: str

    @property
    def name(self) -> str:
        """Name of the suite."""
        return self.suite.name

    @property
    def left_out(self) -> list[str]:
        """Workloads that not every baseline has finished yet."""
        return [spec.id for spec in self.suite.workload if spec.id not in self.standings.workloads]

    def ranked(self, ruleset: Ruleset) -> list[Row]:
        """Return the rows of a ruleset's entries that have a rank, best first."""
        return [row for row in self.standings.tables.get(ruleset, ()) if row.rank is not None]

    @cached_property
    def rows(self) -> dict[tuple[str, str], Row]:
        """(ruleset, name) -> its row, in the order of the tables."""
        tables = self.standings.tables.values()
        return {(row.ruleset, row.entry): row for table in tables for row in table if row.kind == "entry"}

    @cached_property
    def looks(self) -> dict[tuple[str, str], Look]:
        """(ruleset, name) -> the entry's colour and line style."""
        return looks(self.standings)

    @cached_property
    def reports(self) -> dict[tuple[str, str, str], list[RunRecord]]:
        """(ruleset, name, workload) -> report runs, by study and seed."""
        found: dict[tuple[str, str, str], list[RunRecord]] = {}
        for run in sorted(self.comparison.records, key=lambda run: (run.study, run.seed)):
            if run.role == "report":
                found.setdefault((run.ruleset, run.scheduler, run.workload), []).append(run)
        return found

    @cached_property
    def budget(self) -> dict[tuple[str, str], dict[str, FloatArray]]:
        """See `ganno_bench.scoring.budget.budget_scores`."""
        return budget_scores(self.comparison.records, self.comparison.studies)

    @cached_property
    def duels(self) -> dict[Ruleset, dict[tuple[str, str], Duel]]:
        """Ruleset -> (entry, rival) -> their comparison."""
        return {ruleset: duels(self.comparison.records, self.standings, ruleset) for ruleset in self.standings.tables}

    @cached_property
    def robustness(self) -> Robustness | None:
        """Results with one factor changed; None if the suite varies nothing."""
        return robustness(self.comparison.records, self.standings)


def build_boards(entries: Iterable[Entry], folder: BaselineFolder) -> tuple[list[Board], list[str]]:
    """Score the entries of every suite.

    A workload is left out until every baseline has finished it. A submission that lacks a workload has no rank.

    Args:
        entries: The entries of all suites.
        folder: The folder of the baselines, for the reference.

    Returns:
        The suites with at least one workload to compare, sorted by name, and the names of the others.

    Raises:
        UserError: Records cannot be compared, or a file cannot be read.
    """
    boards, pending = [], []
    for name, own in by_suite(entries).items():
        suite = load_suite(name)
        file = folder.reference
        reference_file = file.relative_to(folder.path.parent).as_posix()
        board = make_board(suite, own, read_reference(suite.hash, file), reference_file)
        if board is None:
            pending.append(name)
        else:
            boards.append(board)
    return boards, pending


def make_board(
    suite: Suite, entries: Sequence[Entry], reference: Mapping[str, ReferenceValues], reference_file: str
) -> Board | None:
    """Score the entries of one suite; None if no workload has been finished by every baseline.

    Args:
        suite: The suite; records of its other versions are ignored.
        entries: Its entries.
        reference: Workload -> the committed values of the reference.
        reference_file: The file of these values.

    Raises:
        RecordError: The records cannot be compared.
    """
    version = suite.hash

    def baselines(some: Iterable[Entry]) -> Baselines:
        records = [run for entry in some for run in entry.records if run.suite_hash == version]
        return Baselines(records, [study for entry in some for study in entry.studies], reference)

    complete = complete_workloads(baselines([entry for entry in entries if entry.origin == "baseline"]))
    if not complete:
        return None
    comparison = committed_alone(baselines(entries), complete)
    return Board(suite, {entry.key: entry for entry in entries}, comparison, comparison.standings(), reference_file)
