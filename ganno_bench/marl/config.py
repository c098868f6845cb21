"""What a training run is: a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from ganno_bench.core.config import Config, Positive, parse_config, read_toml
from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError
from ganno_bench.core.registry import Origin, origins
from ganno_bench.marl.demonstrations import DemonstrationSpec
from ganno_bench.marl.env import DEFAULT_OBSERVATION
from ganno_bench.marl.rewards import REWARDS, load_reward
from ganno_bench.marl.tasks import TaskDistribution
from ganno_bench.policies.observations import OBSERVATIONS, load_features
from ganno_bench.policies.policy import PolicySpec
from ganno_bench.workloads.datasets import EMBEDDED
from ganno_bench.workloads.models import MODELS

__all__ = ["LearnerConfig", "TrainConfig", "load_train_config"]


class LearnerConfig(Config):
    """MAPPO's settings."""

    env_steps: Positive = 50_000
    """Decisions of one run, all of its layers, in the whole training."""
    tasks_per_batch: Positive = 6
    """Workloads in one batch; each gives a whole episode."""
    n_runs: Positive = 16
    """Training runs of each."""
    epochs: Positive = 4
    """Times that a batch is used."""
    minibatches: Positive = 4
    """Gradient steps per epoch."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Adam's learning rate; it falls linearly to a tenth."""
    clip: Annotated[float, Field(gt=0)] = 0.2
    entropy: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the entropy bonus; it falls linearly to a tenth."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    gae_lambda: Annotated[float, Field(gt=0, le=1)] = 0.95
    critic: Literal["centralised", "independent"] = "centralised"
    """MAPPO's critic, which pools over the layers, or IPPO's."""
    critic_width: Positive = 64
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    evaluate_every: Positive = 5
    """Batches between evaluations on the validation tasks."""


class TrainConfig(PolicySpec):
    """A policy and how it is trained."""

    seed: Annotated[int, Field(ge=0)] = 0
    observation: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_OBSERVATION
    reward: dict[str, float] = Field(default_factory=lambda: {"log-validation": 1.0})
    """Rewards and their weights."""
    learner: LearnerConfig = LearnerConfig()
    demonstrations: DemonstrationSpec | None = None
    """Schedules that are imitated first; None: the actor starts from nothing."""
    tasks: TaskDistribution

    def plugins(self) -> dict[str, Origin]:
        """Return whose code the training rests on, where that is not built in: `reward NAME`, ... -> origin."""
        named = [(OBSERVATIONS, name) for name in self.observation] + [(REWARDS, name) for name in self.reward]
        named += [(MODELS, family.model["family"]) for family in self.tasks.family]
        named += [(EMBEDDED, dataset.source) for dataset in self.tasks.dataset.values()]
        return origins(named)


def load_train_config(file: Path) -> TrainConfig:
    """Read and check a training configuration.

    Raises:
        ConfigError: It is not valid; the message names file, key and value.
        UnknownNameError: A feature or a reward is unknown.
        PluginError: One is of a package that is broken.
    """
    config = parse_config(TrainConfig, read_toml(file), str(file))
    try:
        load_features(config.observation)
    except (UnknownNameError, PluginError) as error:
        raise type(error)(f"{file}: key 'observation': {error}") from None
    if not config.reward:
        raise ConfigError(f"{file}: key 'reward': at least one reward is needed")
    for name in config.reward:
        try:
            load_reward(name)
        except (UnknownNameError, PluginError) as error:
            raise type(error)(f"{file}: key 'reward': {error}") from None
    return config
