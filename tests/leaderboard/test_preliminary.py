import json

from ganno_bench.leaderboard.preliminary import best_entry, committed_loss, preliminary_table
from tests.helpers.fake_records import make_record

RECORDS = [
    make_record(scheduler=name, seed=seed, test_loss=loss)
    for name, losses in {"cosine": (0.4, 0.5, 0.6), "wsd": (0.2, 0.4, 0.9), "step": (0.5, 1.0, None)}.items()
    for seed, loss in enumerate(losses)
]
TUNING = [make_record(scheduler="rex", role="tuning", trial=0)]


def test_entries_are_listed_by_median_test_loss():
    table = preliminary_table("Preliminary, workload 1 of 5: mlp", [*RECORDS, *TUNING])
    assert table.title == "Preliminary, workload 1 of 5: mlp, median test loss over 3 report seeds"
    assert [column.title for column in table.columns] == ["Entry", "Test loss (nats)", "Against cosine"]
    assert table.rows == (("wsd", "0.4000", "-20.0 %"), ("cosine", "0.5000", "+0.0 %"), ("step", "1.0000", "+100.0 %"))


def test_the_best_entry_is_named_with_its_loss():
    assert best_entry(RECORDS) == "lowest median test loss: wsd, 0.4000 nats, -20.0 % against cosine"
    assert best_entry([r for r in RECORDS if r.scheduler != "cosine"]) == "lowest median test loss: wsd, 0.4000 nats"


def test_without_cosine_or_results():
    table = preliminary_table("x", [r for r in RECORDS if r.scheduler == "wsd"])
    assert table.rows == (("wsd", "0.4000"),)
    assert preliminary_table("x", TUNING) is None
    assert best_entry(TUNING) == "no entry has results"


def test_a_committed_reference_stands_in_for_cosine():
    alone = [r for r in RECORDS if r.scheduler != "cosine"]
    table = preliminary_table("x", alone, committed=0.5)
    assert table.title == "x, median test loss over 3 report seeds (*: committed result)"
    assert table.rows == (("wsd", "0.4000", "-20.0 %"), ("cosine*", "0.5000", "+0.0 %"), ("step", "1.0000", "+100.0 %"))
    assert best_entry(alone, 0.2) == "lowest median test loss: wsd, 0.4000 nats, +100.0 % against cosine"
    assert preliminary_table("x", RECORDS, committed=0.1) == preliminary_table("x", RECORDS)
    assert preliminary_table("x", TUNING, committed=0.1) is None


def test_the_committed_reference_is_that_of_suite_workload_and_data(tmp_path, monkeypatch):
    monkeypatch.setenv("GANNO_BENCH_BASELINES", str(tmp_path))
    (run, *_) = RECORDS
    assert committed_loss(RECORDS) is None
    values = {"loss": 0.25, "spread": 0.1, "target": 0.3, "fingerprint": run.dataset_fingerprint}
    (tmp_path / "reference.json").write_text(json.dumps({run.suite_hash: {run.workload: values}}), encoding="utf-8")
    assert committed_loss(RECORDS) == 0.25
    assert committed_loss([run.model_copy(update={"custom": True})]) is None
    assert committed_loss([run.model_copy(update={"dataset_fingerprint": "other"})]) is None
    assert committed_loss([run.model_copy(update={"suite_hash": "other"})]) is None
    assert committed_loss([]) is None
    (tmp_path / "reference.json").write_text("[]", encoding="utf-8")
    assert committed_loss(RECORDS) is None
