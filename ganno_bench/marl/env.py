"""A TorchRL environment in which each layer of a network in training is an agent.

The batch dimension is a population of training runs. The benchmark's engine trains them and measures the same signals
as in a benchmark run. One step is one decision of all agents, which lasts `interval` updates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

from ganno_bench.core.seeding import stream_seed
from ganno_bench.marl.guards import check_seen, rewarded
from ganno_bench.marl.rewards import CEILING, Reward, Transition, load_rewards
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.controller import Controller
from ganno_bench.policies.observations import LIMIT, OBSERVATIONS, View
from ganno_bench.training.optimizers import OPTIMIZERS
from ganno_bench.training.population import Engine, Population
from ganno_bench.training.signals import SAMPLED, Controls
from ganno_bench.workloads.workload import load_workload

__all__ = ["DEFAULT_OBSERVATION", "LayerwiseLREnv", "make_env"]

DEFAULT_OBSERVATION = (
    "log-lr-to-default",
    "log-factor",
    "log-grad-norm",
    "log-param-norm",
    "log-update-ratio",
    "log-grad-ratio",
    "grad-cosine",
    "grad-snr",
    "relative-depth",
    "log-layers",
    "progress",
    "log-horizon",
    "adaptive-optimizer",
    "log-train-loss",
    "loss-to-first",
    "loss-change",
    "loss-to-best",
)
"""The default observations: all except the absolute learning rate, the factor of the weight decay, and those that need
a validation loss at each decision."""


class LayerwiseLREnv(EnvBase):  # type: ignore[misc]
    """An environment of P training runs of one workload, in which agents set the learning rates of layers.

    Keys of its tensor dictionaries. A is the number of agents (L layers, or 1 for a controller of the whole network), F
    the number of features:

    - `("agents", "observation")`, float32, shape (P, A, F)
    - `("agents", "action")`, int64, shape (P, A): the index of a choice; or float32, shape (P, A, 1), in [-1, 1], if
      actions are continuous
    - `reward`, float32, shape (P, 1); `("agents", "reward")`, shape (P, A, 1), if a reward is per agent
    - `done`, `terminated`, `truncated`, bool, shape (P, 1): all runs end together, at the horizon
    - `diverged`, bool, shape (P, 1): a diverged run stays until the end, observes 0 and gets no reward
    - `loss`, float32, shape (P, 1): the validation loss from which rewards are computed, nats
    - `("agents", "memory")`, float32, shape (P, A, units): the memory of a recurrent actor, 0 at first, which the actor
      writes to `("next", "agents", "memory")`; only if `n_hidden` is given

    Each reset begins a new episode with new seeds, base learning rates and weight decays. They depend only on the seed
    of the environment and the number of the episode. Nothing else is random.

    Attributes:
        engine: Trains the runs of the workload.
        controller: Computes observations and applies actions.
        n_decisions: The number of environment steps in an episode.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        n_runs: int = 16,
        interval: int = 10,
        observation: Sequence[str] = DEFAULT_OBSERVATION,
        action: ActionSpec | None = None,
        layerwise_observation: bool = True,
        n_hidden: int = 0,
        reward: Mapping[str, float] | None = None,
        base_lr: tuple[float, float] = (0.01, 100.0),
        weight_decay: tuple[float, float] | None = None,
        validation_size: int = 256,
        seed: int = 0,
    ) -> None:
        """Make an environment.

        Args:
            engine: The engine of the workload.
            n_runs: P, the number of runs, which is the batch size.
            interval: The decision interval, in updates.
            observation: Names of observations, or `./file.py:name`.
            action: The choices of an agent; by default the paper's multipliers.
            layerwise_observation: False: every agent sees the mean over the layers, and its own relative depth.
            n_hidden: Units of a recurrent actor's memory, which the environment passes from step to step.
            reward: Name of a reward, or `./file.py:name` -> weight; the weighted rewards are added up. By default
                `log-validation` with weight 1.
            base_lr: Range of the base learning rate, as multiples of the optimizer's default; drawn log-uniformly.
            weight_decay: Range of the weight decay, drawn log-uniformly; by default the optimizer's tuning range.
            validation_size: The number of predictions of the validation split for the reward's loss.
            seed: Determines all episodes.

        Raises:
            UnknownNameError: An observation or a reward is unknown.
            PluginError: The plugin of an observation or reward is broken. `reset` and `step` raise it if the plugin
                raises an exception, or returns a wrong type or shape, a value that is not finite, or a reward beyond
                `guards.LARGEST`.
        """
        self.engine = engine
        self.controller = Controller(
            observation, action or ActionSpec(), layerwise=layerwise_observation, n_hidden=n_hidden, files=True
        )
        named = zip(observation, self.controller.features, strict=True)
        self._observed_by_plugins = [(name, seen) for name, seen in named if OBSERVATIONS.origin(name) is not None]
        self._n_hidden = n_hidden
        self.interval = interval
        self.n_decisions = -(-engine.workload.spec.n_updates // interval)
        self.rewards: list[tuple[str, Reward, float]] = load_rewards(reward or {"log-validation": 1.0})
        self.per_agent = any(kind.per_agent for _, kind, _ in self.rewards)
        self._reruns = any(kind.reruns for _, kind, _ in self.rewards)
        self.needs = self.controller.needs.union({SAMPLED}, *(kind.needs for _, kind, _ in self.rewards))
        self.validation = engine.validation.head(validation_size)
        self._ceiling = CEILING * engine.workload.dataset.chance_loss
        self.defaults = OPTIMIZERS[engine.workload.spec.optimizer.name]
        self._base_lr = (base_lr[0] * self.defaults.base_lr, base_lr[1] * self.defaults.base_lr)
        self._weight_decay = weight_decay or self.defaults.weight_decay_range
        self.episode = 0
        self._seed = seed
        super().__init__(device=engine.device, batch_size=[n_runs])
        self._make_specs()

    @property
    def n_agents(self) -> int:
        """A, the number of agents of a run."""
        return self.controller.n_agents(self.engine.layout.n_layers)

    @property
    def n_updates(self) -> int:
        """The number of updates done in this episode."""
        return self._population.n_updates

    @property
    def seen(self) -> Tensor:
        """The present observations, float64, shape (P, A, F)."""
        return self._seen

    @property
    def base_lr(self) -> Tensor:
        """Base learning rates of this episode's runs, float64, shape (P,)."""
        return self._run.base_lr

    @property
    def log_factor(self) -> Tensor:
        """Natural logarithm of the layers' present factors, float64, shape (P, L)."""
        return self._control.log_factor

    @property
    def lr(self) -> Tensor:
        """Learning rates of the last update, shape (P, L); the base learning rates before the first."""
        return torch.where(self._signals.lr.isnan(), self._run.base_lr[:, None], self._signals.lr)

    @property
    def validation_loss(self) -> Tensor:
        """The present validation loss from which rewards are computed, nats, float64, shape (P,)."""
        return self._val

    def _make_specs(self) -> None:
        runs, agents, device = self.batch_size[0], self.n_agents, self.device
        n_features = len(self.controller.features)
        seen = Bounded(-LIMIT, LIMIT, (runs, agents, n_features), device=device, dtype=torch.float32)
        flag = Categorical(2, (runs, 1), device=device, dtype=torch.bool)
        own = {"observation": seen}
        if self._n_hidden:
            own["memory"] = Unbounded((runs, agents, self._n_hidden), device=device, dtype=torch.float32)
        self.observation_spec = Composite(
            agents=Composite(own, shape=(runs, agents), device=device),
            diverged=flag.clone(),
            loss=Unbounded((runs, 1), device=device, dtype=torch.float32),
            shape=(runs,),
            device=device,
        )
        if self.controller.action.continuous:
            action: Any = Bounded(-1.0, 1.0, (runs, agents, 1), device=device, dtype=torch.float32)
        else:
            action = Categorical(self.controller.action.n_choices, (runs, agents), device=device, dtype=torch.int64)
        self.action_spec = Composite(
            agents=Composite(action=action, shape=(runs, agents), device=device), shape=(runs,), device=device
        )
        if self.per_agent:
            each = Unbounded((runs, agents, 1), device=device, dtype=torch.float32)
            self.reward_spec = Composite(
                agents=Composite(reward=each, shape=(runs, agents), device=device), shape=(runs,), device=device
            )
        else:
            self.reward_spec = Unbounded((runs, 1), device=device, dtype=torch.float32)
        names = ("done", "terminated", "truncated")
        self.done_spec = Composite({name: flag.clone() for name in names}, shape=(runs,), device=device)

    def _set_seed(self, seed: int | None) -> None:
        if seed is not None:
            self._seed, self.episode = seed, 0

    def begin(self, seeds: Sequence[int], base_lr: Tensor, weight_decay: Tensor) -> None:
        """Begin an episode with given runs. `reset` draws the runs instead.

        Args:
            seeds: One seed for each run.
            base_lr: Base learning rates, shape (P,).
            weight_decay: Weight decays, shape (P,).
        """
        self._run = self.engine.run_info(base_lr, weight_decay)
        self._population: Population = self.engine.population(seeds, weight_decay, self.needs)
        self._control = self.controller.init(self._run)
        self._signals = self._population.observe()
        self._val = self._validation_loss()
        self._observe()

    def _reset(self, tensordict: TensorDictBase | None = None, **_: Any) -> TensorDictBase:
        runs = self.batch_size[0]
        path = ("policy-training", self._seed, self.episode)
        self.episode += 1
        generator = torch.Generator().manual_seed(stream_seed(*path, "hyperparameters"))
        drawn = torch.rand(2, runs, generator=generator, dtype=torch.float64)
        self.begin(
            [stream_seed(*path, index) for index in range(runs)],
            _log_uniform(drawn[0], self._base_lr),
            _log_uniform(drawn[1], self._weight_decay),
        )
        result = self._packed(done=False)
        if self._n_hidden:
            result["agents", "memory"] = torch.zeros(runs, self.n_agents, self._n_hidden, device=self.device)
        return result

    def _step(self, tensordict: TensorDictBase) -> TensorDictBase:
        action = tensordict["agents", "action"]
        if self.controller.action.continuous:
            action = action.squeeze(-1)
        transition = self.act(action)
        result = self._packed(done=transition.done)
        if self._n_hidden:
            # A recurrent actor has written its memory before; TorchRL keeps the actor's value.
            result["agents", "memory"] = tensordict.get(("next", "agents", "memory"), tensordict["agents", "memory"])
        done = transition.before.n_updates
        decision = f"decision {done // self.interval + 1} of {self.n_decisions} (after {done} updates)"
        where = f"{self.engine.workload.spec.id!r}, {decision}"
        total_reward = sum(rewarded(name, kind, weight, transition, where) for name, kind, weight in self.rewards)
        assert isinstance(total_reward, Tensor)
        if self.per_agent:
            if self.n_agents == 1:
                total_reward = total_reward.mean(dim=1, keepdim=True)
            shared = total_reward.float().expand(self.batch_size[0], self.n_agents)
            result["agents", "reward"] = shared.unsqueeze(-1).contiguous()
        else:
            result["reward"] = total_reward.float()
        return result

    def act(self, action: Tensor) -> Transition:
        """Make one decision, shape (P, A), and train for a decision interval: `step` without TorchRL."""
        first, total = self._population.n_updates, self.engine.workload.spec.n_updates
        n_updates = min(self.interval, total - first)
        controls, self._control = self.controller.act(self._control, self._run, action, first, n_updates)
        before, val_before = self._signals, self._val
        lr_before = before.lr if first else self._run.base_lr[:, None].expand_as(before.lr)
        val_without = self._counterfactuals(controls, lr_before, n_updates) if self._reruns else None
        self._signals = after = self._population.advance(controls, n_updates)
        self._val = self._validation_loss()
        train_after = self._cut(after.train_loss)
        self._observe()
        return Transition(
            before=before,
            after=after,
            val_before=val_before,
            val_after=self._val,
            train_before=self._cut(before.train_loss) if first else train_after,
            train_after=train_after,
            chance_loss=self.engine.workload.dataset.chance_loss,
            lr_before=lr_before,
            n_updates=n_updates,
            done=self._population.n_updates == total,
            val_without=val_without,
        )

    def _counterfactuals(self, controls: Controls, lr_before: Tensor, n_updates: int) -> Tensor:
        """Return the validation losses after the decision interval if one layer kept its learning rate, (P, L)."""
        start = self._population.state_dict()
        losses = []
        for layer in range(self.engine.layout.n_layers):
            lr = controls.lr.clone()
            lr[..., layer] = lr_before[:, layer]
            self._population.advance(replace(controls, lr=lr), n_updates)
            losses.append(self._validation_loss())
            self._population.load_state_dict(start)
        return torch.stack(losses, dim=1)

    def _observe(self) -> None:
        if self._observed_by_plugins:
            done, control = self._population.n_updates, self._control
            view = View(self._signals, self._run, control.memory, self.lr, control.log_factor, control.log_decay)
            for name, feature in self._observed_by_plugins:
                where = f"{self.engine.workload.spec.id!r} after {done} updates"
                check_seen(name, feature, view, where, finite=done > self.interval)
        self._seen, self._control = self.controller.observe(self._control, self._run, self._signals)

    def _validation_loss(self) -> Tensor:
        return self._cut(self._population.evaluate(self.validation).loss)

    def _cut(self, loss: Tensor) -> Tensor:
        return loss.nan_to_num(self._ceiling, self._ceiling).clamp(1e-6, self._ceiling)

    def _packed(self, *, done: bool) -> TensorDictBase:
        runs = self.batch_size[0]
        ended = torch.full((runs, 1), done, dtype=torch.bool, device=self.device)
        agents = TensorDict({"observation": self._seen.float()}, [runs, self.n_agents], device=self.device)
        return TensorDict(
            {
                "agents": agents,
                "diverged": self._population.diverged[:, None].clone(),
                "loss": self._val[:, None].float(),
                "done": ended,
                "terminated": ended.clone(),
                "truncated": torch.zeros_like(ended),
            },
            self.batch_size,
            device=self.device,
        )


def _log_uniform(uniform: Tensor, bounds: tuple[float, float]) -> Tensor:
    low, high = math.log(bounds[0]), math.log(bounds[1])
    return torch.exp(low + (high - low) * uniform)


def make_env(
    name: str, *, data_dirs: Sequence[Path] = (), device: str = "cpu", backend: str = "auto", **settings: Any
) -> LayerwiseLREnv:
    """Make an environment for a workload of a suite.

        env = make_env("quickstart/digits-mlp-4", n_runs=8, interval=10)
        episode = env.rollout(max_steps=env.n_decisions)

    Args:
        name: `SUITE/WORKLOAD`. The suite is a name, or a path to a TOML file.
        data_dirs: Folders to search for datasets by name.
        device: A PyTorch device.
        backend: `auto`, `compiled`, `eager`, `vmap` or `loop`.
        settings: Arguments of `LayerwiseLREnv`: `n_runs`, `interval`, `observation`, `action`, `reward`, `seed`, ...

    Raises:
        UnknownNameError: There is no such suite, workload, observation or reward.
        DatasetError: The dataset is missing.
        PluginError: The plugin of an observation or reward is broken.
    """
    suite, _, workload_id = name.rpartition("/")
    workload = load_workload(suite, workload_id, data_dirs)
    return LayerwiseLREnv(Engine(workload, device=device, backend=backend), **settings)
