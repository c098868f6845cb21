import numpy as np
import pytest

from ganno_bench.leaderboard.ladders import ladders_of, plot_ladders
from ganno_bench.leaderboard.style import looks
from ganno_bench.scoring.standings import standings
from tests.helpers.fake_records import fake_benchmark

RUNGS = ["mlp-depth-16", "mlp-depth-2"]
RESULT = standings(fake_benchmark(RUNGS, n_seeds=4, n_trials=8), n_resamples=100)


def test_a_ladder_is_two_workloads_that_differ_in_the_number_at_their_end() -> None:
    assert ladders_of(["mlp-16", "mlp-2", "alone-3", "odd"]) == {"mlp": {2: "mlp-2", 16: "mlp-16"}}
    assert ladders_of(["b-10", "a-3", "b-9", "a-1-2", "a-1-4"]) == {
        "b": {9: "b-9", 10: "b-10"},
        "a-1": {2: "a-1-2", 4: "a-1-4"},
    }


def test_a_panel_shows_every_entrys_scores_by_depth() -> None:
    figure = plot_ladders(RESULT)
    assert figure is not None
    (axes,) = figure.axes
    assert (axes.get_title(loc="left"), axes.get_xlabel()) == ("mlp-depth", "depth")
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "16"]
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_xdata()[1] > 4]
    shown = {key for key in looks(RESULT) if (*key, RUNGS[1]) in RESULT.cells}
    assert len(lines) == len(shown)
    drawn = sorted(tuple(np.round(line.get_ydata(), 6)) for line in lines)
    cells = [[RESULT.cells[*key, name].score for name in reversed(RUNGS)] for key in shown]
    assert drawn == sorted(tuple(np.round(pair, 6)) for pair in cells)


def test_where_there_is_no_ladder_there_is_no_picture() -> None:
    alone = standings(fake_benchmark(RUNGS[:1], n_seeds=2, n_trials=2), n_resamples=10)
    assert plot_ladders(alone) is None


def test_a_score_far_below_does_not_hide_the_others() -> None:
    records = [
        record.model_copy(update={"metrics": record.metrics.model_copy(update={"test_loss": record.chance_loss})})
        if (record.scheduler, record.role) == ("constant", "report")
        else record
        for record in fake_benchmark(RUNGS, n_seeds=2, n_trials=2)
    ]
    result = standings(records, n_resamples=10)
    assert min(cell.score for cell in result.cells.values()) < -80
    figure = plot_ladders(result)
    assert figure is not None
    assert figure.axes[0].get_ylim()[0] == pytest.approx(-80)
