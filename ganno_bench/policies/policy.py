"""A trained policy: a folder with `policy.safetensors` and `card.toml`. Nothing in it is code, nothing is unpickled."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ganno_bench.core.config import Config, Name, Positive, parse_config, read_toml
from ganno_bench.core.errors import ConfigError, UnknownNameError
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import Actor, ActorSpec
from ganno_bench.policies.controller import Controller

__all__ = ["Policy", "PolicyCard", "PolicySpec", "TrainingCard", "load_policy"]

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
    test_looks: Annotated[int, Field(ge=0)] = 0
    """How often test data was looked at before the policy was released."""
    evaluation: dict[str, float] = Field(default_factory=dict)
    """What the validation tasks gave: name -> number."""


class PolicySpec(Config):
    """What a policy is, but for its weights."""

    name: Name
    description: str = ""
    interval: Positive = 10
    """Updates per decision; while it is trained the tasks say."""
    observation: Annotated[tuple[str, ...], Field(min_length=1)]
    """Features, in order."""
    action: ActionSpec = ActionSpec()
    actor: ActorSpec = ActorSpec()


class PolicyCard(PolicySpec):
    """All that is needed to use a policy, and where it comes from."""

    format: Literal[1] = 1
    training: TrainingCard = TrainingCard()


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
        self.controller = Controller(card.observation, card.action)
        self.actor = actor if actor is not None else Actor(card.actor, len(card.observation), card.action.n_outputs)
        self._exact: Actor | None = None

    @torch.no_grad()
    def decide(self, observation: Tensor) -> Tensor:
        """Return the actions, shape (P, agents), for what the agents see, shape (P, agents, features).

        Computed in float64, so that what one run's agents decide does not depend on how many other runs there are.
        """
        if self._exact is None or self._exact.head.weight.device != observation.device:
            self._exact = copy.deepcopy(self.actor).to(observation.device, torch.float64)
        outputs: Tensor = self._exact(observation.to(torch.float64))
        if self.card.action.continuous:
            return torch.tanh(outputs[..., 0])
        return outputs.argmax(-1)

    @property
    def hash(self) -> str:
        """Hash of card and weights, but for how it was trained; 16 hexadecimal digits."""
        card = self.card.model_dump_json(exclude={"training", "description"})
        return hashlib.sha256(card.encode() + b"\0" + self._weights()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write the policy; an existing one is replaced."""
        # None has no place in TOML, and is what a key that is missing means.
        card = tomli_w.dumps(_without_none(self.card.model_dump(mode="json")))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(self._weights())
        (folder / CARD).write_text(card, "utf-8")

    def _weights(self) -> bytes:
        weights = {name: value.detach().float().cpu().contiguous() for name, value in self.actor.state_dict().items()}
        return save(weights)


def load_policy(folder: Path) -> Policy:
    """Read a policy.

    Raises:
        ConfigError: A file is missing or corrupt, or the weights do not fit the card; the message names the file.
        UnknownNameError: The card names an observation that this version does not have.
    """
    if not folder.is_dir():
        raise ConfigError(f"policy folder {str(folder)!r} does not exist")
    card = parse_config(PolicyCard, read_toml(folder / CARD), str(folder / CARD))
    try:
        with torch.random.fork_rng(devices=[]):  # an actor is initialised before it is filled
            policy = Policy(card)
    except UnknownNameError as error:
        raise UnknownNameError(f"{folder / CARD}: key 'observation': {error}") from None
    file = folder / WEIGHTS
    try:
        weights = load(file.read_bytes())
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
    policy.actor.load_state_dict(weights)
    return policy


def _without_none(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if value is not None
    }
