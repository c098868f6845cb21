"""Plots of how far a policy generalises: transfer matrix, learning rates, failures, robustness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ganno_bench.bench.evaluation import UNTUNED, Evaluation
from ganno_bench.core.records import Factor, RunRecord
from ganno_bench.leaderboard.robustness_plot import axis_of_multiples
from ganno_bench.leaderboard.robustness_tables import FACTORS
from ganno_bench.leaderboard.schedule_summary import layer_rates, summarise_schedule
from ganno_bench.leaderboard.style import RC, log_ticks
from ganno_bench.scoring.metrics import FloatArray, validation_curves
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.robustness import OWN, Setting
from ganno_bench.scoring.transfer import Comparison, TransferCell
from ganno_bench.workloads.suite import WorkloadSpec

__all__ = ["matrix_rows", "plot_failure", "plot_matrix", "plot_robustness", "plot_schedules", "varied_losses"]

_POLICY, _COSINE, _DEFAULT = "#0072B2", "black", "#E69F00"
_DIVERGING = "RdBu"
_LAST_LAYER = 0.9
"""Place of the output layer's colour in the colour map; later colours are too pale for a line."""
_VARIED: tuple[Factor, ...] = ("base_lr", "weight_decay")
_SCALE = (10.0, 60.0)
"""Least and largest end of the matrix's colour scale; between them it ends at the largest score."""


def matrix_rows(workloads: Sequence[WorkloadSpec]) -> dict[str, dict[str, dict[int, str]]]:
    """Return family -> row -> depth -> workload; a row is a dataset with an optimizer."""
    rows: dict[str, dict[str, dict[int, str]]] = {}
    for spec in workloads:
        family, depth = str(spec.model["family"]), int(spec.model.get("depth", 0))
        own = rows.setdefault(family, {})
        label, n = f"{spec.dataset}, {spec.optimizer.name}", 1
        while depth in own.get(label if n == 1 else f"{label} ({n})", {}):
            n += 1
        own.setdefault(label if n == 1 else f"{label} ({n})", {})[depth] = spec.id
    return rows


def plot_matrix(evaluation: Evaluation, cells: Sequence[TransferCell]) -> Figure:
    """Return the transfer matrix: a panel for each family, against tuned cosine above, layerwise rivals below."""
    rows = matrix_rows(evaluation.suite.workload)
    found = {cell.workload: cell for cell in cells}
    against = {f"vs tuned {REFERENCE}": {name: cell.cosine for name, cell in found.items()}}
    if any(cell.layerwise for cell in cells):
        against["vs best layerwise rival"] = {
            name: cell.layerwise for name, cell in found.items() if cell.layerwise is not None
        }
    scores = [abs(comparison.score) for on in against.values() for comparison in on.values()]
    limit = min(max([_SCALE[0], *scores]), _SCALE[1])
    depths = {family: sorted({depth for row in own.values() for depth in row}) for family, own in rows.items()}
    widths = [max(2, len(depths[family])) for family in rows]
    with mpl.rc_context(RC):
        height = 0.52 * max(map(len, rows.values())) + 0.75
        figure = Figure(figsize=(0.78 * sum(widths) + 1.35 * len(rows) + 1.0, height * len(against) + 0.7))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(len(against), len(rows), squeeze=False, gridspec_kw={"width_ratios": widths})
        for line, (title, comparisons) in zip(grid, against.items(), strict=True):
            for axes, (family, own) in zip(line, rows.items(), strict=True):
                _draw_matrix(axes, own, depths[family], comparisons, evaluation, limit)
                axes.set_title(f"{family} {title}", loc="left")
        bar = figure.colorbar(
            ScalarMappable(Normalize(-limit, limit), _DIVERGING),
            ax=list(grid.flat),
            extend="both",
            shrink=0.7,
            pad=0.02,
        )
        bar.set_label("score = 100 ln(rival's loss / policy's loss)")
        bar.outline.set_visible(False)
        figure.suptitle(
            f"{evaluation.policy}: blue is better than the rival. Bold: the confidence interval excludes 0. "
            "Framed: seen in training.",
            x=0.01,
            ha="left",
            fontsize=9,
            color="#606060",
        )
    return figure


