import csv
import io
import re

import pytest
from rich.console import Console

from ganno_bench.leaderboard.formats import to_csv, to_latex, to_markdown, write_tables
from ganno_bench.leaderboard.tables import Column, TextTable, footer, header, main_table, workload_table
from ganno_bench.leaderboard.terminal import Paragraph, TerminalTable, to_rich
from ganno_bench.leaderboard.terms import terms
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import ENTRIES, fake_benchmark, make_record

WORKLOADS = ["char-transformer", "mlp-depth-2", "mlp-depth-16"]
RESULT = standings(fake_benchmark(WORKLOADS, n_seeds=5), n_resamples=200)


def small(**changes):
    """Return the standings of two entries that tie with certainty, and of one that is far worse."""
    records = [
        make_record(scheduler=entry, workload=workload, seed=seed, test_loss=loss * luck, **changes)
        for entry, loss in (("cosine", 0.5), ("wsd", 0.5), ("a_b & c%", 1.0))
        for workload in ("mlp_1", "mlp_2")
        for seed, luck in enumerate((0.9, 1.0, 1.1))
        if (entry, workload) != ("wsd", "mlp_2") or not changes.get("custom")
    ]
    return standings(records, n_resamples=200)


def terminal(result, **options):
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(to_rich(result, **options))
    return console.export_text()


def test_header_says_what_was_run():
    assert header(RESULT) == [
        "Suite ladder@5f1e: 3 workloads, 5 report seeds, 32 trials of tuning per workload.",
        "Reference (score 0): tuned cosine of these records.",
        "Versions: ganno-bench 0.1.0, torch 2.9.0",
    ]
    assert header(small(custom=True))[0] == "Suite ladder@5f1e, custom settings: 2 workloads, 3 report seeds."
    records = [make_record(seed=seed, versions={"torch": f"2.{seed}"}) for seed in range(2)]
    assert header(standings(records, reference={"mlp": 1.0}))[1:] == [
        "Reference (score 0): tuned cosine, committed results.",
        "Versions: torch 2.0/2.1",
    ]
    mixed = [make_record(workload=name) for name in ("mlp", "gcn")]
    assert header(standings(mixed, reference={"mlp": 1.0}))[1] == (
        "Reference (score 0): tuned cosine; committed results on 1 workload, these records on gcn."
    )


def test_footer_says_how_to_read_it_and_what_cannot_be_claimed():
    lines = footer(RESULT)
    assert lines[0].startswith("Score: 100 ln(L_ref / L)")
    assert "[..]: 95 % confidence interval, from a bootstrap over the report seeds of each workload." in lines
    studies = (
        "Confidence intervals do not cover the luck of tuning: each entry has one tuning study per workload, and "
        "another study could find other values."
    )
    explained = terms(RESULT, per_workload=False)
    assert lines == [*(f"{term}: {meaning}" for term, meaning in explained), studies]
    quick = footer(standings(fake_benchmark(["mlp-depth-2"], n_seeds=3, n_trials=4), n_resamples=10))
    assert quick[-3:] == [
        "4 trials of tuning: a first look, no basis for a claim (which takes 32).",
        "3 report seeds: too few, so confidence intervals are too narrow.",
        studies,
    ]
    assert any(line.startswith("Custom settings: ") for line in footer(small(custom=True)))


def test_only_terms_that_occur_are_explained():
    columns = ["Score", "IQM", "[..]", "Rank", "P(better)", "Mean rank", "Speed-up", "Diverged"]
    assert [term for term, _ in terms(RESULT, per_workload=False)] == [*columns, "oracle", "cosine", "(tuned)"]
    assert "missed" in dict(terms(RESULT))["Speed-up"]
    assert "Error" not in dict(terms(standings([make_record(test_error=None)])))
    alone = standings([make_record(scheduler="wsd")], reference={"mlp": 0.5})
    assert [term for term, _ in terms(alone, per_workload=False)] == ["Score", "IQM", "Rank", "Mean rank", "Diverged"]
    lacking = dict(terms(small(custom=True)))
    assert lacking["(1/2)"] == "runs on 1 of 2 workloads; an entry that lacks workloads has no rank."
    assert dict(terms(standings([make_record()], baselines=[("tuned", "cosine")])))["*"].startswith(
        "committed baseline"
    )


