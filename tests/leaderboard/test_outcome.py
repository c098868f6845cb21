"""The sentences on top of the tables, for every case of ranks."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ganno_bench.core.records import RunRecord
from ganno_bench.leaderboard.formats import to_latex
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


def report(scheduler: str, seed: int, loss: float, **changes) -> RunRecord:
    return make_record(scheduler=scheduler, seed=seed, test_loss=loss, **changes)


def test_a_circle_of_comparisons_by_different_seeds_leaves_nobody_first():
    losses = {"a": (0.5, 0.5, 0.4, 0.4), "b": (0.5, 0.5, 0.4, 0.4), "cosine": (0.5, 0.5, 0.4, 0.4)}
    starts = {"a": 0, "b": 2, "cosine": 4}
    records = [
        report(name, (starts[name] + at) % 6, loss)
        for name, several in losses.items()
        for at, loss in enumerate(several)
    ]
    result = standings(records, n_resamples=100)
    assert {row.rank for row in result.tables["tuned"] if row.kind == "entry"} == {2}
    assert outcome(result)[0] == (
        "No entry has the first rank on this workload: each has at least one better entry. Tuned cosine (score 0) "
        "shares rank 2."
    )


def test_an_entry_without_a_rank_has_results():
    records = [report("cosine", seed, 0.5, workload=name) for name in "ab" for seed in range(5)]
    records += [report("wsd", seed, 0.4, workload="a") for seed in range(5)]
    assert outcome(standings(records, n_resamples=100)) == [
        "Only the reference, tuned cosine, is ranked. Add another scheduler to compare it with. 1 entry lacks a "
        "workload and therefore a rank."
    ]


def test_equal_scores_of_a_single_seed_are_named_together():
    said = outcome(table({"cosine": 0.5, "wsd": 0.25, "rex": 0.25}, seeds=1))[0]
    assert said.endswith("rex and wsd have the highest score, +69.3.")


def test_a_single_seed_of_one_entry_takes_nothing_from_the_others():
    records = [
        report(name, seed, loss * LUCK[seed]) for name, loss in (("cosine", 0.5), ("wsd", 0.3)) for seed in range(5)
    ]
    assert outcome(standings([*records, report("rex", 0, 0.4)], n_resamples=100)) == [
        "wsd and rex share the first rank on this workload: no entry is significantly better than them. Tuned cosine "
        "(score 0) has rank 2.",
        "1 report seed for some entry on some workload: the entry has no confidence interval, and no difference "
        "from it is significant.",
    ]


def test_a_name_with_a_line_break_stays_in_the_comments_of_latex():
    lines = to_latex(table({"cosine": 0.5, "w\nsd": 0.3})).splitlines()
    assert lines[0].startswith("% w sd alone has the first rank")
    assert all(line.startswith("% ") for line in lines[: lines.index("")])


def test_a_new_entry_beside_baselines_has_a_line_of_its_own():
    found = table({"cosine": 0.5, "wsd": 0.3, "mine": 0.4, "step": 0.6})
    rows = {
        ruleset: tuple(replace(row, baseline=row.entry != "mine") for row in rows)
        for ruleset, rows in found.tables.items()
    }
    said = outcome(replace(found, tables=rows))
    assert said[1] == (
        "mine: rank 2 of 4 entries. mine scores +22.3 [+21.4, +23.4]; the confidence interval lies above 0, the score "
        "of tuned cosine."
    )
    assert len(said) == 2
    assert len(outcome(found)) == 1  # no baselines: all entries are new
