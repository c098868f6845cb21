"""Plots: records and standings in, matplotlib figures out. Nothing here touches pyplot or a display."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from ganno_bench.core.records import RunRecord
from ganno_bench.core.studies import StudyRecord
from ganno_bench.leaderboard.ladders import plot_ladders
from ganno_bench.leaderboard.robustness_plot import plot_robustness
from ganno_bench.leaderboard.style import RC, Look, headline, legend, log_ticks, looks, panels, save
from ganno_bench.leaderboard.tables import estimate
from ganno_bench.scoring.budget import budget_scores, trials_to_match
from ganno_bench.scoring.checks import check_records
from ganno_bench.scoring.metrics import FloatArray, clipped_loss, performance_profile, validation_curves
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


_LOWEST_SCORE = -60
"""Budget curves come in from below it; a trial or two at chance would hide where they end."""


def write_plots(
    records: Iterable[RunRecord], standings: Standings, out_dir: Path, studies: Sequence[StudyRecord] = ()
) -> list[Path]:
    """Write every plot that the records have data for, as PNG and SVG, and return the paths.

    Args:
        records: What the standings were made of.
        standings: Who takes part, and in which colour.
        out_dir: Folder; made if need be.
        studies: Tuning studies that there are no records of.

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
    """Return a forest plot: each entry's score with its interval, and beside it, small, its score on each workload."""
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
                    labels[y] = row.entry
                    _draw_score(axes, row, standings, look[row.ruleset, row.entry], y)
            y += 1.4
        axes.set_yticks(list(labels), list(labels.values()))
        axes.set_ylim(y - 0.6, -0.8)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"{_SCORE_LABEL}\nlarge: IQM with 95 % interval; small: mean on each workload")
        headline(figure, standings)
    return figure


