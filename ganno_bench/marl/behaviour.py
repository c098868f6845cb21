"""The mean behaviour of a trained policy: the curve and the profile on its card, which can be replayed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ganno_bench.core.seeding import stream_seed
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.policies.policy import BehaviourCard, Policy

__all__ = ["measure_behaviour"]

_N_CURVE, _N_PROFILE = 33, 9


def measure_behaviour(policy: Policy, envs: Sequence[LayerwiseLREnv]) -> BehaviourCard:
    """Let a policy train the networks of each environment, greedily, and return its mean learning rates.

    All runs have the optimizer's default base learning rate and weight decay, as in the benchmark, and the decision
    interval of the card. Every call uses the same seeds. Only learning rates above 0 count, and only until a run
    diverges. All environments have the same weight. Without any values, as for the profile of networks with one layer,
    curve and profile are 0.

    Args:
        policy: The policy.
        envs: Environments, which give workload, number of runs and device.
    """
    curves, profiles = [], []
    for env in envs:
        log_lr = _log_learning_rates(policy, env)
        total, _, n_layers = log_lr.shape
        mean = log_lr.nanmean(dim=(1, 2))
        curves.append(_resampled(np.arange(total) / total, mean, _N_CURVE))
        if n_layers > 1:
            departure = log_lr - log_lr.nanmean(dim=2, keepdim=True)
            profiles.append(_resampled(np.linspace(0.0, 1.0, n_layers), departure.nanmean(dim=(0, 1)), _N_PROFILE))
    return BehaviourCard(curve=_mean(curves, _N_CURVE), profile=_mean(profiles, _N_PROFILE))


def _log_learning_rates(policy: Policy, env: LayerwiseLREnv) -> Tensor:
    """Return ln(lr / base_lr) of each update, shape (T, P, L); NaN if lr is 0 or the run has diverged."""
    n_runs, defaults = env.batch_size[0], env.defaults
    seeds = [stream_seed("policy-behaviour", index) for index in range(n_runs)]
    weight_decay = torch.full((n_runs,), defaults.weight_decay, dtype=torch.float64)
    run = env.engine.run_info(torch.full_like(weight_decay, defaults.base_lr), weight_decay)
    population = env.engine.population(seeds, weight_decay, policy.controller.needs)
    state, signals = policy.controller.init(run), population.observe()
    rows = []
    while population.n_updates < run.total_updates:
        controls, state = policy.control(state, run, signals)
        signals = population.advance(controls, len(controls.lr))
        rows.append(torch.where(signals.diverged[:, None], torch.nan, controls.lr))
    log_lr = (torch.cat(rows) / defaults.base_lr).log().cpu()
    return torch.where(log_lr.isfinite(), log_lr, torch.nan)


def _resampled(places: np.ndarray, values: Tensor, n: int) -> np.ndarray | None:
    """Return values at n evenly spaced places in [0, 1], without those that are NaN; None if all are NaN."""
    known = values.isfinite().numpy()
    if not known.any():
        return None
    resampled: np.ndarray = np.interp(np.linspace(0.0, 1.0, n), places[known], values.numpy()[known])
    return resampled


def _mean(parts: Sequence[np.ndarray | None], n: int) -> tuple[float, ...]:
    known = [part for part in parts if part is not None]
    mean = np.mean(known, axis=0) if known else np.zeros(n)
    return tuple(round(float(value), 6) for value in mean)
