"""Plots: records and standings in, matplotlib figures out, without pyplot or a display."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.draw import (
    draw_budget,
    draw_learning_rates,
    draw_losses,
    draw_profile,
    mean_budget,
    profiles,
)
from ganno_bench.leaderboard.ladders import plot_ladders
from ganno_bench.leaderboard.robustness_plot import plot_robustness
from ganno_bench.leaderboard.style import RC, Look, headline, legend, literal, looks, panels, save
from ganno_bench.leaderboard.tables import estimate
from ganno_bench.scoring.budget import budget_scores
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.results import Row, Standings
from ganno_bench.scoring.robustness import robustness

__all__ = [
    "plot_budget",
    "plot_learning_rates",
    "plot_losses",
    "plot_profiles",
    "plot_scores",
    "write_plots",
]

_SCORE_LABEL = f"score = 100 ln(loss of tuned {REFERENCE} / loss)"


def write_plots(
    records: Iterable[RunRecord], standings: Standings, out_dir: Path, studies: Sequence[StudyRecord] = ()
) -> list[Path]:
    """Write every plot that the records have data for, as PNG and SVG, and return the paths.

    Args:
        records: The records of the standings.
        standings: The tables; their order decides the colours.
        out_dir: Folder of the plots; made if necessary.
        studies: Tuning studies without records, such as those of committed baselines.

    Raises:
        RecordError: The records cannot be compared.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    checked = check_records(records)
    varied = robustness(checked, standings)
    figures = {
        "scores": plot_scores(standings),
        "ladders": plot_ladders(standings),
        "losses": plot_losses(checked, standings),
        "learning-rates": plot_learning_rates(checked, standings),
        "budget": plot_budget(checked, standings, studies),
        "profiles": plot_profiles(checked, standings),
        "robustness": None if varied is None else plot_robustness(varied, standings),
    }
    return [path for name, figure in figures.items() if figure is not None for path in save(figure, out_dir / name)]


def plot_scores(standings: Standings) -> Figure:
    """Return a forest plot: each entry's score with its confidence interval, and its scores on workloads as dots."""
    rows = [row for table in standings.tables.values() for row in table if row.kind == "entry"]
    look = looks(standings)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(8, 1.3 + 0.29 * (len(rows) + len(standings.tables))), layout="constrained")
        axes = figure.add_subplot()
        axes.axvline(0, color="black", linewidth=0.8)
        labels: dict[float, str] = {}
        y = 0.0
        for ruleset, table in standings.tables.items():
            axes.text(0, y, ruleset.capitalize(), transform=axes.get_yaxis_transform(), ha="right", weight="bold")
            for row in table:
                if row.kind == "entry":
                    y += 1
                    labels[y] = literal(row.entry)
                    _draw_score(axes, row, standings, look[row.ruleset, row.entry], y)
            y += 1.4
        axes.set_yticks(list(labels), list(labels.values()))
        axes.set_ylim(y - 0.6, -0.8)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{_SCORE_LABEL}\nbars: IQM with 95 % confidence interval; dots: mean on each workload")
        headline(figure, standings)
    return figure


