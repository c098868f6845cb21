"""The stratified percentile bootstrap with common random numbers.

Runs are resampled within workloads. What a workload's resamples are made of depends on the workload's name and the
root seed alone, so all entries are resampled alike, which makes comparisons paired, and none depends on who else
takes part.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganno_bench.core.seeding import stream_seed
from ganno_bench.scoring.metrics import FloatArray, interquartile_mean

__all__ = ["interval", "resample", "resample_workload", "resampled_iqm", "workload_rng"]


def workload_rng(rng_seed: int, workload: str) -> np.random.Generator:
    """Return a fresh generator of a workload's resamples."""
    return np.random.default_rng(stream_seed("bootstrap", rng_seed, workload))


def resample(values: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw resamples of one workload's runs, with replacement.

    With one tuning study this is the ordinary bootstrap over seeds. With several, a seed means the same initialisation
    and data order in each of them; seeds and studies are crossed, and both are drawn (the pigeonhole bootstrap, Owen
    2007). Drawing runs alone would treat a study's lucky configuration as many independent ones.

    Args:
        values: One value per run, shape (studies, ..., seeds).
        n_resamples: Number of resamples, R.
        rng: Draws the seeds first, so the same generator gives the same seeds for any number of studies.

    Returns:
        Shape (R, n): the values of each resample, flattened.
    """
    return _taken(values, _draw(values.shape, n_resamples, rng))


def resample_workload(values: FloatArray, n_resamples: int, rng_seed: int, workload: str) -> FloatArray:
    """Return what `resample` does with a fresh generator of the workload; what is drawn is the same for all entries."""
    return _taken(values, _draw_workload(values.shape, n_resamples, rng_seed, workload))


def resampled_iqm(scores: Mapping[str, FloatArray], n_resamples: int, rng_seed: int) -> FloatArray:
    """Return the interquartile mean over runs x workloads of each resample.

    Args:
        scores: Workload -> scores, shape (studies, seeds).
        n_resamples: Number of resamples, R.
        rng_seed: Root seed.

    Returns:
        Shape (R,). The difference between two entries with the same seeds is paired, resample by resample.
    """
    drawn = [resample_workload(values, n_resamples, rng_seed, name) for name, values in scores.items()]
    return interquartile_mean(np.concatenate(drawn, axis=1))


def interval(samples: FloatArray) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled estimates, shape (R,)."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


_Indices = tuple[NDArray[Any], ...]
"""Along each axis of the values, ready to be broadcast to resamples x shape."""


def _draw(shape: tuple[int, ...], n_resamples: int, rng: np.random.Generator) -> _Indices:
    n_axes = len(shape)
    indices = []
    for axis in (n_axes - 1, *range(n_axes - 1)):
        size = shape[axis]
        broadcast = [n_resamples] + [1] * n_axes
        broadcast[1 + axis] = size
        indices.append(rng.integers(size, size=(n_resamples, size)).reshape(broadcast))
    seeds, *studies = indices
    return (*studies, seeds)


@lru_cache(maxsize=64)
def _draw_workload(shape: tuple[int, ...], n_resamples: int, rng_seed: int, workload: str) -> _Indices:
    return _draw(shape, n_resamples, workload_rng(rng_seed, workload))


def _taken(values: FloatArray, indices: _Indices) -> FloatArray:
    resamples: FloatArray = values[indices].reshape(len(indices[0]), -1)
    return resamples
