"""Submissions and challenges are published together with the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ganno_bench.baselines.files import BaselineFolder
from ganno_bench.core.errors import SubmissionError
from ganno_bench.leaderboard.build import committed_boards, generate

if TYPE_CHECKING:
    from tests.helpers.submission_cases import World


def test_a_submission_is_ranked_beside_the_baselines_and_has_a_page(world: World) -> None:
    boards, pending = committed_boards(BaselineFolder(world.path / "baselines"), world.root)
    assert pending == []
    (board,) = boards
    ranked = {row.entry for rows in board.standings.tables.values() for row in rows if row.kind == "entry"}
    assert ranked == {"cosine", "my-entry", "frozen-wsd"}
    files = dict(generate(boards, drawn=False))
    (page,) = [text for path, text in files.items() if "my-entry" in path and path.endswith(".html")]
    assert "submissions/tiny/my-entry/records.jsonl" in page
    assert "my-entry" in files["README.md"]


def test_a_leaderboard_with_a_fault_is_not_published(copy: World) -> None:
    (copy.mine / "records.jsonl").unlink()
    with pytest.raises(
        SubmissionError, match=r"records\.jsonl: is missing \(1 faults; run: ganno-bench leaderboard val"
    ):
        committed_boards(BaselineFolder(copy.path / "baselines"), copy.root)


def test_a_new_folder_has_baselines_alone(world: World) -> None:
    (board,), _ = committed_boards(BaselineFolder(world.path / "baselines"), world.path / "elsewhere")
    assert {row.entry for rows in board.standings.tables.values() for row in rows if row.kind == "entry"} == {"cosine"}
