"""The sentences on top of the tables, for every case of ranks."""

from collections.abc import Sequence

import pytest

from ganno_bench.leaderboard.outcome import outcome
from ganno_bench.scoring.standings import Standings, standings
from tests.helpers.fake_records import make_record

LUCK = (0.98, 0.99, 1.0, 1.01, 1.02)


def table(losses: dict[str, float], *, seeds: int = 5, workloads: Sequence[str] = ("a", "b"), **changes) -> Standings:
    """Return the standings of entries with these test losses; `default:` entries are zero-shot."""
    records = [
        make_record(
            scheduler=name,
            ruleset="zero-shot" if name.endswith("@default") else "tuned",
            workload=workload,
            seed=seed,
            test_loss=loss * LUCK[seed],
            **changes,
        )
        for name, loss in losses.items()
        for workload in workloads
        for seed in range(seeds)
    ]
    return standings(records, n_resamples=100)


def test_one_winner():
    assert outcome(table({"cosine": 0.5, "wsd": 0.3, "step": 0.6})) == [
        "wsd alone has the first rank on these 2 workloads: no entry is significantly better. Each of the 2 others has "
        "at least one better entry. Tuned cosine (score 0) has rank 2."
    ]
    assert outcome(table({"cosine": 0.5, "wsd": 0.6}, workloads=["a"])) == [
        "cosine alone has the first rank on this workload: no entry is significantly better. The other entry is "
        "significantly worse. Tuned cosine is the reference (score 0)."
    ]


def test_a_shared_first_rank():
    assert outcome(table({"cosine": 0.5, "wsd": 0.3, "rex": 0.3})) == [
        "rex and wsd share the first rank on these 2 workloads: no entry is significantly better than them. Tuned "
        "cosine (score 0) has rank 3."
    ]
    assert outcome(table({"cosine": 0.5, "wsd": 0.5, "step": 0.6}))[0].endswith(
        "Tuned cosine (score 0) is one of them."
    )
    many = outcome(table(dict.fromkeys("cdefg", 0.3) | {"cosine": 0.5, "step": 0.5}))[0]
    assert many.startswith("c, d, e and 2 more share the first rank")
    assert many.endswith("Tuned cosine (score 0) shares rank 6.")


def test_no_difference():
    assert outcome(table({"cosine": 0.5, "wsd": 0.5})) == [
        "All 2 entries share the first rank on these 2 workloads: no difference is significant. Tuned "
        "cosine (score 0) is one of them."
    ]


def test_a_single_seed_ranks_nothing():
    assert outcome(table({"cosine": 0.5, "wsd": 0.25}, seeds=1)) == [
        "With one report seed no difference is significant, so all 2 entries share the first rank. wsd has the highest "
        "score, +69.3.",
        "1 report seed: there are no confidence intervals, and no difference is significant.",
    ]


def test_only_the_reference():
    assert outcome(table({"cosine": 0.5})) == [
        "Only the reference, tuned cosine, has results. Add another scheduler to compare it with."
    ]


@pytest.mark.parametrize(
    ("loss", "said"),
    [(0.25, "lies above 0"), (1.0, "lies below 0"), (0.5, "includes 0")],
    ids=["better", "worse", "tie"],
)
def test_no_runs_of_the_reference(loss, said):
    records = [make_record(scheduler="wsd", seed=seed, test_loss=loss * luck) for seed, luck in enumerate(LUCK)]
    (line,) = outcome(standings(records, reference={"mlp": 0.5}, n_resamples=100))
    assert line.startswith("wsd is the only ranked entry. wsd scores ")
    assert line.endswith(f"; the confidence interval {said}, the score of tuned cosine.")


def test_nothing_is_ranked():
    records = [make_record(scheduler="wsd", workload=name, seed=seed) for name in "ab" for seed in range(5)]
    records = [r for r in records if r.workload == "a"] + [
        make_record(scheduler="rex", workload="b", seed=seed) for seed in range(5)
    ]
    assert outcome(standings(records, reference={"a": 0.5, "b": 0.5}, workloads=["a", "b"], n_resamples=10)) == [
        "No entry is ranked, because none has results on all of these 2 workloads."
    ]


def test_an_entry_that_lacks_a_workload():
    lacking = [make_record(scheduler="rex", workload="a", seed=seed, test_loss=0.1) for seed in range(5)]
    whole = [
        make_record(scheduler=name, workload=workload, seed=seed, test_loss=loss * LUCK[seed])
        for name, loss in (("cosine", 0.5), ("wsd", 0.4))
        for workload in "ab"
        for seed in range(5)
    ]
    (line,) = outcome(standings([*whole, *lacking], n_resamples=100))
    assert line.startswith("wsd alone has the first rank")
    assert line.endswith("1 entry lacks a workload and therefore a rank.")


def test_each_table_has_a_line():
    both = outcome(table({"cosine": 0.5, "wsd": 0.3, "wsd@default": 0.4, "step@default": 0.6}))
    assert both[0].startswith("Tuned: wsd alone has the first rank")
    assert both[1].startswith("Zero-shot: wsd@default alone has the first rank on these 2 workloads")
    assert "wsd@default scores +22.3 [" in both[1]
    assert both[1].endswith("the confidence interval lies above 0, the score of tuned cosine.")
    records = [make_record(scheduler="x", ruleset="zero-shot", seed=seed) for seed in range(5)]
    (line,) = outcome(standings(records, reference={"mlp": 0.5}, n_resamples=10))
    assert line.startswith("Zero-shot: x is the only ranked entry.")


def test_a_small_budget_is_no_basis_for_a_claim():
    result = table({"cosine": 0.5, "wsd": 0.3}, seeds=3, custom=True)
    tuning = [
        make_record(role="tuning", trial=trial, workload=name, custom=True) for trial in range(2) for name in "ab"
    ]
    report = [
        make_record(workload=name, seed=seed, test_loss=0.5 * LUCK[seed], custom=True)
        for name in "ab"
        for seed in range(3)
    ]
    assert len(outcome(result)) == 3
    assert outcome(standings([*report, *tuning], n_resamples=10))[1:] == [
        "2 trials of tuning: a first look, no basis for a claim (which takes 32).",
        "3 report seeds: too few, so confidence intervals are too narrow.",
        "Custom settings: trials or seeds are not the suite's own. Do not compare these tables with others.",
    ]