def test_why_the_score_of_cosine_is_not_0():
    own = (
        "its own score can differ from 0: score 0 is the median loss of these runs; a row's score is a mean of scores."
    )
    assert dict(terms(RESULT))["cosine"] == own
    studies = standings([make_record(study=study) for study in range(3)], reference={"mlp": 0.5})
    assert "of the committed runs, of study 0 alone;" in dict(terms(studies))["cosine"]


def test_several_studies_are_part_of_the_interval_and_the_footer_says_so():
    result = standings([make_record(study=study, seed=seed) for study in range(3) for seed in range(5)])
    assert "Confidence intervals cover 3 independent tuning studies per workload." in footer(result)


def test_of_whom_there_are_several_studies_is_said():
    several = [make_record(study=study, seed=seed) for study in range(3) for seed in range(5)]
    result = standings([*several, *(make_record(scheduler="wsd", seed=seed) for seed in range(5))])
    assert (
        "Confidence intervals cover several tuning studies of cosine (3). Every other tuned entry has one study per "
        "workload, and its confidence interval does not cover the luck of tuning."
    ) in footer(result)
    twice = [make_record(scheduler="wsd", study=study, seed=seed) for study in range(2) for seed in range(5)]
    assert "Confidence intervals cover several tuning studies of cosine (3), wsd (2)." in footer(
        standings([*several, *twice])
    )


def test_a_single_seed_has_no_interval_and_the_footer_says_so():
    result = standings([make_record(scheduler=name, test_loss=loss) for name, loss in (("cosine", 0.5), ("wsd", 0.1))])
    assert [row[:3] for row in main_table(result, "tuned").rows][:2] == [
        ("1=", "wsd", "+160.9"),
        ("1=", "cosine", "+0.0"),
    ]
    assert "1 report seed: there are no confidence intervals, and no difference is significant." in footer(result)


def test_ties_are_shown_as_ties_and_everyone_at_the_top_is_highlighted():
    table = main_table(small(), "tuned")
    # Two workloads with scores of 100 ln(1 / 1.1) = -9.53, 0 and 100 ln(1 / 0.9) = 10.54: of six, the lowest and the
    # highest are cut, (-9.53 + 0 + 0 + 10.54) / 4 = 0.25. The third entry is at twice the loss, 69.31 lower.
    assert [(row[0], row[1], row[2].split()[0]) for row in table.rows] == [
        ("1=", "cosine", "+0.3"),
        ("1=", "wsd", "+0.3"),
        ("3", "a_b & c%", "-69.1"),
        ("-", "oracle", "+0.3"),
    ]
    assert table.rows[0][2] == table.rows[1][2]
    assert {(row, column) for row, column in table.best if column <= 2} == {(r, c) for r in (0, 1) for c in (0, 1, 2)}
    assert table.faint == {3}
    assert [row[4] for row in table.rows] == ["1.50", "1.50", "3.00", "-"]


def test_what_is_not_ranked_is_labelled():
    incomplete = main_table(small(custom=True), "tuned")
    assert ("-", "wsd (1/2)") in [row[:2] for row in incomplete.rows]
    zero_shot = main_table(RESULT, "zero-shot")
    labels = [row[1] for row in zero_shot.rows]
    assert labels == [
        "ganno",
        "schedule-free",
        "cosine-default",
        "cosine (tuned)",
        "step (tuned)",
        "constant (tuned)",
        "oracle",
    ]
    assert zero_shot.rules == {3}


def test_a_missed_target_and_a_missing_number_look_different():
    rows = {row[1]: row for row in main_table(RESULT, "tuned").rows}
    assert rows["constant"][5] == "missed"
    assert rows["oracle"][5] == "-"
    assert rows["cosine"][3] == "-"
    assert re.fullmatch(r"\d\.\d\dx", rows["cosine"][5])


def test_workload_table_lists_each_workload_once_best_loss_first():
    table = workload_table(RESULT, "tuned")
    assert [row[0] for row in table.rows if row[0]] == WORKLOADS
    losses = [float(row[2]) for row in table.rows]
    for start in sorted(table.rules):
        assert losses[start : start + 6] == sorted(losses[start : start + 6])
        assert (start, 2) in table.best
    assert {row[3] for row in table.rows[:6]} == {"-"}  # language modelling has no error rate


def test_terminal_tables_fit_100_columns_uncut():
    text = terminal(RESULT)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    for name in (*ENTRIES, *WORKLOADS, "constant (tuned)"):
        assert name in text
    assert "workload by workload" not in terminal(RESULT, per_workload=False)


