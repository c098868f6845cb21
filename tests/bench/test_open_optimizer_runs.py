"""Open optimizers in a run: recorded as such, resumed, scored zero-shot, and marked in every table."""

from __future__ import annotations

import csv
import io
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from rich.console import Console

from ganno_bench.core.records import RunRecord, parse_record, read_records, record_text
from ganno_bench.leaderboard.formats import to_csv, to_latex, to_markdown
from ganno_bench.leaderboard.terminal import to_rich
from ganno_bench.scoring.results import Standings
from ganno_bench.scoring.standings import standings
from tests.helpers.tiny_suite import WORKLOADS, Interrupt, keep, results, run_tiny, write_suite

OPEN = ["schedule-free", "prodigy"]
ENTRIES = ["cosine", *OPEN, "default:cosine"]
RELEASED = {
    ("sgd-mlp", "schedule-free"): ("schedulefree.SGDScheduleFree", 1.0),
    ("adam-mlp", "schedule-free"): ("schedulefree.AdamWScheduleFree", 0.0025),
    ("sgd-mlp", "prodigy"): ("prodigyopt.Prodigy", 1.0),
    ("adam-mlp", "prodigy"): ("prodigyopt.Prodigy", 1.0),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole run; not to be written to."""
    folder = tmp_path_factory.mktemp("open")
    run_tiny(write_suite(folder), folder / "out", schedulers=ENTRIES)
    return folder / "out"


@pytest.fixture(scope="module")
def table(whole: Path) -> Standings:
    return standings(read_records([whole]), n_resamples=50)


def test_the_record_says_what_replaced_the_optimizer(whole: Path) -> None:
    records = read_records([whole])
    for (workload, entry), (released, base_lr) in RELEASED.items():
        found = [r for r in records if (r.workload, r.scheduler) == (workload, entry)]
        assert [(r.seed, r.role, r.ruleset) for r in found] == [(seed, "report", "zero-shot") for seed in range(3)]
        package = released.partition(".")[0]
        for r in found:
            assert (r.open_optimizer, r.config) == (released, {"base_lr": base_lr, "weight_decay": 1e-4})
            assert r.provenance.versions[package] == version(package)
            assert (r.cost.updates, r.cost.tuning_updates, r.status) == (6, 0, "completed")
            assert None not in r.metrics.model_dump().values()
            assert len(r.curve.val_loss) == len(r.curve.updates) > 1
    others = [r for r in records if r.scheduler not in OPEN]
    assert others
    assert {r.open_optimizer for r in others} == {None}
    assert not any({"prodigyopt", "schedulefree"} & set(r.provenance.versions) for r in others)


def test_records_without_the_field_are_read_and_written_as_ever(whole: Path) -> None:
    lines = (whole / "records.jsonl").read_text().splitlines()
    usual = next(line for line in lines if json.loads(line)["scheduler"] == "cosine")
    assert "open_optimizer" not in json.loads(usual)
    assert record_text(parse_record(usual, "here")) == usual.partition(',"after"')[0] + "}"
    own = next(line for line in lines if json.loads(line)["scheduler"] == "prodigy")
    record: RunRecord = parse_record(own, "here")
    assert record.open_optimizer == "prodigyopt.Prodigy"
    assert record_text(record) == own.partition(',"after"')[0] + "}"


def test_it_begins_with_the_loss_of_everyone(whole: Path) -> None:
    records = [r for r in read_records([whole]) if r.role == "report"]
    for workload in WORKLOADS:
        first = {(r.scheduler, r.seed): r.curve.train_loss[0] for r in records if r.workload == workload}
        assert len(set(first.values())) == 3
        assert all(first[entry, seed] == first["cosine", seed] for entry in OPEN for seed in range(3))


def test_it_makes_no_difference_to_others(whole: Path, unbroken: Path) -> None:
    own = [[r for r in results(path) if r["scheduler"] == "cosine"] for path in (whole, unbroken)]
    assert own[0] == own[1]


def test_an_interrupted_run_goes_on(whole: Path, tmp_path: Path) -> None:
    suite, out = write_suite(tmp_path), tmp_path / "out"
    for n in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run_tiny(suite, out, Interrupt(n), schedulers=OPEN)
    keep(out, 2, b'{"torn')  # a population of which one record was lost, and another one torn
    run_tiny(suite, out, schedulers=OPEN)
    assert results(out) == [r for r in results(whole) if r["scheduler"] in OPEN]


def test_the_size_of_a_population_makes_no_difference(whole: Path, tmp_path: Path) -> None:
    run_tiny(write_suite(tmp_path), tmp_path / "out", schedulers=OPEN, max_population=1)
    assert results(tmp_path / "out") == [r for r in results(whole) if r["scheduler"] in OPEN]


def test_standings_know_who_is_an_open_optimizer(table: Standings) -> None:
    marked = {row.entry for rows in table.tables.values() for row in rows if row.open_optimizer}
    assert marked == set(OPEN)
    assert all(row.rank is not None for row in table.tables["zero-shot"] if row.entry in OPEN)


def test_every_table_shows_the_mark_and_what_it_means(table: Standings) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(to_rich(table))
    note = r":? +open-optimizer: the entry replaces the workload's optimizer\."
    for text, mark in (
        (console.export_text(), "†"),
        (to_markdown(table), "†"),
        (to_latex(table).replace("% †:", r"% \textdagger{}:"), r"\textdagger{}"),
    ):
        assert re.search(re.escape(mark) + note, text)
        for entry in OPEN:
            assert text.count(f"{entry}{mark}") == 1 + len(WORKLOADS)  # the ranking, and each workload
        assert f"cosine@default{mark}" not in text
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert {row["open_optimizer"] for row in rows if row["entry"] in OPEN} == {"true"}
    assert {row["open_optimizer"] for row in rows if row["entry"] not in OPEN} == {"false"}


def test_without_one_there_is_no_note(unbroken: Path) -> None:
    assert "†" not in to_markdown(standings(read_records([unbroken]), n_resamples=50))
