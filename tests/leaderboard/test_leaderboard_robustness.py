"""Tables and plot of robustness."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import same_color
from rich.console import Console

from ganno_bench.leaderboard.plots import write_plots
from ganno_bench.leaderboard.robustness_formats import robustness_rich, write_robustness
from ganno_bench.leaderboard.robustness_plot import plot_robustness
from ganno_bench.leaderboard.robustness_tables import robustness_csv, robustness_table, setting_table
from ganno_bench.leaderboard.style import looks
from ganno_bench.scoring.robustness import OWN, Robustness, Setting, robustness
from ganno_bench.scoring.standings import standings
from tests.helpers.varied_records import SETTINGS, varied_benchmark

RECORDS = varied_benchmark({"cosine": 1.0, "sturdy_1": 0.5}, zero_shot=("sturdy_1",))
STANDINGS = standings(RECORDS, n_resamples=100)


def scored() -> Robustness:
    found = robustness(RECORDS, STANDINGS)
    assert found is not None
    return found


def test_a_row_per_entry_says_the_mean_and_the_worst() -> None:
    found = scored()
    table = robustness_table(found)
    titles = [column.title for column in table.columns]
    assert titles == ["Entry", "Own", "Base lr", "Horizon", "Mean", "Worst", "at"]
    for row, entry in zip(table.rows, found.entries, strict=True):
        assert row[0] == entry.entry
        assert float(row[1]) == round(entry.overall[OWN].score, 1)
        assert row[4] == f"{entry.mean:+.1f} [{entry.low:+.1f}, {entry.high:+.1f}]"
        assert (float(row[5]), row[6]) == (round(entry.worst.score, 1), "base lr 10x")
    assert table.rows[0][0] == "sturdy_1"
    assert (0, 4) in table.best
    assert (1, 4) not in table.best
    assert (1, 3) in table.best  # a longer horizon helps cosine more


def test_every_setting_is_in_the_long_table_best_entry_first() -> None:
    table = setting_table(scored())
    assert [row[0] for row in table.rows if row[0]] == [
        "own", "base learning rate 0.1x", "base learning rate 10x", "horizon 2x"
    ]  # fmt: skip
    assert [row[1] for row in table.rows][2:] == ["sturdy_1", "cosine"] * 2 + ["cosine", "sturdy_1"]
    assert {row[3] for row in table.rows} == {"0/8"}


def test_the_formats(tmp_path: Path) -> None:
    found = scored()
    paths = write_robustness(found, tmp_path / "new")
    assert [path.name for path in paths] == ["robustness.md", "robustness.csv", "robustness.tex"]
    markdown, _, latex = (path.read_text() for path in paths)
    assert "| **sturdy\\_1**" in markdown or "| sturdy\\_1" in markdown
    assert "Score 0: tuned cosine, no factor changed." in markdown
    assert "Scores compare with tuned cosine at its own horizon" in markdown
    assert latex.count(r"\begin{table}") == 2
    assert r"sturdy\_1" in latex
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(robustness_rich(found))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= 100
    assert "base lr 10x" in shown
    assert "over runs and over the 2 workloads; own is not" in " ".join(shown.split())


def test_the_csv_has_every_cell() -> None:
    found = scored()
    rows = list(csv.DictReader(io.StringIO(robustness_csv(found))))
    assert len(rows) == 2 * 3 * (1 + len(SETTINGS))
    for row in rows:
        entry = next(entry for entry in found.entries if entry.entry == row["entry"])
        cells = entry.overall if row["workload"] == "overall" else entry.cells[row["workload"]]
        setting = OWN if not row["factor"] else Setting(row["factor"], float(row["multiple"]))  # type: ignore[arg-type]
        assert float(row["score"]) == float(f"{cells[setting].score:.6g}")
        assert (row["test_loss"] == "") == (row["workload"] == "overall")
        assert (row["diverged"], int(row["runs"])) == ("0", cells[setting].n_runs)


def test_the_picture_has_the_scores_at_their_multiples() -> None:
    found = scored()
    figure = plot_robustness(found, STANDINGS)
    assert len(figure.axes) == 3 * 2  # the mean and two workloads; two factors
    look = looks(STANDINGS)
    for index, cells_of in enumerate((lambda e: e.overall, lambda e: e.cells["a"], lambda e: e.cells["b"])):
        for axes, factor in zip(figure.axes[2 * index : 2 * index + 2], found.factors, strict=True):
            for entry in found.entries:
                (line,) = [
                    line
                    for line in axes.get_lines()
                    if line.get_marker() == "o"
                    and same_color(line.get_color(), look[entry.ruleset, entry.entry].colour)
                ]
                shown = sorted((OWN, *found.factors[factor]), key=lambda setting: setting.multiple)
                np.testing.assert_allclose(line.get_xdata(), np.log10([setting.multiple for setting in shown]))
                np.testing.assert_allclose(line.get_ydata(), [cells_of(entry)[setting].score for setting in shown])
    labels = [label.get_text() for label in figure.axes[-2].get_xticklabels()]
    assert labels == ["0.1", "1", "10"]


def test_no_weight_decay_has_a_place_on_the_axis() -> None:
    records = [
        record.model_copy(update={"factor": "weight_decay", "multiple": 0.0 if record.multiple == 0.1 else 10.0})
        if record.factor == "base_lr"
        else record
        for record in RECORDS
    ]
    result = standings(records, n_resamples=50)
    found = robustness(records, result)
    assert found is not None
    axes = plot_robustness(found, result).axes[-2]
    line = next(line for line in axes.get_lines() if line.get_marker() == "o")
    assert list(line.get_xdata()) == [-1, 0, 1]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "10"]


def test_it_is_among_the_plots_where_something_was_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganno_bench.leaderboard.plots.save", lambda figure, stem: [stem])  # to draw takes seconds
    reports = [record for record in RECORDS if record.role == "report"]
    plain = write_plots(reports, standings(reports, n_resamples=10), tmp_path)
    assert write_plots(RECORDS, STANDINGS, tmp_path) == [*plain, tmp_path / "robustness"]
