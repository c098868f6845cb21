"""A trained policy: a folder with `policy.safetensors` and `card.toml`. Nothing in it is code, nothing is unpickled."""

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
    """The training configuration, whole."""
    env_steps: Annotated[int, Field(ge=0)] = 0
    """Decisions of one run, all of its layers."""
    seconds: Annotated[float, Field(ge=0)] = 0.0
    """Wall time."""
    seed: int = 0
    datasets: dict[str, str] = Field(default_factory=dict)
    """Dataset -> fingerprint; a workload on one of these is not wholly unseen."""
    max_layers: Annotated[int, Field(ge=0)] = 0
    """Layers of the deepest network that it was trained on."""
    versions: dict[str, str] = Field(default_factory=dict)
    plugins: dict[str, str] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Whose code was used, where that is not built in: `observation NAME`, ... -> package, version and code."""
    test_looks: Annotated[int, Field(ge=0)] = 0
    """How often test data was looked at before the policy was released."""
    evaluation: dict[str, float] = Field(default_factory=dict)
    """What the validation tasks gave: name -> number."""


class BehaviourCard(Config):
    """What a policy does on the average, at the default base learning rate: what can be replayed without it.

    Between the points both are straight lines.
    """

    curve: Annotated[tuple[float, ...], Field(min_length=33, max_length=33)]
    """ln(lr / base learning rate), mean over layers, runs and tasks, at evenly spaced shares of the horizon, 0 to 1."""
    profile: Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]
    """ln(lr) of a layer minus its mean over layers, mean over time, at evenly spaced places from input to output."""

    def log_factor(self, progress: float) -> float:
        """Return the curve's value at a share of the horizon, in [0, 1]."""
        return float(np.interp(progress, np.linspace(0.0, 1.0, len(self.curve)), self.curve))

    @property
    def mean_log_factor(self) -> float:
        """The curve's mean over time."""
        inner, ends = sum(self.curve[1:-1]), self.curve[0] + self.curve[-1]
        return (inner + ends / 2) / (len(self.curve) - 1)

    def log_profile(self, n_layers: int) -> tuple[float, ...]:
        """Return the profile of a network with so many layers; a single layer has nothing to depart from: 0."""
        if n_layers == 1:
            return (0.0,)
        places = np.linspace(0.0, 1.0, n_layers)
        return tuple(np.interp(places, np.linspace(0.0, 1.0, len(self.profile)), self.profile).tolist())


class PolicySpec(Config):
    """What a policy is, but for its weights.

    A field that is added takes `exclude_if` for its default: what is written of a card is hashed, so the cards that
    lack it must go on reading the same.
    """

    name: Name
    description: str = ""
    interval: Positive = 10
    """Updates per decision; while it is trained the tasks say."""
    observation: Annotated[tuple[str, ...], Field(min_length=1)]
    """Features, in order."""
    action: ActionSpec = ActionSpec()
    actor: ActorSpec = ActorSpec()
    layerwise_observation: bool = True
    """False: but for their places, all agents see the mean over the layers."""

    def decided_updates(self, n_updates: int, total_updates: int) -> int:
        """Return how many updates a decision is for, after `n_updates` of `total_updates`: at least one."""
        return max(1, min(self.interval, total_updates - n_updates))

    def controller(self) -> Controller:
        """Return the part of the policy that is not learned.

        Raises:
            UnknownNameError: An observation is unknown.
        """
        return Controller(
            self.observation, self.action, layerwise=self.layerwise_observation, n_hidden=self.actor.memory
        )


