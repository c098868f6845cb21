"""Robustness on made-up records with known scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ganno_bench.core.errors import RecordError
from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.robustness import OWN, Robustness, Setting, robustness
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import make_record
from tests.helpers.varied_records import SETTINGS, loss_of, varied_benchmark


def scored(records: list[RunRecord]) -> Robustness:
    found = robustness(records, standings(records, n_resamples=200))
    assert found is not None
    return found


def entry_of(found: Robustness, name: str) -> Any:
    return next(entry for entry in found.entries if entry.entry == name)


def test_scores_are_relative_to_the_reference_as_it_was_tuned() -> None:
    found = scored(varied_benchmark({"cosine": 1.0, "sturdy": 0.5}, luck=0.0))
    for entry, share in (("cosine", 1.0), ("sturdy", 0.5)):
        own = entry_of(found, entry)
        for setting in (OWN, *found.settings):
            for workload, reference in (("a", 0.5), ("b", 1.0)):
                expected = 100 * math.log(reference / loss_of(reference, setting.factor, setting.multiple, share))
                assert own.cells[workload][setting].score == pytest.approx(expected)
                assert own.cells[workload][setting].low == pytest.approx(expected)  # all seeds are alike
            assert own.overall[setting].score == pytest.approx(
                np.mean([own.cells[workload][setting].score for workload in ("a", "b")])
            )
    assert entry_of(found, "cosine").overall[OWN].score == pytest.approx(0)
    assert entry_of(found, "cosine").cells["b"][Setting("horizon", 2.0)].test_loss == pytest.approx(0.9)


def test_the_mean_the_worst_and_the_factors() -> None:
    found = scored(varied_benchmark({"cosine": 1.0, "sturdy": 0.5}))
    assert [entry.entry for entry in found.entries] == ["sturdy", "cosine"]
    assert found.settings == tuple(Setting(*setting) for setting in sorted(SETTINGS, key=lambda s: (s[0], s[1])))
    assert list(found.factors) == ["base_lr", "horizon"]
    for entry in found.entries:
        scores = {setting: cell.score for setting, cell in entry.overall.items() if setting != OWN}
        assert len(scores) == len(SETTINGS) == 3
        assert entry.mean == pytest.approx(np.mean(list(scores.values())))
        assert entry.factors["base_lr"] == pytest.approx(
            np.mean([s for k, s in scores.items() if k.factor != "horizon"])
        )
        assert entry.worst.score == min(scores.values())
        assert entry.worst.setting == Setting("base_lr", 10.0)
        assert entry.low < entry.mean < entry.high
        assert entry.overall[entry.worst.setting].low < entry.worst.score < entry.overall[entry.worst.setting].high


def test_all_settings_are_resampled_by_the_same_seeds() -> None:
    """The luck of a seed affects all settings equally, so it does not average out."""
    records = varied_benchmark({"cosine": 1.0}, luck=0.2)
    own = entry_of(scored(records), "cosine")
    widths = [cell.high - cell.low for cell in own.overall.values()]
    assert own.high - own.low == pytest.approx(np.mean(widths))


def test_a_row_depends_on_its_own_records_and_the_reference_alone() -> None:
    both = scored(varied_benchmark({"cosine": 1.0, "sturdy": 0.5}))
    alone = scored(varied_benchmark({"cosine": 1.0}))
    assert entry_of(both, "cosine") == entry_of(alone, "cosine")
    records = varied_benchmark({"cosine": 1.0, "sturdy": 0.5})
    assert scored(records[::-1]) == both


def test_the_standings_do_not_know_of_varied_runs() -> None:
    records = varied_benchmark({"cosine": 1.0, "sturdy": 0.5}, zero_shot=("sturdy",))
    reports = [record for record in records if record.role == "report"]
    assert standings(records, n_resamples=50) == standings(reports, n_resamples=50)


def test_divergence_is_scored_at_chance_and_counted() -> None:
    records = varied_benchmark({"cosine": 1.0}, luck=0.0)
    gone = [
        record.model_copy(
            update={"status": "diverged", "metrics": record.metrics.model_copy(update={"test_loss": None})}
        )
        if (record.factor, record.multiple, record.workload) == ("base_lr", 10.0, "a") and record.seed < 2
        else record
        for record in records
    ]
    cell = entry_of(scored(gone), "cosine").cells["a"][Setting("base_lr", 10.0)]
    assert (cell.diverged, cell.n_runs) == (2, 4)
    chance = 100 * math.log(0.5 / math.log(10))
    assert cell.score == pytest.approx((2 * chance + 2 * 100 * math.log(0.5 / loss_of(0.5, "base_lr", 10.0, 1.0))) / 4)


def test_several_studies_are_part_of_the_interval() -> None:
    one = varied_benchmark({"cosine": 1.0}, luck=0.1)
    other = [
        record.model_copy(update={"study": 1, "metrics": record.metrics.model_copy(update={"test_loss": 2.0})})
        for record in one
    ]
    found = entry_of(scored(one + other), "cosine")
    assert found.overall[OWN].n_runs == 16
    assert found.high - found.low > 3 * (entry_of(scored(one), "cosine").high - entry_of(scored(one), "cosine").low)


def test_an_entry_that_is_not_through_is_left_out_and_named() -> None:
    records = varied_benchmark({"cosine": 1.0, "sturdy": 0.5})
    short = [r for r in records if (r.scheduler, r.workload, r.factor) != ("sturdy", "b", "horizon")]
    found = scored(short)
    assert [entry.entry for entry in found.entries] == ["cosine"]
    assert found.notes == ("sturdy (tuned) is left out: it lacks settings on b.",)


def test_where_nothing_is_varied_there_is_nothing_to_score() -> None:
    records = [record for record in varied_benchmark({"cosine": 1.0}) if record.role == "report"]
    assert robustness(records, standings(records, n_resamples=10)) is None


def test_one_seed_has_no_interval() -> None:
    found = entry_of(scored(varied_benchmark({"cosine": 1.0}, n_seeds=1)), "cosine")
    assert (found.low, found.overall[OWN].high, found.cells["a"][OWN].low) == (None, None, None)


def test_two_configurations_under_one_setting_cannot_be_compared() -> None:
    varied: dict[str, Any] = {"role": "varied", "trial": 3, "factor": "base_lr", "multiple": 0.1}
    records = [
        make_record(),
        make_record(**varied, config={"base_lr": 0.01}),
        make_record(**varied, seed=1, config={"base_lr": 0.02}),
    ]
    with pytest.raises(
        RecordError, match=r"cosine \(tuned\) on 'mlp' has varied runs of two configurations in study 0"
    ):
        standings(records)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (9.0, "a: tuned cosine ends at chance, so scores on this workload compare with guessing."),
        (
            1e-6,
            "a: tuned cosine solves it (loss: 1e-06 nats), so all losses below a thousandth of chance count as equal.",
        ),
    ],
)
def test_a_reference_that_says_little_is_named(loss: float, said: str) -> None:
    ordinary = varied_benchmark({"cosine": 1.0, "sturdy": 0.5}, luck=0.0)
    records = [
        record.model_copy(update={"metrics": record.metrics.model_copy(update={"test_loss": loss})})
        if record.workload == "a"
        else record
        for record in ordinary
    ]
    found = scored(records)
    assert found.notes == (said,)
    assert all(cell.score == 0 for entry in found.entries for cell in entry.cells["a"].values())
    assert scored(ordinary).notes == ()
