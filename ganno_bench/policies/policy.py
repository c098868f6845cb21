"""A trained policy: a folder with `policy.safetensors` and `card.toml`. It holds no code, and nothing is unpickled."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tomli_w
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganno_bench.core.config import Config, Name, Positive, content_hash, parse_config, read_toml
from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError
from ganno_bench.core.files import replace_file, writing
from ganno_bench.core.versions import check_version
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import Actor, ActorSpec
from ganno_bench.policies.controller import Controller, ControlState
from ganno_bench.policies.observations import OBSERVATIONS
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["BehaviourCard", "Policy", "PolicyCard", "PolicySpec", "TrainingCard", "load_policy", "write_policy"]

WEIGHTS, CARD = "policy.safetensors", "card.toml"


class TrainingCard(Config):
    """How a policy was trained."""

    config: dict[str, Any] = Field(default_factory=dict)
    """The whole training configuration."""
    env_steps: Annotated[int, Field(ge=0)] = 0
    """Environment steps: decisions, each for all layers of one run."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Wall time of the training, seconds."""
    seed: int = 0
    """Seed of the training."""
    datasets: dict[str, str] = Field(default_factory=dict)
    """Dataset -> fingerprint. A workload on one of these datasets is not wholly unseen."""
    max_layers: Annotated[int, Field(ge=0)] = 0
    """Number of layers of the deepest network in training."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Package -> version."""
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Plugins that the training used: `observation NAME`, ... -> package, version and code."""
    test_looks: Annotated[int, Field(ge=0)] = 0
    """How often test data was evaluated before the policy was released."""
    evaluation: dict[str, float] = Field(default_factory=dict)
    """Results on the validation tasks: name -> number."""


class BehaviourCard(Config):
    """The mean behaviour of a policy at the default base learning rate, which can be replayed without the policy.

    Curve and profile are straight lines between their points.
    """

    curve: Annotated[tuple[float, ...], Field(min_length=33, max_length=33)]
    """Mean curve: ln(lr / base_lr) at evenly spaced progress from 0 to 1; mean over layers, runs and tasks."""
    profile: Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]
    """Profile: ln(lr) of a layer minus the mean over layers, at evenly spaced depths from input to output; mean over
    time."""

    def log_factor(self, progress: float) -> float:
        """Return the curve's value at a progress in [0, 1]."""
        return float(np.interp(progress, np.linspace(0.0, 1.0, len(self.curve)), self.curve))

    @property
    def mean_log_factor(self) -> float:
        """The curve's mean over time."""
        inner, ends = sum(self.curve[1:-1]), self.curve[0] + self.curve[-1]
        return (inner + ends / 2) / (len(self.curve) - 1)

    def log_profile(self, n_layers: int) -> tuple[float, ...]:
        """Return the profile for a network with `n_layers` layers; it is 0 for a single layer."""
        if n_layers == 1:
            return (0.0,)
        places = np.linspace(0.0, 1.0, n_layers)
        return tuple(np.interp(places, np.linspace(0.0, 1.0, len(self.profile)), self.profile).tolist())