def plot_schedules(evaluation: Evaluation, workloads: Sequence[str]) -> Figure | None:
    """Return learning rates per layer, a column for each workload: lines with tuned cosine's, and a heat map.

    It shows the run with report seed 0. None if the policy ran on none of the workloads.
    """
    shown = [name for name in workloads if _runs(evaluation, evaluation.policy, name)]
    if not shown:
        return None
    with mpl.rc_context(RC):
        figure = Figure(figsize=(4.2 * len(shown), 6.0), layout="constrained")
        grid = figure.subplots(2, len(shown), squeeze=False)
        for index, workload in enumerate(shown):
            run = _runs(evaluation, evaluation.policy, workload)[0]
            _draw_layers(grid[0, index], run, _runs(evaluation, REFERENCE, workload))
            grid[0, index].set_title(workload, loc="left")
            _draw_heat_map(figure, grid[1, index], run)
        ends = {"input layer": 0.0, "output layer": _LAST_LAYER}
        handles = [Line2D([], [], color=mpl.colormaps["viridis"](at), label=label) for label, at in ends.items()]
        handles.append(Line2D([], [], color=_COSINE, linestyle="--", label=f"tuned {REFERENCE}"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def plot_failure(evaluation: Evaluation, workload: str) -> Figure:
    """Return the policy and tuned cosine on one workload: mean learning rates, losses, learning rates per layer."""
    ours, theirs = (_runs(evaluation, entry, workload) for entry in (evaluation.policy, REFERENCE))
    with mpl.rc_context(RC):
        figure = Figure(figsize=(11, 3.1), layout="constrained")
        rates, losses, layers = figure.subplots(1, 3)
        for runs, colour, label in ((theirs, _COSINE, f"tuned {REFERENCE}"), (ours, _POLICY, evaluation.policy)):
            if (schedule := summarise_schedule(runs)) is not None:
                rates.plot(schedule.updates, schedule.mean, color=colour, label=label)
                rates.fill_between(schedule.updates, schedule.low, schedule.high, color=colour, alpha=0.15, linewidth=0)
            updates, curves = validation_curves(runs)
            for curve in curves:
                losses.plot(updates, curve, color=colour, linewidth=0.5, alpha=0.5)
            losses.plot(updates, np.median(curves, axis=0), color=colour)
        _log_rates(rates)
        rates.set_title("learning rate: mean and range of the layers", loc="left")
        rates.legend(loc="lower left")
        losses.set_yscale("log")
        log_ticks(losses.yaxis)
        losses.set_xlim(left=0)
        losses.set_title("validation loss: runs and median", loc="left")
        for axes in (rates, losses):
            axes.set_xlabel("updates")
        losses.set_ylabel("nats")
        _draw_heat_map(figure, layers, ours[0])
        layers.set_title("learning rate per layer, seed 0", loc="left")
    return figure


def varied_losses(evaluation: Evaluation, workload: str, entry: str) -> dict[Setting, list[float]]:
    """Return setting -> final validation losses, nats; `OWN` is the optimizer's default."""
    found: dict[Setting, list[float]] = {}
    for run in evaluation.robustness:
        if (run.workload, run.scheduler) == (workload, entry):
            found.setdefault(Setting.of(run), []).append(run.objective)
    return found


def plot_robustness(evaluation: Evaluation) -> Figure | None:
    """Return final validation losses against base learning rate and weight decay; None if there are no runs."""
    workloads = list(dict.fromkeys(run.workload for run in evaluation.robustness))
    if not workloads:
        return None
    looks: Mapping[str, dict[str, Any]] = {
        evaluation.policy: {"color": _POLICY, "marker": "o", "zorder": 3},
        UNTUNED: {"color": _DEFAULT, "marker": "s", "linestyle": "--"},
    }
    with mpl.rc_context(RC | {"lines.markersize": 4}):
        figure = Figure(figsize=(3.6 * len(workloads) + 0.4, 5.6), layout="constrained")
        grid = figure.subplots(2, len(workloads), squeeze=False, sharey="col")
        for column, workload in zip(grid.T, workloads, strict=True):
            column[0].set_title(workload, loc="left")
            tuned = [run.objective for run in _runs(evaluation, REFERENCE, workload)]
            for axes, factor in zip(column, _VARIED, strict=True):
                for entry, look in looks.items():
                    found = varied_losses(evaluation, workload, entry)
                    shown = sorted((s for s in found if s == OWN or s.factor == factor), key=lambda s: s.multiple)
                    if shown:
                        places = axis_of_multiples(axes, [setting.multiple for setting in shown])
                        _draw_losses(axes, places, [found[setting] for setting in shown], look)
                if tuned:
                    axes.axhline(float(np.median(tuned)), color=_COSINE, linewidth=1.2, linestyle=":")
                axes.set_yscale("log")
                log_ticks(axes.yaxis)
                axes.yaxis.set_tick_params(labelleft=True)
                axes.set_xlabel(f"{FACTORS[factor]} / default")
        for axes in grid[:, 0]:
            axes.set_ylabel("final validation loss (nats)")
        labels = {evaluation.policy: evaluation.policy, UNTUNED: f"{REFERENCE}, untuned"}
        handles = [Line2D([], [], label=labels[entry], **look) for entry, look in looks.items()]
        handles.append(Line2D([], [], color=_COSINE, linewidth=1.2, linestyle=":", label=f"tuned {REFERENCE}"))
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _runs(evaluation: Evaluation, entry: str, workload: str) -> list[RunRecord]:
    found = [run for run in evaluation.records if (run.scheduler, run.workload) == (entry, workload)]
    return sorted(found, key=lambda run: run.seed)


def _draw_matrix(
    axes: Axes,
    rows: Mapping[str, Mapping[int, str]],
    depths: Sequence[int],
    comparisons: Mapping[str, Comparison],
    evaluation: Evaluation,
    limit: float,
) -> None:
    for y, row in enumerate(rows.values()):
        for x, depth in enumerate(depths):
            comparison = comparisons.get(row.get(depth, ""))
            if comparison is None:
                axes.text(x, y, "-", ha="center", va="center", color="#808080")
                continue
            news = evaluation.novelty[row[depth]]
            colour = mpl.colormaps[_DIVERGING](0.5 + 0.5 * comparison.score / limit)
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", linewidth=1.5))
            if news.seen:
                axes.add_patch(
                    Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.4, zorder=3)
                )
            ink = "white" if float(np.dot(colour[:3], (0.3, 0.59, 0.11))) < 0.5 else "black"
            weight = "normal" if comparison.verdict == "tie" else "bold"
            text = {"ha": "center", "color": ink, "zorder": 4}
            axes.text(x, y - 0.06, f"{comparison.score:+z.1f}", va="center", fontsize=9, weight=weight, **text)  # type: ignore[arg-type]
            axes.text(x, y + 0.3, news.label, va="center", fontsize=5.5, **text)  # type: ignore[arg-type]
    axes.set_xlim(-0.5, len(depths) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    axes.set_yticks(range(len(rows)), [label.replace(", ", "\n") for label in rows])
    axes.set_xlabel("depth")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_layers(axes: Axes, run: RunRecord, cosine: Sequence[RunRecord]) -> None:
    rates = layer_rates(run)
    n_layers = rates.shape[1]
    colours = mpl.colormaps["viridis"](np.linspace(0, _LAST_LAYER, n_layers))
    for layer in range(n_layers):
        axes.plot(run.lr_trace.updates, rates[:, layer], color=colours[layer], linewidth=1.1)
    if cosine and (schedule := summarise_schedule(cosine)) is not None:
        axes.plot(schedule.updates, schedule.mean, color=_COSINE, linestyle="--", linewidth=1.2)
    _log_rates(axes)
    axes.set_xlim(0, max(run.cost.updates, 1))
    axes.set_xlabel("updates")
    axes.set_ylabel("learning rate")


def _draw_heat_map(figure: Figure, axes: Axes, run: RunRecord) -> None:
    rates: FloatArray = layer_rates(run)
    if not rates.size:
        axes.text(0.5, 0.5, "diverged at the first update", ha="center", transform=axes.transAxes)
        return
    positive = rates[rates > 1e-12]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1e-12, 1.0)
    low = max(low, high * 1e-4)
    norm = LogNorm(low, high) if high > low * 1.001 else LogNorm(low / 1.1, high * 1.1)
    edges = [*run.lr_trace.updates, max(run.cost.updates, run.lr_trace.updates[-1] + 1)]
    mesh = axes.pcolormesh(edges, np.arange(rates.shape[1] + 1) - 0.5, rates.T, norm=norm, cmap="magma")
    axes.set_ylim(rates.shape[1] - 0.5, -0.5)
    layers = run.lr_trace.layers
    step = -(-len(layers) // 14)
    axes.set_yticks(range(0, len(layers), step), layers[::step])
    axes.set_xlabel("updates")
    axes.grid(visible=False)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, label="learning rate")
    log_ticks(bar.ax.yaxis)
    bar.outline.set_visible(False)


def _draw_losses(axes: Axes, x: Sequence[float], losses: Sequence[Sequence[float]], look: Mapping[str, Any]) -> None:
    axes.plot(x, [float(np.median(at)) for at in losses], **look)
    low, high = [min(at) for at in losses], [max(at) for at in losses]
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _log_rates(axes: Axes) -> None:
    """Make a logarithmic axis that ends four orders of magnitude below the highest learning rate."""
    axes.set_yscale("log")
    highest = float(axes.dataLim.y1)
    lowest = max(axes.dataLim.minposy, highest * 1e-4)
    axes.set_ylim(lowest / 1.5, highest * 1.5)
    axes.set_xlim(left=0)
    log_ticks(axes.yaxis)
