"""Control entries: zero-shot entries that are derived from a learned policy, which the policy should beat.

    untrained:POLICY         its network with random weights
    random:POLICY            uniformly random actions
    mean-curve:POLICY        its mean curve, replayed
    profile:POLICY           its profile, replayed
    curve-profile:POLICY     the product of both; the policy's advantage over it is the value of reacting
    without:FEATURE:POLICY   the policy with one observation masked: 0 at every decision

POLICY is a folder or the name of a shipped policy. FEATURE ends at the first colon, so a folder's name may have colons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ganno_bench.core.config import content_hash
from ganno_bench.core.errors import ConfigError, UnknownNameError, did_you_mean
from ganno_bench.core.seeding import stream_seed
from ganno_bench.policies.controller import ControlState
from ganno_bench.policies.policy import CARD, BehaviourCard, Policy, PolicyCard, load_policy
from ganno_bench.schedulers.base import ClosedForm, Scheduler, State
from ganno_bench.schedulers.policy import PolicyScheduler, attributes_of, find_policy, make_class
from ganno_bench.training.signals import Controls, RunInfo, Signals

__all__ = ["CONTROLS", "MaskedPolicy", "RandomActions", "Replay", "control_scheduler"]


@dataclass(frozen=True)
class RandomActions(PolicyScheduler):
    """Base of the classes that draw a policy's actions at random, all equally probable, at each decision.

    Each run has its own stream of random numbers, so its actions do not depend on the other runs. A scheduler does not
    know the seed of a run. So the stream is seeded by the norms of the initial parameters, which the seed determines,
    rounded to five digits, which are equal on all devices. Two runs with the same norms would share their actions.
    """

    revision: ClassVar[int | None] = 1
    needs: ClassVar[frozenset[str]] = frozenset({"param_norm"})

    def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
        """Let each agent take a random action."""
        run, policy = RunInfo(**state["run"]), self.policy
        streams: list[str] = state.get("streams") or _streams(signals)
        n_agents = policy.controller.n_agents(run.n_layers)
        drawn = [self._action(stream, signals.n_updates, n_agents) for stream in streams]
        action = torch.stack(drawn).to(run.base_lr.device)
        controls, control = policy.act(ControlState.from_state_dict(state), run, signals, action)
        return controls, {"run": state["run"], "streams": streams, **control.state_dict()}

    def _action(self, stream: str, n_updates: int, n_agents: int) -> Tensor:
        """Return the actions of the agents of one run, shape (agents,)."""
        action = self.policy.card.action
        generator = torch.Generator().manual_seed(stream_seed("random-actions", stream, n_updates))
        if action.continuous:
            return 2.0 * torch.rand(n_agents, generator=generator, dtype=torch.float64) - 1.0
        return torch.randint(action.n_choices, (n_agents,), generator=generator)


@dataclass(frozen=True)
class Replay(ClosedForm):
    """Base of the classes that replay the mean behaviour of a policy, whatever happens in the run.

    `lr[l] = base_lr * exp(curve(progress) + profile(relative depth))`. A class without the curve uses its mean instead.
    A class without the profile omits it. A weight decay that the policy controls is not replayed.
    """

    revision: ClassVar[int | None] = 1
    policy: ClassVar[Policy]
    identity: ClassVar[str]
    behaviour: ClassVar[BehaviourCard]
    curved: ClassVar[bool]
    profiled: ClassVar[bool]
    zero_shot: ClassVar[bool] = True

    def init(self, run: RunInfo) -> State:
        """Return the base learning rate times the factor of each layer, shape (P, L)."""
        base: Tensor = super().init(run)
        if not self.profiled:
            return base
        return base * torch.tensor(self.behaviour.log_profile(run.n_layers), dtype=base.dtype, device=base.device).exp()

    def factor(self, update: int, total: int) -> float:
        """Return the curve's value, or its mean."""
        log = self.behaviour.log_factor(update / total) if self.curved else self.behaviour.mean_log_factor
        return math.exp(log)