class PolicySpec(Config):
    """Everything that defines a policy, except its weights.

    Give a new field an `exclude_if` for its default. The written card is hashed, so cards without the field must keep
    their hash.
    """

    name: Name
    description: str = ""
    interval: Positive = 10
    """Decision interval, in updates. In training the tasks set it instead."""
    observation: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the observations that an agent sees, in order."""
    action: ActionSpec = ActionSpec()
    """What an agent can choose."""
    actor: ActorSpec = ActorSpec()
    """Architecture of the actor."""
    layerwise_observation: bool = True
    """False: every agent sees the mean over the layers, and the relative depth of its own layer."""

    def decided_updates(self, n_updates: int, total_updates: int) -> int:
        """Return how many updates a decision lasts that is made after `n_updates` of `total_updates`: at least one."""
        return max(1, min(self.interval, total_updates - n_updates))

    def controller(self) -> Controller:
        """Return the part of the policy that is not learned: observations and actions.

        Raises:
            UnknownNameError: An observation is unknown.
        """
        return Controller(
            self.observation, self.action, layerwise=self.layerwise_observation, n_hidden=self.actor.memory
        )


class PolicyCard(PolicySpec):
    """A policy's card: everything that is needed to use the policy, and how it was trained."""

    format: Literal[1] = 1
    behaviour: BehaviourCard | None = None
    training: TrainingCard = TrainingCard()

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a card unchanged.

        Raises:
            VersionError: A later version wrote it.
        """
        check_version(data.get("format", 1), 1)
        return data


class Policy:
    """A policy that decides greedily: it takes the most probable multiplier, or the centre of a continuous action.

    The first decision copies the weights. Later changes to `actor` have no effect.

    Attributes:
        card: Its definition.
        controller: Computes observations from signals, and learning rates from actions.
        actor: The network that decides.
    """

    def __init__(self, card: PolicyCard, actor: Actor | None = None) -> None:
        """Make a policy with the given actor, or with a new, untrained one.

        Raises:
            UnknownNameError: An observation is unknown.
        """
        self.card = card
        self.controller = card.controller()
        self.actor = actor if actor is not None else Actor(card.actor, len(card.observation), card.action.n_outputs)
        self._exact: Actor | None = None

    @torch.no_grad()
    def decide(self, observation: Tensor) -> Tensor:
        """Return the actions, shape (P, agents), for observations, shape (P, agents, features).

        They are computed in float64, so that the decisions of one run do not depend on the number of other runs.
        """
        memory = observation.new_zeros(*observation.shape[:-1], self.card.actor.memory, dtype=torch.float64)
        return self.recall(observation, memory)[0]

    @torch.no_grad()
    def recall(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actions, as `decide` does, and the next memory of a recurrent actor.

        Args:
            observation: Shape (P, agents, features).
            memory: The present memory, shape (P, agents, units), float64.
        """
        if self._exact is None or self._exact.head.weight.device != observation.device:
            self._exact = copy.deepcopy(self.actor).to(observation.device, torch.float64)
        outputs, memory = self._exact.step(observation.to(torch.float64), memory)
        if self.card.action.continuous:
            return torch.tanh(outputs[..., 0]), memory
        return self.card.action.logits(outputs).argmax(-1), memory

    def control(
        self, state: ControlState, run: RunInfo, signals: Signals, max_lr: float = math.inf
    ) -> tuple[Controls, ControlState]:
        """Let every agent observe and act; return the controls of the next decision interval and the next state.

        Args:
            state: The state that `controller.init` or the last call returned.
            run: The runs.
            signals: Their present signals.
            max_lr: The highest learning rate; see `Controller.act`.
        """
        seen, state = self.controller.observe(state, run, signals)
        action, hidden = self.recall(seen, state.hidden)
        state = replace(state, hidden=hidden)
        return self.act(state, run, signals, action, max_lr)

    def act(
        self, state: ControlState, run: RunInfo, signals: Signals, action: Tensor, max_lr: float = math.inf
    ) -> tuple[Controls, ControlState]:
        """Return the controls of the next decision interval for actions, shape (P, agents), and the next state."""
        n_updates = self.card.decided_updates(signals.n_updates, signals.total_updates)
        return self.controller.act(state, run, action, signals.n_updates, n_updates, max_lr)

    @property
    def hash(self) -> str:
        """Hash of card and weights, 16 hexadecimal digits; without `training`, `description` and `behaviour`."""
        card = self.card.model_dump_json(exclude={"training", "description", "behaviour"})
        return hashlib.sha256(card.encode() + b"\0" + self._weights()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the policy to a folder; replace an existing one.

        Raises:
            StorageError: It cannot be written.
        """
        write_policy(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """Return the policy's files: name -> content."""
        # TOML has no None; a missing key means None.
        card, weights = _without_none(self.card.model_dump(mode="json")), self._weights()
        return {WEIGHTS: weights, CARD: tomli_w.dumps({"checksum": _checksum(card, weights), **card}).encode()}

    def _weights(self) -> bytes:
        weights = {name: value.detach().float().cpu().contiguous() for name, value in self.actor.state_dict().items()}
        return save(weights)


def write_policy(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a policy, as `Policy.files` returns them; replace existing ones.

    Raises:
        StorageError: They cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)


def load_policy(folder: Path) -> Policy:
    """Read a policy from its folder.

    Raises:
        ConfigError: A file is missing or corrupt, the weights do not fit the card, or card or weights were changed
            after they were written. The message names the file.
        UnknownNameError: The card names an observation that is not installed. The message names the package that
            provided it in training.
        PluginError: The package of an observation is broken.
    """
    if not folder.is_dir():
        raise ConfigError(f"policy folder {str(folder)!r} does not exist; give a folder with {CARD} and {WEIGHTS}")
    data = read_toml(folder / CARD)
    checksum = data.pop("checksum", None)
    card = parse_config(PolicyCard, data, str(folder / CARD))
    try:
        with torch.random.fork_rng(devices=[]):  # initialising the actor draws random numbers
            policy = Policy(card)
    except (UnknownNameError, PluginError) as error:
        missing = [name for name in card.observation if name not in OBSERVATIONS.entries()]
        origin = card.training.plugins.get(f"observation {missing[0]}", "") if missing else ""
        package = origin.partition(" ")[0]
        hint = f"; in training it came from {origin}; pip install {package}" if package else ""
        raise type(error)(f"{folder / CARD}: key 'observation': {error}{hint}") from None
    file = folder / WEIGHTS
    try:
        content = file.read_bytes()
        weights = load(content)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise ConfigError(f"{file}: is not a valid safetensors file: {error}") from None
    expected = {name: tuple(value.shape) for name, value in policy.actor.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{file}: {name!r} has shape {found.get(name)}, but {CARD} describes an actor with {expected.get(name)}"
            )
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in weights.values()):
        raise ConfigError(f"{file}: has weights that are not finite float32 numbers; restore the file")
    if checksum is not None and checksum != (found_checksum := _checksum(data, content)):
        raise ConfigError(
            f"{folder / CARD}: key 'checksum': is {checksum!r}, but card and {WEIGHTS} have {found_checksum!r}: one of "
            "them was changed after it was written; restore it, or remove the key if you meant to change it"
        )
    policy.actor.load_state_dict(weights)
    return policy


def _checksum(card: Mapping[str, Any], weights: bytes) -> str:
    """Return a checksum of the values of a card, without its own checksum, and of a file of weights."""
    return content_hash({"card": card, "weights": hashlib.sha256(weights).hexdigest()})


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if value is not None
    }
