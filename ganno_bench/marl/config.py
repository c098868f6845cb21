"""The training configuration of a policy: a TOML file, read by `ganno-bench train`."""

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
    """Settings of MAPPO, `[learner]` in a training configuration."""

    env_steps: Positive = 50_000
    """Environment steps of the whole training: decisions, each for all layers of one run."""
    tasks_per_batch: Positive = 6
    """Training tasks in one batch. Each gives one whole episode."""
    n_runs: Positive = 16
    """Training runs of each task in a batch."""
    epochs: Positive = 4
    """Passes over each batch."""
    minibatches: Positive = 4
    """Gradient steps per pass."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Adam's learning rate. It falls linearly to a tenth."""
    clip: Annotated[float, Field(gt=0)] = 0.2
    """PPO's clip range of the probability ratio."""
    entropy: Annotated[float, Field(ge=0)] = 0.01
    """Weight of the entropy bonus. It falls linearly to a tenth."""
    discount: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Discount of rewards per decision."""
    gae_lambda: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Lambda of generalised advantage estimation."""
    critic: Literal["centralised", "independent"] = "centralised"
    """`centralised`: MAPPO's critic, which pools over the layers. `independent`: IPPO's, which sees one layer."""
    critic_width: Positive = 64
    """Units of the critic's hidden layers."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 0.5
    """Upper limit of the gradient norm. Larger gradients are scaled down."""
    evaluate_every: Positive = 5
    """Number of batches between two evaluations on the validation tasks."""


class TrainConfig(PolicySpec):
    """A training configuration: the definition of a policy, and how it is trained."""

    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the training. It does not change the tasks."""
    observation: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_OBSERVATION
    """Names of the observations that an agent sees, in order."""
    reward: dict[str, float] = Field(default_factory=lambda: {"log-validation": 1.0})
    """Name of a reward -> weight. The weighted rewards are added up."""
    learner: LearnerConfig = LearnerConfig()
    """Settings of MAPPO."""
    demonstrations: DemonstrationSpec | None = None
    """Tuned schedules that the actor imitates first. None: the actor starts untrained."""
    tasks: TaskDistribution
    """The ranges from which training and validation tasks are drawn."""

    def plugins(self) -> dict[str, Origin]:
        """Return the plugins that the training uses: `reward NAME`, ... -> origin of its code."""
        named = [(OBSERVATIONS, name) for name in self.observation] + [(REWARDS, name) for name in self.reward]
        named += [(MODELS, family.model["family"]) for family in self.tasks.family]
        named += [(EMBEDDED, dataset.source) for dataset in self.tasks.dataset.values()]
        return origins(named)


def load_train_config(file: Path) -> TrainConfig:
    """Read and check a training configuration.

    Raises:
        ConfigError: It is not valid; the message names file, key and value.
        UnknownNameError: An observation or a reward is unknown.
        PluginError: The plugin of an observation or reward is broken.
    """
    config = parse_config(TrainConfig, read_toml(file), str(file))
    try:
        load_features(config.observation)
    except (UnknownNameError, PluginError) as error:
        raise type(error)(f"{file}: key 'observation': {error}") from None
    if not config.reward:
        raise ConfigError(f"{file}: key 'reward': must name at least one reward; add log-validation = 1.0")
    for name in config.reward:
        try:
            load_reward(name)
        except (UnknownNameError, PluginError) as error:
            raise type(error)(f"{file}: key 'reward': {error}") from None
    return config