class MaskedPolicy(Policy):
    """A policy with one observation masked: it is always 0, as if it had not been measured."""

    def __init__(self, policy: Policy, feature: str) -> None:
        """Mask an observation.

        Args:
            policy: The policy; it is not changed.
            feature: Name of the observation.

        Raises:
            UnknownNameError: The policy has no such observation.
        """
        observed = policy.card.observation
        if feature not in observed:
            raise UnknownNameError(
                f"policy {policy.card.name!r} has no observation {feature!r}{did_you_mean(feature, observed)}"
            )
        super().__init__(policy.card, policy.actor)
        self._kept = torch.tensor([name != feature for name in observed])

    def recall(self, observation: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return the actions and the next memory from the masked observations; see `Policy.recall`."""
        return super().recall(torch.where(self._kept.to(observation.device), observation, 0.0), memory)


CONTROLS = ("untrained", "random", "mean-curve", "profile", "curve-profile", "without")
"""Kinds of control entries: the part of a name before the first colon."""

_REPLAYS = {"mean-curve": (True, False), "profile": (False, True), "curve-profile": (True, True)}
"""Kind -> whether it replays the curve, and whether it replays the profile."""


def control_scheduler(ref: str) -> type[Scheduler]:
    """Return the scheduler class of a control, the same class for the same control of the same policy.

    The class has the same name, with the name on the policy's card in place of its folder.

    Args:
        ref: `KIND:POLICY`, where KIND is one of `CONTROLS`, or `without:FEATURE:POLICY`.

    Raises:
        UnknownNameError: The policy does not observe FEATURE; the message has the nearest name.
        ConfigError: The name is malformed, there is no such policy, it is corrupt, or its card has no mean
            behaviour to replay.
    """
    kind, _, policy_ref = ref.partition(":")
    feature = ""
    if kind == "without":
        feature, colon, policy_ref = policy_ref.partition(":")
        if not (feature and colon):
            raise ConfigError(f"scheduler name {ref!r} must have the form without:FEATURE:POLICY")
    folder = find_policy(policy_ref)
    policy = load_policy(folder)
    card = policy.card
    title = f"{kind}:{feature}:{card.name}" if feature else f"{kind}:{card.name}"
    behaviour = None if card.behaviour is None else card.behaviour.model_dump()
    identity = content_hash([title, policy.hash, behaviour])
    if kind == "untrained":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed("untrained-policy"))
            fresh = Policy(card)
        doc = f"The policy {card.name!r} before any training: its most probable actions with fresh weights."
        return make_class(PolicyScheduler, title, doc, identity, __module__=__name__, **attributes_of(fresh))
    if kind == "random":
        doc = f"Random actions of the policy {card.name!r} every {card.interval} updates, uniformly: {_actions(card)}."
        return make_class(RandomActions, title, doc, identity, policy=policy, interval=card.interval)
    if kind == "without":
        doc = f"The policy {card.name!r} without its observation {feature!r}, which is masked."
        masked = MaskedPolicy(policy, feature)
        return make_class(PolicyScheduler, title, doc, identity, __module__=__name__, **attributes_of(masked))
    if card.behaviour is None:
        raise ConfigError(f"{folder / CARD}: key 'behaviour' is missing, which {title!r} replays")
    curved, profiled = _REPLAYS[kind]
    what = {
        "mean-curve": "mean learning rate over time, the same for all layers",
        "profile": "mean learning rate of each layer, the same at all times",
        "curve-profile": "mean learning rate over time times that of each layer",
    }[kind]
    doc = f"The {what}, of the policy {card.name!r}: replayed, whatever the run looks like."
    attributes = {"policy": policy, "behaviour": card.behaviour, "curved": curved, "profiled": profiled}
    return make_class(Replay, title, doc, identity, **attributes)


def _actions(card: PolicyCard) -> str:
    """Return the possible actions of an agent as text."""
    action = card.action
    agent = f"the {action.scope}'s learning rate"
    if action.continuous:
        return f"{agent} times e^-{action.max_step:g} to e^{action.max_step:g}"
    both = f"{agent} times {_numbers(action.multipliers)}"
    return f"{both}, weight decay times {_numbers(decays)}" if (decays := action.decay_multipliers) else both


def _numbers(values: Iterable[float]) -> str:
    return " or ".join(f"{value:g}" for value in values)


def _streams(signals: Signals) -> list[str]:
    """Return the name of the random stream of each run."""
    assert signals.param_norm is not None
    return [" ".join(f"{norm:.4e}" for norm in norms) for norms in signals.param_norm.tolist()]
