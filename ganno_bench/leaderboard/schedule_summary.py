"""Summarise the learning rates of several runs in a few numbers and curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganno_bench.core.records import RunRecord
from ganno_bench.scoring.metrics import FloatArray

__all__ = ["ScheduleSummary", "layer_rates", "summarise_schedule"]

_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True)
class ScheduleSummary:
    """Learning rates of one entry on one workload: medians over its runs.

    Attributes:
        updates: Updates of the curves' points, shape (K,).
        mean: Geometric mean over the layers, shape (K,).
        low: Lowest learning rate of a layer, shape (K,).
        high: Highest learning rate of a layer, shape (K,).
        spread: Largest ratio between the learning rates of two layers at the same update, at least 1.
    """

    updates: NDArray[np.int64]
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    spread: float

    @property
    def peak(self) -> float:
        """Largest mean learning rate."""
        return float(self.mean.max())

    @property
    def peak_at(self) -> int:
        """Update at which the mean learning rate is largest."""
        return int(self.updates[self.mean.argmax()])

    @property
    def final_share(self) -> float:
        """Last mean learning rate, divided by the largest."""
        return float(self.mean[-1] / self.peak)


def layer_rates(run: RunRecord) -> FloatArray:
    """Return the learning rates of a run, shape (K, layers); zeros become the smallest positive number."""
    trace = run.lr_trace
    return np.maximum(np.array(trace.lr, dtype=np.float64).reshape(len(trace.updates), -1), _TINY)


def summarise_schedule(runs: Sequence[RunRecord]) -> ScheduleSummary | None:
    """Return the summary of the runs with the most recorded updates; None if no run has learning rates."""
    longest = max(len(run.lr_trace.updates) for run in runs)
    chosen = [run for run in runs if len(run.lr_trace.updates) == longest]
    if longest == 0:
        return None
    rates = np.array([layer_rates(run) for run in chosen])  # (runs, K, layers)
    low, high = np.median(rates.min(axis=2), axis=0), np.median(rates.max(axis=2), axis=0)
    moving = rates.min(axis=2) > _TINY
    ratios = np.where(moving, rates.max(axis=2) / rates.min(axis=2), 1.0)
    return ScheduleSummary(
        updates=np.array(chosen[0].lr_trace.updates, dtype=np.int64),
        mean=np.median(np.exp(np.log(rates).mean(axis=2)), axis=0),
        low=low,
        high=high,
        spread=float(np.median(ratios, axis=0).max()),
    )
