"""Demonstrations: the actor imitates tuned schedules before reinforcement learning begins.

The demonstrations are the learning rates of report runs in a run directory. They give a curve for each optimizer and
number of layers: at each progress, ln(learning rate) is a straight line in ln(layers), fitted by least squares. The
demonstrator moves every layer towards that curve from any base learning rate. The actor learns to predict its actions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional as F

from ganno_bench.core.config import Config, Positive
from ganno_bench.core.errors import ConfigError
from ganno_bench.core.records import read_records
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.policies.actions import REFERENCES, ActionSpec
from ganno_bench.policies.actor import Actor
from ganno_bench.workloads.suite import load_suite

__all__ = ["Curve", "DemonstrationSpec", "demonstrate", "imitate", "load_curves"]

_POINTS = 33
_TINY = 1e-10


class DemonstrationSpec(Config):
    """Settings of the imitation, `[demonstrations]` in a training configuration."""

    records: str
    """A run directory, relative to the training configuration."""
    scheduler: str = "warmup-cosine"
    """The entry whose report runs are imitated."""
    episodes: Positive = 1
    """Episodes of each training task."""
    epochs: Positive = 20
    """Passes over the episodes."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Adam's learning rate."""
    exploration: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of random actions. After them the demonstrator shows how to return to the curve."""


@dataclass(frozen=True)
class Curve:
    """The demonstrated learning rate with one optimizer: ln(learning rate) = level + slope * ln(layers).

    Attributes:
        level: Values at evenly spaced progress from 0 to 1, float64, shape (33,).
        slope: Values at the same progress; 0 if all demonstrations have the same number of layers.
    """

    level: Tensor
    slope: Tensor

    def at(self, progress: float, n_layers: int) -> Tensor:
        """Return ln(learning rate) at a progress in [0, 1]."""
        index = round(progress * (len(self.level) - 1))
        return self.level[index] + self.slope[index] * math.log(n_layers)


def load_curves(spec: DemonstrationSpec, source: Path) -> dict[str, Curve]:
    """Return optimizer -> demonstrated curve.

    Args:
        spec: The settings, which name the records.
        source: The training configuration with these settings, for messages and relative paths.

    Raises:
        ConfigError: There are no report runs of the scheduler, the scheduler replaces the optimizer, or the records
            belong to another suite than the `suite.toml` next to them.
        RecordError: The records cannot be read.
    """
    folder = source.parent / spec.records
    records = [
        record
        for record in read_records([folder])
        if record.role == "report" and record.scheduler == spec.scheduler and record.status == "completed"
    ]
    if not records:
        raise ConfigError(f"{source}: key 'demonstrations': {folder} has no report runs of {spec.scheduler!r}")
    if any(record.open_optimizer for record in records):
        raise ConfigError(
            f"{source}: key 'demonstrations': {spec.scheduler!r} replaces the optimizer, so it shows no learning rates"
        )
    suite = load_suite(str(folder / "suite.toml"))
    if others := {record.suite_hash for record in records} - {suite.hash}:
        raise ConfigError(
            f"{folder / 'suite.toml'}: has hash {suite.hash}, but the records next to it belong to "
            f"{' and '.join(others)}; restore the suite of the records"
        )
    shown: dict[str, list[tuple[float, Tensor]]] = {}
    points = torch.linspace(0.0, 1.0, _POINTS, dtype=torch.float64)
    for record in records:
        workload = suite.find_workload(record.workload)
        rates = torch.tensor(record.lr_trace.lr, dtype=torch.float64).clamp(min=_TINY).log()
        at = torch.tensor(record.lr_trace.updates, dtype=torch.float64) / max(1, workload.n_updates - 1)
        nearest = (points[:, None] - at).abs().argmin(1)
        of_optimizer = shown.setdefault(workload.optimizer.name, [])
        of_optimizer.append((math.log(rates.shape[1]), rates.mean(1)[nearest]))
    return {optimizer: _line(several) for optimizer, several in shown.items()}


def _line(shown: Sequence[tuple[float, Tensor]]) -> Curve:
    layers = torch.tensor([depth for depth, _ in shown], dtype=torch.float64)
    rates = torch.stack([rate for _, rate in shown])
    centred = layers - layers.mean()
    spread = (centred**2).sum()
    slope = (centred[:, None] * rates).sum(0) / spread if spread > 1e-9 else torch.zeros_like(rates[0])
    return Curve(rates.mean(0) - slope * layers.mean(), slope)


def demonstrate(action: ActionSpec, curve: Curve, base_lr: Tensor, log_factor: Tensor, progress: float) -> Tensor:
    """Return the actions that bring each layer's learning rate as near to the curve as one decision can, shape (P, L).

    Args:
        action: The choices of an agent.
        curve: The demonstrated curve.
        base_lr: Base learning rate of each run, shape (P,).
        log_factor: ln of the layers' present factors, shape (P, L).
        progress: The progress, in [0, 1], whose point of the curve is the aim.
    """
    target = curve.at(progress, log_factor.shape[1]) - base_lr.log()[:, None]
    wanted = target - torch.tensor(REFERENCES[action.reference](progress), dtype=torch.float64).clamp(min=_TINY).log()
    if action.max_step is not None:
        return ((wanted - log_factor) / action.max_step).clamp(-1.0, 1.0)
    n_decays = len(action.decay_multipliers or (1.0,))
    choices = torch.arange(len(action.multipliers)) * n_decays + int(action.neutral) % n_decays
    after = torch.stack([action.moved(log_factor, choice.expand(log_factor.shape)) for choice in choices])
    return choices[(after - wanted).abs().argmin(0)]


def imitate(
    actor: Actor, envs: Sequence[LayerwiseLREnv], curves: Mapping[str, Curve], spec: DemonstrationSpec, seed: int
) -> float:
    """Train the actor to predict the demonstrator's actions; return how often it does in the last epoch, in [0, 1].

    A continuous action counts if it differs by less than 0.1 from the demonstrator's.

    Args:
        actor: The actor; changed in place.
        envs: The training tasks. Tasks whose optimizer has no demonstrations are left out.
        curves: The result of `load_curves`.
        spec: The settings.
        seed: Determines the random actions and the order of the examples.

    Raises:
        ConfigError: No task has a demonstrated optimizer.
    """
    shown: list[tuple[Tensor, Tensor]] = []
    torch.manual_seed(seed)
    for env in envs:
        curve = curves.get(env.engine.workload.spec.optimizer.name)
        for _ in range(spec.episodes if curve is not None else 0):
            assert curve is not None
            shown.append(_episode(env, curve, spec.exploration))
    if not shown:
        raise ConfigError(
            f"key 'demonstrations': no training task has one of the demonstrated optimizers {sorted(curves)}; "
            "change key 'optimizer' of a family, or remove the demonstrations"
        )
    optimizer = torch.optim.Adam(actor.parameters(), lr=spec.lr)
    action = envs[0].controller.action
    for epoch in range(spec.epochs):
        agreed, count = 0.0, 0
        for index in torch.randperm(len(shown)).tolist():
            seen, wanted = shown[index]
            # Whole episodes, shape (P, T, A, F), a few runs at a time.
            for rows in torch.split(torch.randperm(len(seen)), 8):
                outputs = actor(seen[rows])
                if action.continuous:
                    done, target = torch.tanh(outputs[..., 0]), wanted[rows].float()
                    loss = F.mse_loss(done, target)
                    agreed += float(((done - target).abs() < 0.1).float().sum())
                else:
                    logits, target = action.logits(outputs), wanted[rows]
                    loss = F.cross_entropy(logits.flatten(0, -2), target.flatten())
                    agreed += float((logits.argmax(-1) == target).float().sum())
                count += target.numel()
                optimizer.zero_grad()
                torch.autograd.backward(loss)
                optimizer.step()
        if epoch == spec.epochs - 1:
            return agreed / count
    raise AssertionError("there is at least one epoch")


def _episode(env: LayerwiseLREnv, curve: Curve, exploration: float) -> tuple[Tensor, Tensor]:
    """Return the observations of an episode, (P, T, A, F), and the demonstrator's actions for them, (P, T, A)."""
    td: TensorDictBase = env.reset()
    seen, wanted = [], []
    action = env.controller.action
    for _ in range(env.n_decisions):
        middle = (env.n_updates + env.interval / 2) / env.engine.workload.spec.n_updates
        best = demonstrate(action, curve, env.base_lr, env.log_factor, min(middle, 1.0))
        best = best[:, : env.n_agents]
        seen.append(td["agents", "observation"])
        wanted.append(best)
        wild = torch.rand(best.shape) < exploration
        at_random = torch.rand(best.shape) * 2 - 1 if action.continuous else torch.randint(action.n_choices, best.shape)
        taken = torch.where(wild, at_random.to(best.dtype), best)
        td["agents", "action"] = taken.float().unsqueeze(-1) if action.continuous else taken
        td = env.step(td)["next"]
    return torch.stack(seen, 1), torch.stack(wanted, 1)
