"""The generated files: written, checked, and found stale."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.core.errors import RecordError
from ganno_bench.leaderboard.board import Board, make_board
from ganno_bench.leaderboard.build import committed_boards, stale_files, write_leaderboard
from ganno_bench.leaderboard.entries import baseline_entries, by_suite
from ganno_bench.leaderboard.seen import seen_in_training
from ganno_bench.scoring.reference import ReferenceValues
from tests.helpers.site_cases import board_of, ladder_entries, make_boards, make_entries, make_suite
from tests.helpers.varied_records import varied_benchmark

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def boards() -> list[Board]:
    return make_boards()[1:]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, boards: list[Board]) -> Path:
    folder = tmp_path_factory.mktemp("leaderboard")
    write_leaderboard(folder, boards)
    return folder


@pytest.fixture
def root(tmp_path: Path, written: Path) -> Path:
    """A leaderboard that was just built."""
    return shutil.copytree(written, tmp_path / "leaderboard")


@pytest.fixture(scope="module")
def committed() -> tuple[list[Board], list[str]]:
    return committed_boards(BaselineFolder(), ROOT / "leaderboard")


@pytest.mark.slow(group="pages")
def test_the_committed_leaderboard_is_what_the_records_say(committed: tuple[list[Board], list[str]]) -> None:
    assert stale_files(ROOT / "leaderboard", *committed, redraw=False) == []


@pytest.mark.slow(group="long")
def test_its_drawings_are_what_the_records_say(committed: tuple[list[Board], list[str]]) -> None:
    assert stale_files(ROOT / "leaderboard", *committed) == []


def test_what_was_just_written_is_fresh_and_written_again_the_same(root: Path, boards: list[Board]) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    (root / "site" / "left-behind.html").write_text("of another time")
    assert stale_files(root, boards, redraw=False) == ["site/left-behind.html: is not a file of the leaderboard"]
    paths = write_leaderboard(root, boards)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert set(paths) == set(before)
    assert stale_files(root, boards, redraw=False) == []


@pytest.mark.slow(group="pages")
def test_a_changed_text_and_a_missing_file_are_found_and_other_folders_left_alone(
    root: Path, boards: list[Board]
) -> None:
    (root / "submissions").mkdir()
    (root / "submissions" / "mine.toml").write_text("")
    page = root / "site" / "varied" / "tuned" / "wsd.html"
    page.write_text(page.read_text("utf-8").replace("This command tunes the entry again", "Trust it"), "utf-8")
    (root / "tables" / "varied.csv").unlink()
    expected = ["site/varied/tuned/wsd.html: differs", "tables/varied.csv: missing"]
    assert stale_files(root, boards, redraw=False) == expected
    write_leaderboard(root, boards)
    assert (root / "submissions" / "mine.toml").exists()


@pytest.mark.slow(group="pages")
def test_a_changed_drawing_is_found_where_the_libraries_are_the_recorded_ones(root: Path, boards: list[Board]) -> None:
    page = root / "site" / "varied" / "tuned" / "wsd.html"
    page.write_text(page.read_text("utf-8").replace("<!--drawing-->", "<!--drawing--><circle/>", 1), "utf-8")
    assert stale_files(root, boards) == ["site/varied/tuned/wsd.html: a drawing differs"]
    made = root / "site" / "drawn-with.json"
    made.write_text(json.dumps(json.loads(made.read_text()) | {"matplotlib": "3.0.0"}))
    assert stale_files(root, boards) == []  # another release may draw otherwise
    made.write_text("no JSON")
    assert stale_files(root, boards) == ["site/drawn-with.json: missing or unreadable"]


def test_new_data_make_a_drawing_stale_though_no_number_of_the_page_changes(root: Path) -> None:
    suite = make_suite("varied", ["a", "b"])
    records = varied_benchmark({"cosine": 1.0, "wsd": 0.5, "ganno": 0.2}, zero_shot=["ganno"])
    run = next(run for run in records if run.scheduler == "wsd" and run.role == "report")
    curve = run.curve.model_copy(update={"val_loss": (0.123, *run.curve.val_loss[1:])})
    changed = [run.model_copy(update={"curve": curve}) if other is run else other for other in records]
    stale = stale_files(root, [board_of(suite, make_entries(suite, changed))], redraw=False)
    assert {"site/varied/tuned/wsd.html: differs", "site/varied/workloads/a.html: differs"} <= set(stale)
    assert not any("ganno.html" in line or line.startswith(("README", "tables")) for line in stale)


def test_a_workload_is_left_out_until_every_baseline_has_finished_it() -> None:
    suite, entries = ladder_entries()
    *baselines, submission = entries
    fewer = replace(submission, records=tuple(r for r in submission.records if r.workload == "mlp-depth-2"))
    board = board_of(suite, [*baselines, fewer])
    assert board.standings.workloads == ("mlp-depth-2", "mlp-depth-16")
    assert board.rows[fewer.key].rank is None
    first, *others = baselines
    behind = replace(first, records=tuple(r for r in first.records if r.workload == "mlp-depth-2"))
    board = board_of(suite, [behind, *others, submission])
    assert board.standings.workloads == ("mlp-depth-2",)
    assert board.left_out == ["mlp-depth-16"]
    nothing = replace(first, records=tuple(r for r in first.records if r.workload == "mlp-depth-16"))
    values = ReferenceValues(loss=0.3, spread=0.0, target=0.3, fingerprint="data")
    assert make_board(suite, [behind, *(replace(o, records=nothing.records[:0]) for o in others)], {}, "x") is None
    assert make_board(suite, [nothing, *others], {"mlp-depth-2": values}, "x") is None


def test_two_entries_of_one_name_are_an_error_that_names_both_files() -> None:
    _, entries = ladder_entries()
    twin = replace(entries[0], sources=("leaderboard/submissions/mine.jsonl",))
    with pytest.raises(RecordError, match=r"two entries of suite 'ladder' are named 'cosine' \(tuned\): .*mine.jsonl"):
        by_suite([*entries, twin])


@pytest.mark.slow(group="pages")
def test_baselines_are_read_with_description_files_and_command() -> None:
    entries = {(entry.suite, entry.name): entry for entry in baseline_entries(BaselineFolder())}
    cosine = entries["graph", "cosine"]
    assert cosine.description.startswith("Half a cosine")
    assert cosine.command == "ganno-bench run graph --scheduler cosine"
    assert cosine.sources == (
        "baselines/cosine.toml",
        "baselines/records/graph/cosine.jsonl.gz",
        "baselines/studies/graph/cosine.jsonl",
    )
    assert all((ROOT / source).is_file() for source in cosine.sources)
    assert {run.scheduler for run in cosine.records} == {"cosine"}
    assert {(s.workload, s.study) for s in cosine.studies} == {(run.workload, run.study) for run in cosine.records}
    policy = entries["graph", "policy:ganno"]
    assert (policy.ruleset, policy.studies) == ("zero-shot", ())


@pytest.mark.slow(group="pages")
def test_a_policys_page_says_what_was_new_to_it_and_an_untrained_one_learned_nothing(
    committed: tuple[list[Board], list[str]],
) -> None:
    graph = next(board for board in committed[0] if board.name == "graph")
    of_policy = seen_in_training(graph, graph.entries["zero-shot", "policy:ganno"])
    assert set(of_policy) == set(graph.standings.workloads)
    assert set(of_policy.values()) == {"new family"}
    assert seen_in_training(graph, graph.entries["zero-shot", "profile:ganno-anchored"]) == of_policy
    for name in ("untrained:ganno-anchored", "random:ganno-anchored", "schedule-free"):
        assert seen_in_training(graph, graph.entries["zero-shot", name]) == {}