def plot_losses(records: Sequence[RunRecord], standings: Standings) -> Figure:
    """Return validation loss against updates, a panel for each workload: median and middle half of the runs.

    Curves are clipped at chance, where diverged runs stay.
    """
    look = looks(standings)
    runs = _reports(records)
    # In an unfinished run, a workload may have a committed reference and no runs yet.
    begun = [workload for workload in standings.workloads if any((*key, workload) in runs for key in look)]
    with mpl.rc_context(RC):
        figure, axes = panels(begun)
        for panel, workload in zip(axes, begun, strict=True):
            draw_losses(panel, {key: runs[*key, workload] for key in look if (*key, workload) in runs}, look)
            panel.set_ylabel("validation loss (nats)")
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_learning_rates(records: Sequence[RunRecord], standings: Standings) -> Figure | None:
    """Return the learning rate against updates, a panel for each workload: one run per entry, report seed 0 of study 0.

    A layerwise entry has a line for the geometric mean, thin lines for the layers, and a band from the lowest to the
    highest. None if no record has learning rates.
    """
    runs = _reports(record for record in records if record.lr_trace.updates)
    shown = {(ruleset, entry) for ruleset, entry, _ in runs}
    look = {key: how for key, how in looks(standings).items() if key in shown}
    if not look:
        return None
    with mpl.rc_context(RC):
        figure, axes = panels(standings.workloads)
        for panel, workload in zip(axes, standings.workloads, strict=True):
            found = {key: runs[*key, workload] for key in look if (*key, workload) in runs}
            first = {key: min(own, key=lambda run: (run.study, run.seed)) for key, own in found.items()}
            draw_learning_rates(panel, {key: run.lr_trace for key, run in first.items()}, look)
            panel.set_ylabel("learning rate")
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_budget(
    records: Sequence[RunRecord], standings: Standings, studies: Sequence[StudyRecord] = ()
) -> Figure | None:
    """Return budget curves: the expected best score after n Optuna trials; zero-shot entries are horizontal lines.

    Scores are of validation losses. 0 is the expected score of tuned cosine after all of its trials. A dot marks where
    cosine's curve crosses a zero-shot entry, with the number of trials. None if cosine has fewer than two trials.
    """
    look = looks(standings)
    scores = budget_scores(records, studies)
    reference = scores.get(("tuned", REFERENCE), {})
    workloads = [name for name in standings.workloads if name in reference and len(reference[name]) > 1]
    if not workloads:
        return None
    with mpl.rc_context(RC):
        mean = [f"mean of {len(workloads)} workloads"] if len(workloads) > 1 else []
        figure, axes = panels([*mean, *workloads], height=2.8)
        for panel, names in zip(axes, [workloads] * len(mean) + [[name] for name in workloads], strict=True):
            draw_budget(panel, mean_budget(scores, names), look)
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_profiles(records: Sequence[RunRecord], standings: Standings) -> Figure | None:
    """Return performance profiles, a panel for each ruleset: the share of runs within a ratio of the best loss.

    See `ganno_bench.leaderboard.draw.profiles`. None if no ruleset has two ranked entries.
    """
    found = profiles(records, standings)
    if not found:
        return None
    look = looks(standings)
    with mpl.rc_context(RC):
        figure, axes = panels([ruleset.capitalize() for ruleset in found], height=3)
        for panel, profile in zip(axes, found.values(), strict=True):
            draw_profile(panel, profile, look)
            panel.set_ylabel("runs within the ratio (%)")
        headline(figure, standings)
        legend(figure, {key: look[key] for profile in found.values() for key in profile.shares})
    return figure


def _reports(records: Iterable[RunRecord]) -> dict[tuple[str, str, str], list[RunRecord]]:
    """Group report runs by (ruleset, entry, workload)."""
    runs: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.role == "report":
            runs[record.ruleset, record.scheduler, record.workload].append(record)
    return runs


def _draw_score(axes: Axes, row: Row, standings: Standings, look: Look, y: float) -> None:
    cells = [standings.cells.get((row.ruleset, row.entry, name)) for name in standings.workloads]
    scores = [cell.score for cell in cells if cell is not None]
    if row.iqm_low is not None and row.iqm_high is not None:
        ends = [row.iqm_low, row.iqm_high]
        axes.plot(ends, [y, y], color=look.colour, linewidth=4, alpha=0.4, solid_capstyle="butt")
    axes.plot([row.iqm], [y], "|", markersize=10, markeredgewidth=2, color=look.colour)
    axes.plot(scores, [y + 0.28] * len(scores), "o", markersize=3, markeredgecolor="none", color=look.colour, alpha=0.6)
    text = estimate(row.iqm, row.iqm_low, row.iqm_high)
    axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center")
