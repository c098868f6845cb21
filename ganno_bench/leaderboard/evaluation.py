"""The report of an evaluation: tables and plots of how far a policy generalises, made from records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from ganno_bench.bench.derived import middle_workloads
from ganno_bench.bench.evaluation import UNTUNED, Evaluation
from ganno_bench.leaderboard.evaluation_plots import plot_failure, plot_matrix, plot_robustness, plot_schedules
from ganno_bench.leaderboard.evaluation_tables import (
    cell_table,
    cells_of,
    entry_table,
    matrix_csv,
    robustness_csv,
    robustness_table,
    summary_table,
)
from ganno_bench.leaderboard.formats import escape_markdown, markdown_table
from ganno_bench.leaderboard.schedule_summary import summarise_schedule
from ganno_bench.leaderboard.style import RC
from ganno_bench.scoring.reference import REFERENCE
from ganno_bench.scoring.transfer import TransferCell

__all__ = ["failed_cells", "headline_of", "write_evaluation"]

_FEW_SEEDS = 5


def write_evaluation(evaluation: Evaluation) -> dict[str, Path]:
    """Write `README.md`, `matrix.csv`, `robustness.csv` and plots; return kind of output -> path.

    The plots of an earlier report are removed.
    """
    cells = cells_of(evaluation)
    out, plots = evaluation.path, evaluation.path / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for stale in plots.glob("*.png"):
        stale.unlink()
    figures: dict[str, Figure | None] = {
        "schedules": plot_schedules(evaluation, middle_workloads(evaluation.suite)),
        "robustness": plot_robustness(evaluation),
    }
    if cells:
        figures["transfer"] = plot_matrix(evaluation, cells)
    figures |= {f"failure-{cell.workload}": plot_failure(evaluation, cell.workload) for cell in failed_cells(cells)}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    with mpl.rc_context(RC):
        for name, figure in drawn.items():
            figure.savefig(plots / f"{name}.png", dpi=150)
    files = {"page": out / "README.md", "matrix": out / "matrix.csv", "plots": plots}
    files["matrix"].write_text(matrix_csv(evaluation, cells), "utf-8")
    (out / "robustness.csv").write_text(robustness_csv(evaluation), "utf-8")
    files["page"].write_text(_page(evaluation, cells, set(drawn)), "utf-8")
    return files


def failed_cells(cells: Sequence[TransferCell]) -> list[TransferCell]:
    """Return the cells in which the policy is significantly worse than tuned cosine, lowest score first."""
    return sorted((cell for cell in cells if cell.cosine.verdict == "loss"), key=lambda cell: cell.cosine.score)


def headline_of(evaluation: Evaluation) -> list[str]:
    """Return what was run, and the limits of the results, one line each."""
    suite, budget = evaluation.suite, evaluation.suite.budget
    lines = [
        f"Policy {evaluation.card.name} ({evaluation.code}): frozen, starts from the optimizer's default learning rate",
        f"Suite {suite.name}@{suite.hash}: {len(suite.workload)} workloads, {budget.report_seeds} report seeds; Optuna "
        f"tunes the rivals with {budget.trials} trials on {budget.tuning_seeds} tuning seeds",
        "Validation loss only: this page uses no test data",
    ]
    if budget.report_seeds < _FEW_SEEDS:
        lines.append(f"Fewer than {_FEW_SEEDS} report seeds: confidence intervals are too narrow to support a claim")
    return lines + [missing.line for missing in evaluation.left_out]


def _page(evaluation: Evaluation, cells: Sequence[TransferCell], drawn: set[str]) -> str:
    parts = [
        f"# How far {escape_markdown(evaluation.card.name)} generalises",
        "\n".join(f"- {escape_markdown(line)}" for line in headline_of(evaluation)),
    ]
    if evaluation.failures:
        lines = [f"- {failure.scheduler} on {failure.workload}: {failure.error}" for failure in evaluation.failures]
        parts += ["Failed:", "\n".join(map(escape_markdown, lines))]
    if cells:
        parts += ["## Transfer", _how_to_read(), markdown_table(summary_table(evaluation, cells))]
        parts += [_picture("transfer", "Score of every cell, by family, data and depth")]
        parts += [
            f"Mean scores of all entries against tuned {REFERENCE}, on the same cells. `{UNTUNED}` is not tuned:",
            markdown_table(entry_table(evaluation, cells)),
            *(escape_markdown(said) for cell in cells if (said := cell.remark) is not None),
            "### Cell by cell",
            markdown_table(cell_table(evaluation, cells)),
        ]
        parts += _failures(evaluation, cells)
    if "schedules" in drawn:
        parts += [
            "## Learning rates",
            "The learning rate of every layer, on one workload of each family, with report seed 0.",
            _picture("schedules", "Learning rate of every layer over time"),
        ]
    if "robustness" in drawn:
        parts += [
            "## Robustness",
            "Median final validation loss when training starts from another base learning rate or weight decay than "
            "the optimizer's default. Bands reach from the best run to the worst. `robustness.csv` has every run.",
            markdown_table(robustness_table(evaluation)),
            _picture("robustness", "Final validation loss against base learning rate and weight decay"),
        ]
    return "\n\n".join(parts) + "\n"


def _how_to_read() -> str:
    return (
        "A score is 100 ln(L / L_policy). Both losses are medians over seeds of the final validation loss. 0 is a tie, "
        f"+10 a loss about 10 % below the rival's. The rival is tuned {REFERENCE}, or the tuned layerwise entry that "
        "is best on the same workload. Confidence intervals (95 %, bootstrap) are paired by seed. A cell is won or "
        "lost if its confidence interval excludes 0. A cell is *seen* if its family, data and depth lie within one of "
        "the policy's training ranges."
    )


def _failures(evaluation: Evaluation, cells: Sequence[TransferCell]) -> list[str]:
    failed = failed_cells(cells)
    if not failed:
        return ["## Failures", f"None: the policy is significantly worse than tuned {REFERENCE} in no cell."]
    parts = [
        "## Failures",
        f"The policy is significantly worse than tuned {REFERENCE} in {len(failed)} of {len(cells)} cells. The lowest "
        "score comes first.",
    ]
    for cell in failed:
        parts += [
            f"### {cell.workload}: {cell.cosine.score:+z.1f}",
            escape_markdown(_diagnosis(evaluation, cell)),
            _picture(f"failure-{cell.workload}", f"Learning rates and losses on {cell.workload}"),
        ]
    return parts


def _diagnosis(evaluation: Evaluation, cell: TransferCell) -> str:
    """Return a description of a failed cell in numbers."""
    ours, theirs = (
        [run for run in evaluation.records if (run.workload, run.scheduler) == (cell.workload, name)]
        for name in (evaluation.policy, REFERENCE)
    )
    base, default = (float(runs[0].config["base_lr"]) for runs in (theirs, ours))
    tuned_decay, decay = (float(runs[0].config["weight_decay"]) for runs in (theirs, ours))
    sentences = [
        f"Median loss: {cell.losses[evaluation.policy]:.3g} nats, tuned {REFERENCE} {cell.losses[REFERENCE]:.3g} nats "
        f"({evaluation.novelty[cell.workload].label})."
    ]
    policy, cosine = summarise_schedule(ours), summarise_schedule(theirs)
    if policy is not None and cosine is not None:
        sentences.append(
            f"The policy's learning rate (mean over layers) starts from the default, {default:.3g}. It peaks at "
            f"{policy.peak:.3g} at update {policy.peak_at}, {policy.peak / base:.2g} times the tuned base learning "
            f"rate of {base:.3g}. It ends at {policy.final_share:.2g} of its peak (tuned {REFERENCE}: "
            f"{cosine.final_share:.2g})."
        )
        sentences.append(
            "All layers have the same learning rate."
            if policy.spread < 1.001
            else f"Learning rates of layers differ by a factor of up to {policy.spread:.2g}."
        )
    sentences.append(f"Weight decay is {decay:.2g}, tuned {REFERENCE}'s {tuned_decay:.2g}.")
    if cell.diverged:
        sentences.append(f"{cell.diverged} of {cell.n_seeds} runs diverged.")
    return " ".join(sentences)


def _picture(name: str, what: str) -> str:
    return f"![{what}](plots/{name}.png)"
