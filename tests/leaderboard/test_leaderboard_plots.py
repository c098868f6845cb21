import subprocess
import sys
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import same_color

from ganno_bench.core.records import LrTrace
from ganno_bench.leaderboard.plots import (
    plot_budget,
    plot_learning_rates,
    plot_losses,
    plot_profiles,
    plot_scores,
    write_plots,
)
from ganno_bench.leaderboard.style import looks
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import ENTRIES, fake_benchmark, make_record

WORKLOADS = ["mlp-depth-2", "mlp-depth-16"]
RECORDS = fake_benchmark(WORKLOADS, n_seeds=4, n_trials=8)
RESULT = standings(RECORDS, n_resamples=100)


def line_of(axes, look):
    """Return the line of an entry, found by its colour, style and width."""
    (line,) = [
        line
        for line in axes.get_lines()
        if same_color(line.get_color(), look.colour) and line.get_linewidth() == look.line["linewidth"]
    ]
    return line


@pytest.mark.slow(group="pages")
def test_every_plot_is_written_and_the_same_bytes_again(tmp_path):
    records = [record for record in RECORDS if record.workload == WORKLOADS[0]]
    result = standings(records, n_resamples=100)
    paths = write_plots(records, result, tmp_path / "a")
    names = ["scores", "losses", "learning-rates", "budget", "profiles"]
    assert [path.name for path in paths] == [f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
    again = write_plots(records, result, tmp_path / "b")
    for first, second in zip(paths, again, strict=True):
        assert first.read_bytes() == second.read_bytes()
    for path in paths:
        if path.suffix == ".svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
            assert b"<dc:date>" not in path.read_bytes()


def test_plots_load_neither_pyplot_nor_a_framework_and_leave_the_settings_alone():
    before = dict(mpl.rcParams)
    plot_scores(RESULT)
    assert dict(mpl.rcParams) == before
    code = (
        "import sys, ganno_bench.leaderboard.plots, ganno_bench.leaderboard.formats;"
        "sys.exit(bool({'matplotlib.pyplot', 'torch', 'optuna'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_reference_is_black_and_at_most_six_others_have_a_colour():
    found = looks(RESULT)
    assert found["tuned", "cosine"].colour == "black"
    colours = [look.colour for look in found.values() if look.prominent]
    assert len(colours) == len(set(colours)) == 7
    plain = {key for key, look in found.items() if not look.prominent}
    assert plain == {("tuned", "constant"), ("tuned", "hypergradient")}  # the last of the longer table
    assert found["zero-shot", "ganno"].dashed
    assert not found["tuned", "wsd"].dashed


def test_an_entry_in_both_rulesets_is_labelled_with_them():
    records = [make_record(ruleset=ruleset, seed=seed) for ruleset in ("tuned", "zero-shot") for seed in range(2)]
    found = looks(standings(records, n_resamples=10))
    assert [look.label for look in found.values()] == ["cosine (tuned)", "cosine (zero-shot)"]


def test_loss_curves_end_at_the_median_final_validation_loss():
    figure = plot_losses(RECORDS, RESULT)
    assert [axes.get_title(loc="left") for axes in figure.axes] == WORKLOADS
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("updates", "validation loss (nats)", "log")
    runs = [r for r in RECORDS if (r.role, r.scheduler, r.workload) == ("report", "one-cycle", "mlp-depth-2")]
    line = line_of(axes, looks(RESULT)["tuned", "one-cycle"])
    assert line.get_xdata()[-1] == 400
    assert line.get_ydata()[-1] == pytest.approx(np.median([r.metrics.val_loss for r in runs]))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"cosine", "one-cycle", "wsd", "ganno", "schedule-free", "others"} <= set(labels)
    assert len(labels) == 8


def test_losses_of_zero_are_drawn_at_the_bottom():
    records = [make_record(seed=seed, val_loss=0.0, test_loss=0.0) for seed in range(2)]
    (axes,) = plot_losses(records, standings(records, n_resamples=10)).axes
    bottom, top = axes.get_ylim()
    assert 0.0 < bottom < 1e-3 < records[0].chance_loss < top
    assert min(line_of(axes, looks(standings(records))["tuned", "cosine"]).get_ydata()) > bottom


@pytest.mark.slow(group="pages")
def test_a_workload_of_the_reference_that_has_no_runs_yet_has_no_panel(tmp_path):
    begun = [record for record in RECORDS if record.workload == WORKLOADS[0]]
    result = standings(begun, reference=dict.fromkeys(WORKLOADS, 0.5), n_resamples=100)
    assert set(result.workloads) == set(WORKLOADS)
    assert [axes.get_title(loc="left") for axes in plot_losses(begun, result).axes] == WORKLOADS[:1]
    assert write_plots(begun, result, tmp_path)


def test_layerwise_learning_rates_have_a_line_per_layer_around_their_geometric_mean():
    figure = plot_learning_rates(RECORDS, RESULT)
    look = looks(RESULT)["zero-shot", "ganno"]
    axes = figure.axes[0]
    own = [line for line in axes.get_lines() if same_color(line.get_color(), look.colour)]
    assert len(own) == 1 + 4
    trace = next(r for r in RECORDS if (r.scheduler, r.workload) == ("ganno", "mlp-depth-2")).lr_trace
    np.testing.assert_allclose(line_of(axes, look).get_ydata()[0], np.prod(trace.lr[0]) ** 0.25)
    assert len([li for li in axes.get_lines() if same_color(li.get_color(), "black")]) == 1
    assert axes.get_yscale() == "log"


def test_budget_curves_end_at_zero_for_cosine_and_zero_shot_entries_are_level():
    figure = plot_budget(RECORDS, RESULT)
    found = looks(RESULT)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["mean of 2 workloads", *WORKLOADS]
    for axes in figure.axes:
        cosine = line_of(axes, found["tuned", "cosine"])
        assert cosine.get_ydata()[-1] == 0
        assert list(cosine.get_xdata()) == list(range(1, 9))
        assert np.ptp(line_of_level(axes, found["zero-shot", "ganno"])) == 0
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8"]


def line_of_level(axes, look):
    return next(
        line.get_ydata()
        for line in axes.get_lines()
        if same_color(line.get_color(), look.colour) and line.get_linestyle() == "--"
    )


def test_scores_are_drawn_at_their_values():
    axes = plot_scores(RESULT).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(labels) == sorted(ENTRIES)
    row = next(row for row in RESULT.tables["tuned"] if row.entry == "wsd")
    texts = [text.get_text() for text in axes.texts]
    assert f"{row.iqm:+.1f} [{row.iqm_low:+.1f}, {row.iqm_high:+.1f}]" in texts
    points = [line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 1]
    assert row.iqm in points


def test_profiles_begin_with_the_share_of_wins_and_end_with_everyone():
    figure = plot_profiles(RECORDS, RESULT)
    for axes in figure.axes:
        starts = [line.get_ydata()[0] for line in axes.get_lines()]
        assert sum(starts) == pytest.approx(100)  # no ties
        assert {line.get_ydata()[-1] for line in axes.get_lines()} == {100}


@pytest.mark.slow(group="pages")
def test_plots_without_data_are_left_out(tmp_path):
    records = [make_record(seed=seed) for seed in range(2)]
    result = standings(records, n_resamples=10)
    assert plot_budget(records, result) is None
    assert plot_profiles(records, result) is None
    assert len(write_plots(records, result, tmp_path)) == 6


@pytest.mark.slow(group="pages")
def test_the_smallest_run_and_one_where_all_diverged_are_drawn(tmp_path):
    small = [make_record(), *(make_record(role="tuning", trial=t, test_loss=None, val_loss=0.5) for t in range(2))]
    assert len(write_plots(small, standings(small, n_resamples=10), tmp_path / "small")) == 8
    trace = LrTrace(updates=(0,), layers=("all",), lr=((0.0,),))
    lost = [make_record(scheduler=name, test_loss=None, lr_trace=trace) for name in ("cosine", "wsd")]
    assert len(write_plots(lost, standings(lost, n_resamples=10), tmp_path / "lost")) == 8


def test_a_figure_of_too_few_trials_says_so():
    assert "8 trials of tuning: a first look, no basis for a claim (which takes 32)." in plot_scores(
        RESULT
    ).get_suptitle().replace("\n", " ")


def test_dollar_signs_in_names_are_no_formula(tmp_path):
    records = [
        make_record(scheduler=name, workload="a$^$", suite="$$", seed=seed, test_loss=0.5 + seed / 100)
        for name in ("cosine", "$$", "x$_$")
        for seed in range(5)
    ]
    written = write_plots(records, standings(records, n_resamples=10), tmp_path)
    assert {"scores.svg", "losses.svg"} <= {path.name for path in written}
