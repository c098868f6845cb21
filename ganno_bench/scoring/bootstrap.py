"""The stratified percentile bootstrap with common random numbers.

Runs are resampled within workloads. The resamples of a workload depend only on its name and the root seed. So all
entries have the same resamples, which makes comparisons paired, and no entry's resamples depend on other entries.
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
    """Return a new generator for the resamples of a workload."""
    return np.random.default_rng(stream_seed("bootstrap", rng_seed, workload))


def resample(values: FloatArray, n_resamples: int, rng: np.random.Generator) -> FloatArray:
    """Draw resamples of one workload's runs, with replacement.

    With one tuning study this is the ordinary bootstrap over seeds. With several studies, a seed gives the same
    initialisation and data order in each. Seeds and studies are crossed, and both are drawn (the pigeonhole bootstrap,
    Owen 2007). Drawing single runs would count a study's lucky configuration as many independent ones.

    Args:
        values: One value per run, shape (studies, ..., seeds).
        n_resamples: Number of resamples, R.
        rng: The generator. It draws the seeds first, so it gives the same seeds for any number of studies.

    Returns:
        The values of each resample, flattened, shape (R, n).
    """
    return _taken(values, _draw(values.shape, n_resamples, rng))


def resample_workload(values: FloatArray, n_resamples: int, rng_seed: int, workload: str) -> FloatArray:
    """Return `resample` with a new generator of the workload, so that all entries have the same resamples."""
    return _taken(values, _draw_workload(values.shape, n_resamples, rng_seed, workload))


def resampled_iqm(scores: Mapping[str, FloatArray], n_resamples: int, rng_seed: int) -> FloatArray:
    """Return the interquartile mean over runs x workloads of each resample.

    Args:
        scores: Workload -> scores, shape (studies, seeds).
        n_resamples: Number of resamples, R.
        rng_seed: Root seed.

    Returns:
        Shape (R,). The resamples of two entries with the same seeds are paired.
    """
    drawn = [resample_workload(values, n_resamples, rng_seed, name) for name, values in scores.items()]
    return interquartile_mean(np.concatenate(drawn, axis=1))


def interval(samples: FloatArray) -> tuple[float, float]:
    """Return the 95 % confidence interval of resampled estimates, shape (R,), by percentiles."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return float(low), float(high)


_Indices = tuple[NDArray[Any], ...]
"""Indices along each axis of the values, which broadcast to (resamples, *shape)."""


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