class PolicyCard(PolicySpec):
    """All that is needed to use a policy, and where it comes from."""

    format: Literal[1] = 1
    behaviour: BehaviourCard | None = None
    training: TrainingCard = TrainingCard()

    @classmethod
    def upgraded(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Return a card as it is; one that a later version wrote is refused."""
        check_version(data.get("format", 1), 1)
        return data


class Policy:
    """A policy that decides greedily: the most probable multiplier, or the centre of a continuous action.

    Its weights are those at its first decision.

    Attributes:
        card: What it is.
        controller: From signals to observations and from actions to learning rates.
        actor: The network.
    """

    def __init__(self, card: PolicyCard, actor: Actor | None = None) -> None:
        """Make a policy, with an actor or with a new, untrained one.

        Raises:
            UnknownNameError: An observation is unknown.
        """
        self.card = card
        self.controller = card.controller()
        self.actor = actor if actor is not None else Actor(card.actor, len(card.observation), card.action.n_outputs)
        self._exact: Actor | None = None

    @torch.no_grad()
    def decide(self, observation: Tensor) -> Tensor:
        """Return the actions, shape (P, agents), for what the agents see, shape (P, agents, features).

        Computed in float64, so that what one run's agents decide does not depend on how many other runs there are.
        """
        memory = observation.new_zeros(*observation.shape[:-1], self.card.actor.memory, dtype=torch.float64)
        return self.recall(observation, memory)[0]

    @torch.no_grad()
    def recall(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actions and what a recurrent actor remembers next; see `decide`.

        Args:
            observation: Shape (P, agents, features).
            memory: Shape (P, agents, units), float64.
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
        """Let every agent see and act; return the controls of the next interval and the next state.

        Args:
            state: What `controller.init` or the last call returned.
            run: The runs.
            signals: What they look like now.
            max_lr: See `Controller.act`.
        """
        seen, state = self.controller.observe(state, run, signals)
        action, hidden = self.recall(seen, state.hidden)
        state = replace(state, hidden=hidden)
        return self.act(state, run, signals, action, max_lr)

    def act(
        self, state: ControlState, run: RunInfo, signals: Signals, action: Tensor, max_lr: float = math.inf
    ) -> tuple[Controls, ControlState]:
        """Return the controls of the next interval under given actions, shape (P, agents), and the next state."""
        n_updates = self.card.decided_updates(signals.n_updates, signals.total_updates)
        return self.controller.act(state, run, action, signals.n_updates, n_updates, max_lr)

    @property
    def hash(self) -> str:
        """Hash of card and weights, but for how it was trained and what it was seen to do; 16 hexadecimal digits."""
        card = self.card.model_dump_json(exclude={"training", "description", "behaviour"})
        return hashlib.sha256(card.encode() + b"\0" + self._weights()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the policy; an existing one is replaced.

        Raises:
            StorageError: It cannot be written.
        """
        write_policy(folder, self.files())

    def files(self) -> dict[str, bytes]:
        """Return the files that the policy is saved as: name -> content."""
        # None has no place in TOML, and is what a key that is missing means.
        card, weights = _without_none(self.card.model_dump(mode="json")), self._weights()
        return {WEIGHTS: weights, CARD: tomli_w.dumps({"checksum": _checksum(card, weights), **card}).encode()}

    def _weights(self) -> bytes:
        weights = {name: value.detach().float().cpu().contiguous() for name, value in self.actor.state_dict().items()}
        return save(weights)


def write_policy(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a policy, as `Policy.files` returns them; existing ones are replaced.

    Raises:
        StorageError: They cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        replace_file(folder / name, content)


def load_policy(folder: Path) -> Policy:
    """Read a policy.

    Raises:
        ConfigError: A file is missing or corrupt, the weights do not fit the card, or one of the two was changed after
            they were written; the message names the file.
        UnknownNameError: The card names an observation that is not installed; the message has the package that it was
            of when the policy was trained.
        PluginError: An observation's package is broken.
    """
    if not folder.is_dir():
        raise ConfigError(f"policy folder {str(folder)!r} does not exist")
    data = read_toml(folder / CARD)
    checksum = data.pop("checksum", None)
    card = parse_config(PolicyCard, data, str(folder / CARD))
    try:
        with torch.random.fork_rng(devices=[]):  # an actor is initialised before it is filled
            policy = Policy(card)
    except (UnknownNameError, PluginError) as error:
        missing = [name for name in card.observation if name not in OBSERVATIONS.entries()]
        origin = card.training.plugins.get(f"observation {missing[0]}", "") if missing else ""
        package = origin.partition(" ")[0]
        hint = f"; it was of {origin}, which brings it: pip install {package}" if package else ""
        raise type(error)(f"{folder / CARD}: key 'observation': {error}{hint}") from None
    file = folder / WEIGHTS
    try:
        content = file.read_bytes()
        weights = load(content)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
    except SafetensorError as error:
        raise ConfigError(f"{file}: is no safetensors file: {error}") from None
    expected = {name: tuple(value.shape) for name, value in policy.actor.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise ConfigError(
                f"{file}: {name!r} has shape {found.get(name)}, but {CARD} describes an actor with {expected.get(name)}"
            )
    if not all(value.dtype == torch.float32 and bool(value.isfinite().all()) for value in weights.values()):
        raise ConfigError(f"{file}: has weights that are not finite numbers in float32")
    if checksum is not None and checksum != (found_checksum := _checksum(data, content)):
        raise ConfigError(
            f"{folder / CARD}: key 'checksum' is {checksum!r}, but card and {WEIGHTS} have {found_checksum!r}: one of "
            "them was changed after it was written; get it back, or, if you meant to change it, remove the key"
        )
    policy.actor.load_state_dict(weights)
    return policy


def _checksum(card: Mapping[str, Any], weights: bytes) -> str:
    """Return a checksum of what a card says, its own checksum left out, and of a file of weights."""
    return content_hash({"card": card, "weights": hashlib.sha256(weights).hexdigest()})


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if value is not None
    }