def plot_losses(records: Sequence[RunRecord], standings: Standings) -> Figure:
    """Return validation loss against updates, a panel per workload: the median over runs, and the middle half of them.

    Curves are clipped at chance, where a run also stays after it diverged.
    """
    look = looks(standings)
    runs = _reports(records)
    with mpl.rc_context(RC):
        figure, axes = panels(standings.workloads)
        for panel, workload in zip(axes, standings.workloads, strict=True):
            lowest, chance = np.inf, 0.0
            for (ruleset, entry), how in _by_prominence(look):
                if not (found := runs.get((ruleset, entry, workload))):
                    continue
                updates, losses = validation_curves(found)
                low, median, high = np.quantile(losses, (0.25, 0.5, 0.75), axis=0)
                panel.plot(updates, median, **how.line)
                if how.prominent and len(found) > 1:
                    panel.fill_between(updates, low, high, color=how.colour, alpha=0.15, linewidth=0)
                lowest, chance = min(lowest, float(low.min())), max(chance, found[0].chance_loss)
            panel.set_yscale("log")
            panel.axhline(chance, color="black", linewidth=0.8, linestyle=":")
            panel.annotate("chance", (1, chance), (0, 2), panel.get_yaxis_transform(), "offset points", ha="right")
            panel.set_ylim(lowest * 0.95, chance * max(1.05, (chance / lowest) ** 0.12))
            panel.set_xlim(left=0)
            log_ticks(panel.yaxis)
            panel.set_xlabel("updates")
            panel.set_ylabel("validation loss (nats)")
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_learning_rates(records: Sequence[RunRecord], standings: Standings) -> Figure | None:
    """Return the learning rate against updates, a panel per workload: one run per entry, report seed 0 of study 0.

    An entry with learning rates per layer has a line for their geometric mean, thin ones for the layers, and a band
    from the lowest to the highest. Committed baselines are not shown: they keep no learning rates. None where nobody
    has any.
    """
    runs = _reports(record for record in records if record.lr_trace.updates)
    shown = {(ruleset, entry) for ruleset, entry, _ in runs}
    look = {key: how for key, how in looks(standings).items() if key in shown}
    if not look:
        return None
    with mpl.rc_context(RC):
        figure, axes = panels(standings.workloads)
        for panel, workload in zip(axes, standings.workloads, strict=True):
            highest = 0.0
            for (ruleset, entry), how in _by_prominence(look):
                if not (found := runs.get((ruleset, entry, workload))):
                    continue
                trace = min(found, key=lambda record: (record.study, record.seed)).lr_trace
                lr = np.array(trace.lr, dtype=np.float64).reshape(len(trace.updates), -1)
                if lr.size == 0:
                    continue
                highest = max(highest, float(lr.max()))
                _draw_learning_rates(panel, np.array(trace.updates), lr, how)
            panel.set_yscale("log")
            if highest > 0:
                panel.set_ylim(max(panel.dataLim.minposy, highest * 1e-4) / 1.5, highest * 1.5)
                log_ticks(panel.yaxis)
            panel.set_xlabel("updates")
            panel.set_ylabel("learning rate")
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_budget(
    records: Sequence[RunRecord], standings: Standings, studies: Sequence[StudyRecord] = ()
) -> Figure | None:
    """Return the budget curves: what n Optuna trials are expected to buy, with zero-shot entries as horizontal lines.

    Scores are of validation losses, and 0 is what tuned cosine's last trial is expected to have reached. A dot marks
    where cosine's curve crosses a zero-shot entry, and how many trials that takes. None where the records
    have no two trials of cosine.
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
            shown = {
                key: np.mean([on[name][: min(map(len, on.values()))] for name in names], axis=0)
                for key, on in scores.items()
                if all(name in on for name in names)
            }
            _draw_budget(panel, shown, look)
        headline(figure, standings)
        legend(figure, look)
    return figure


def plot_profiles(records: Sequence[RunRecord], standings: Standings) -> Figure | None:
    """Return performance profiles, a panel per ruleset: on how many runs an entry is within a ratio of the best loss.

    A problem is a workload with a report seed (of each entry's first study); those that every ranked entry has count.
    None where no ruleset has two ranked entries.
    """
    look = looks(standings)
    losses: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for (ruleset, entry, workload), found in _reports(records).items():
        for record in reversed(found):
            losses[ruleset, entry][workload, record.seed] = clipped_loss(record)
    values: dict[str, FloatArray] = {}
    entries: dict[str, list[tuple[str, str]]] = {}
    for ruleset, table in standings.tables.items():
        ranked: list[tuple[str, str]] = [(row.ruleset, row.entry) for row in table if row.rank is not None]
        problems = [
            problem
            for problem in (losses[ranked[0]] if len(ranked) > 1 else ())
            if problem[0] in standings.workloads and all(problem in losses[key] for key in ranked)
        ]
        if problems:
            entries[ruleset] = ranked
            values[ruleset] = np.array([[losses[key][problem] for problem in problems] for key in ranked])
    if not values:
        return None
    with mpl.rc_context(RC):
        figure, axes = panels([ruleset.capitalize() for ruleset in values], height=3)
        for panel, (ruleset, table_losses) in zip(axes, values.items(), strict=True):
            worst = float((table_losses / table_losses.min(axis=0)).max())
            ratios = np.geomspace(1, max(1.01, worst), 200)
            for key, shares in zip(entries[ruleset], performance_profile(table_losses, ratios), strict=True):
                panel.step(ratios, 100 * shares, where="post", **look[key].line)
            panel.set_xscale("log")
            panel.set_xlim(1, ratios[-1])
            panel.set_ylim(0, 102)
            log_ticks(panel.xaxis)
            panel.set_xlabel("test loss / best entry's test loss")
            panel.set_ylabel("runs within the ratio (%)")
        headline(figure, standings)
        legend(figure, {key: look[key] for ranked in entries.values() for key in ranked})
    return figure


def _reports(records: Iterable[RunRecord]) -> dict[tuple[str, str, str], list[RunRecord]]:
    """Group report runs by (ruleset, entry, workload)."""
    runs: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        if record.role == "report":
            runs[record.ruleset, record.scheduler, record.workload].append(record)
    return runs


def _by_prominence(look: dict[tuple[str, str], Look]) -> list[tuple[tuple[str, str], Look]]:
    return sorted(look.items(), key=lambda item: item[1].prominent)


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


def _draw_learning_rates(panel: Axes, updates: FloatArray, lr: FloatArray, look: Look) -> None:
    layerwise = bool((lr.min(axis=1) < lr.max(axis=1)).any())
    positive = np.maximum(lr, np.finfo(np.float64).tiny)
    panel.plot(updates, np.exp(np.log(positive).mean(axis=1)), **look.line)
    if layerwise and look.prominent:
        panel.plot(updates, positive, color=look.colour, linewidth=0.6, alpha=0.7)
        panel.fill_between(
            updates, positive.min(axis=1), positive.max(axis=1), color=look.colour, alpha=0.12, linewidth=0
        )


def _draw_budget(panel: Axes, scores: dict[tuple[str, str], FloatArray], look: dict[tuple[str, str], Look]) -> None:
    reference = scores["tuned", REFERENCE]
    n_trials = max(len(values) for values in scores.values())
    for key, how in _by_prominence(look):
        if key not in scores:
            continue
        if key[0] == "tuned":
            panel.plot(np.arange(1, len(scores[key]) + 1), scores[key], **how.line)
            continue
        level = float(scores[key][0])
        panel.axhline(level, **how.line)
        n = trials_to_match(reference, level)
        if how.prominent and n is not None:
            panel.plot([n], [reference[n - 1]], "o", color=how.colour, markersize=5, zorder=4)
            panel.annotate(
                f"{n}",
                (n, reference[n - 1]),
                (4, -11),
                textcoords="offset points",
                color=how.colour,
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )
    panel.set_ylim(bottom=max(panel.get_ylim()[0], _LOWEST_SCORE))
    panel.set_xscale("log", base=2)
    ticks = [2**power for power in range(n_trials.bit_length()) if 2**power <= n_trials]
    panel.xaxis.set_major_locator(FixedLocator(ticks))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([str(tick) for tick in ticks])
    panel.set_xlabel("Optuna trials per workload")
    panel.set_ylabel("expected best score")
