"""The plot of a policy's learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ganno_bench.marl.mappo import Batch

__all__ = ["write_learning_curve"]


def write_learning_curve(batches: Sequence[Batch], file: Path, title: str) -> None:
    """Draw return, final loss, entropy and the critic's explained variance against environment steps.

    Args:
        batches: The measurements, at least one.
        file: The PNG or SVG file to write.
        title: The name of the policy.
    """
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 2, sharex=True)
    steps = [batch.env_steps for batch in batches]
    axes[0, 0].plot(steps, [batch.mean_return for batch in batches], color="#0072B2")
    _label(axes[0, 0], "Return", "sum of rewards")
    evaluated = [batch for batch in batches if batch.validation == batch.validation]
    axes[0, 1].plot(steps, [batch.log_loss for batch in batches], color="#b8b8b8", label="training tasks, sampled")
    axes[0, 1].plot(
        [batch.env_steps for batch in evaluated],
        [batch.validation for batch in evaluated],
        color="#D55E00",
        marker=".",
        label="validation tasks, greedy",
    )
    axes[0, 1].legend(frameon=False, fontsize=8)
    _label(axes[0, 1], "Final validation loss", "ln(loss / chance)")
    axes[1, 0].plot(steps, [batch.entropy for batch in batches], color="#009E73")
    _label(axes[1, 0], "Entropy of the decisions", "nats")
    axes[1, 1].plot(steps, [batch.explained_variance for batch in batches], color="#CC79A7")
    axes[1, 1].set_ylim(max(-1.0, min([0.0, *(batch.explained_variance for batch in batches)])), 1.0)
    _label(axes[1, 1], "Explained variance of the critic", "share")
    for axis in axes[1]:
        axis.set_xlabel("environment steps")
    figure.savefig(file, dpi=150)


def _label(axis: Axes, title: str, unit: str) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_ylabel(unit)
    axis.grid(color="#e4e4e4", linewidth=0.6)
    axis.spines[["top", "right"]].set_visible(False)
