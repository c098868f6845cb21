"""Policies against rivals by validation loss, including rivals that learned nothing or solved the workload."""

from __future__ import annotations

import math

import pytest

from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.transfer import TransferCell, compare, transfer_cells
from tests.helpers.fake_records import make_record


def runs(entry: str, *losses: float) -> list[RunRecord]:
    return [make_record(scheduler=entry, seed=seed, val_loss=loss) for seed, loss in enumerate(losses)]


def cell_of(*records: RunRecord) -> TransferCell:
    (cell,) = transfer_cells(records, "mine", ["mlp"], ())
    return cell


def test_a_score_is_the_logarithm_of_the_ratio_of_medians() -> None:
    found = compare(runs("mine", 0.2, 0.4, 0.3), runs("cosine", 0.5, 0.6, 0.7))
    assert found.score == pytest.approx(100 * math.log(0.6 / 0.3))
    assert cell_of(*runs("mine", 0.2, 0.4, 0.3), *runs("cosine", 0.5, 0.6, 0.7)).remark is None


def test_where_the_rival_solves_the_workload_who_solves_it_ties() -> None:
    mine, cosine = runs("mine", 1e-8, 2e-8, 1e-8), runs("cosine", 1e-6, 2e-6, 1e-6)
    found = compare(mine, cosine)
    assert (found.score, found.low, found.high, found.verdict) == (0, 0, 0, "tie")
    assert compare(runs("mine", 0.5, 0.5, 0.5), cosine).score == pytest.approx(
        100 * math.log(1e-3 * math.log(10) / 0.5)
    )
    cell = cell_of(*mine, *cosine)
    assert cell.score_of("mine") == 0
    assert cell.losses["mine"] == 1e-8
    assert (
        cell.remark
        == "mlp: tuned cosine solves it (loss: 1e-06 nats), so all losses below a thousandth of chance count as equal."
    )


def test_a_rival_at_chance_is_named() -> None:
    cell = cell_of(*runs("mine", 0.5, 0.5), *runs("cosine", 9.0, 9.0))
    assert cell.remark == "mlp: tuned cosine ends at chance, so scores on this workload compare with guessing."