def test_text_for_the_terminal_breaks_between_words():
    console = Console(width=30, record=True, file=io.StringIO())
    console.print(Paragraph("the mean of the middle half of all runs", "IQM  "))
    assert console.export_text() == "IQM  the mean of the middle\n     half of all runs\n"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_table_becomes_narrow_before_a_line_breaks(width):
    table = TextTable(
        "Results",
        (Column("Rank"), Column("Entry", numeric=False), Column("Score (IQM)"), Column("Mean rank")),
        (("1", "a" * 50, "+1.0 [+0.5, +1.5]", "1.00"), ("-", "oracle", "+1.0", "-")),
        frozenset({(0, 0)}),
        frozenset({1}),
        frozenset({1}),
    )
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(TerminalTable(table))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    name = next(line for line in lines if "a" * 50 in line)
    if width < 82:
        assert lines[lines.index(name) + 1] == "  +1.0 [+0.5, +1.5]  1.00"
    else:
        assert name.endswith("a  +1.0 [+0.5, +1.5]  1.00")
    assert not any(line != line.rstrip() for line in lines)


def test_terminal_highlights_the_best():
    console = Console(width=100, force_terminal=True, color_system="standard", file=io.StringIO())
    console.print(to_rich(small()))
    assert re.search(r"\x1b\[1;32m *wsd", console.file.getvalue())


def test_markdown_is_aligned_and_bold_where_best():
    text = to_markdown(small())
    table = [line for line in text.splitlines() if line.startswith("|")]
    blocks = re.split(r"\n\n", text)
    for block in blocks:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({len(line) for line in lines}) <= 1
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
    assert "| **1=** | **cosine**" in table[2]
    assert re.match(r"\| -+: \| -+ \|", table[1])
    assert r"a\_b & c%" in text


def test_csv_has_plain_numbers_one_row_per_entry_and_workload_plus_overall():
    rows = list(csv.DictReader(io.StringIO(to_csv(RESULT))))
    keys = [(row["table"], row["ruleset"], row["entry"], row["workload"]) for row in rows]
    assert len(keys) == len(set(keys)) == (6 + 3 + 3) * (1 + len(WORKLOADS)) + 2  # two oracles
    by_key = dict(zip(keys, rows, strict=True))
    overall = by_key["tuned", "tuned", "wsd", "overall"]
    expected = next(row for row in RESULT.tables["tuned"] if row.entry == "wsd")
    assert float(overall["score"]) == pytest.approx(expected.iqm, rel=1e-5)
    assert float(overall["score_low"]) == pytest.approx(expected.iqm_low, rel=1e-5)
    assert int(overall["rank"]) == expected.rank
    assert (overall["runs"], overall["trials"], overall["workloads"]) == ("15", "32", "3")
    cell = by_key["tuned", "tuned", "wsd", "mlp-depth-2"]
    assert float(cell["test_loss"]) == pytest.approx(RESULT.cells["tuned", "wsd", "mlp-depth-2"].test_loss, rel=1e-5)
    assert float(cell["reference_loss"]) == pytest.approx(RESULT.reference["mlp-depth-2"], rel=1e-5)
    assert cell["rank"] == ""
    assert by_key["tuned", "tuned", "wsd", "char-transformer"]["test_error"] == ""
    assert by_key["tuned", "tuned", "oracle", "overall"]["score_low"] == ""


def test_latex_uses_booktabs_and_escapes_names():
    text = to_latex(small())
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\begin{tabular}") == 2
    assert text.count(r"\begin{") == text.count(r"\end{")
    assert r"a\_b \& c\%" in text
    assert r"\textbf{cosine}" in text
    # Mean of three seeds: (-9.53 + 0 + 10.54) / 3 - 69.31. A resample is all of the worst one in 1 of 27 cases.
    assert "$-$69.0 [$-$78.8, $-$58.8]" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {6}
    unescaped = [line for line in text.splitlines() if not line.startswith("%") and re.search(r"(?<!\\)[%_#]", line)]
    assert unescaped == []


def test_tables_are_written(tmp_path):
    paths = write_tables(RESULT, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["standings.md", "standings.csv", "standings.tex"]
    assert paths[1].read_text(encoding="utf-8") == to_csv(RESULT)
