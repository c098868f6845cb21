from ganno_bench.scoring.pairwise import Duel, duels
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import fake_benchmark, make_record


def runs(name, losses, workload="mlp", **changes):
    return [
        make_record(scheduler=name, test_loss=loss, seed=seed, workload=workload, **changes)
        for seed, loss in enumerate(losses)
    ]


def test_the_probability_is_the_share_of_seeds_won_ties_half_mean_over_workloads():
    records = [
        *runs("cosine", [0.5, 0.5, 0.5, 0.5]),
        *runs("other", [0.4, 0.4, 0.5, 0.6]),
        *runs("cosine", [0.5, 0.5], "b"),
        *runs("other", [0.4, 0.4], "b"),
    ]
    found = duels(records, standings(records, n_resamples=200), "tuned")
    assert found["other", "cosine"].probability == (2.5 / 4 + 1) / 2
    assert found["cosine", "other"].probability == 1 - (2.5 / 4 + 1) / 2
    assert found["cosine", "other"].low == 1 - found["other", "cosine"].high
    assert set(found) == {("other", "cosine"), ("cosine", "other")}


def test_who_always_wins_wins_and_who_wins_half_ties():
    records = [
        *runs("cosine", [0.5, 0.6, 0.7, 0.8]),
        *runs("always", [0.4, 0.5, 0.6, 0.7]),
        *runs("half", [0.4, 0.7, 0.6, 0.9]),
    ]
    found = duels(records, standings(records, n_resamples=200), "tuned")
    assert found["always", "cosine"] == Duel(1.0, 1.0, 1.0)
    assert (found["always", "cosine"].verdict, found["cosine", "always"].verdict) == ("win", "loss")
    assert found["half", "cosine"].verdict == "tie"
    assert found["half", "cosine"].low < 0.5 < found["half", "cosine"].high


def test_a_single_seed_has_no_interval_and_so_ties():
    records = [*runs("cosine", [0.5]), *runs("other", [0.4])]
    found = duels(records, standings(records, n_resamples=10), "tuned")["other", "cosine"]
    assert (found.probability, found.low, found.verdict) == (1.0, None, "tie")


def test_only_ranked_entries_of_the_ruleset_take_part_and_nobody_elses_duel_changes():
    records = fake_benchmark(["mlp-depth-2", "mlp-depth-8"], n_seeds=4, n_trials=2)
    result = standings(records, n_resamples=100)
    found = duels(records, result, "zero-shot")
    names = {"ganno", "cosine-default", "schedule-free"}
    assert set(found) == {(a, b) for a in names for b in names if a != b}
    fewer = [record for record in records if record.scheduler != "schedule-free"]
    assert (
        duels(fewer, standings(fewer, n_resamples=100), "zero-shot")["ganno", "cosine-default"]
        == (found["ganno", "cosine-default"])
    )


def test_seeds_that_only_one_has_do_not_count():
    records = [*runs("cosine", [0.5, 0.5]), *runs("other", [0.4, 0.6, 0.1, 0.1])]
    result = standings(records, n_resamples=50)
    assert duels(records, result, "tuned")["other", "cosine"].probability == 0.5
