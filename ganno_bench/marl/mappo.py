"""The MAPPO trainer: it collects whole episodes of several tasks at a time, and trains one policy for all their layers.

Tasks of different depth have different numbers of agents. They are neither padded nor masked: each task has its own
environment and its own loss, and a gradient step adds up the losses, weighted by their numbers of decisions. Decisions
after a divergence are left out. An actor with a memory needs whole episodes, so episodes of equal length are batched.

The number of a batch seeds all of its random numbers. So a killed training resumes from its last checkpoint bit by bit.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import Collector
from torchrl.objectives import ValueEstimators
from torchrl.objectives.multiagent import IPPOLoss, MAPPOLoss

from ganno_bench.core.config import content_hash
from ganno_bench.core.errors import ResumeError, one_line
from ganno_bench.core.files import replace_file
from ganno_bench.core.seeding import stream_seed
from ganno_bench.marl.behaviour import measure_behaviour
from ganno_bench.marl.checkpoint import WHAT_TO_DO, load_checkpoint, save_checkpoint
from ganno_bench.marl.config import TrainConfig
from ganno_bench.marl.demonstrations import imitate, load_curves
from ganno_bench.marl.env import LayerwiseLREnv
from ganno_bench.marl.episodes import evaluate_greedily, explained_variance, mean_over_runs, whole_episodes
from ganno_bench.marl.modules import Critic, actor_module, critic_module
from ganno_bench.marl.tasks import Task, draw_tasks, load_task_data
from ganno_bench.marl.value_norm import RunningScale
from ganno_bench.policies.actor import Actor
from ganno_bench.policies.policy import Policy, PolicyCard, PolicySpec, TrainingCard, load_policy, write_policy
from ganno_bench.training.population import Engine

__all__ = ["Batch", "Trainer"]

_VERSIONED = ("ganno-bench", "torch", "torchrl", "tensordict", "numpy")
_VALIDATION_RUNS = 6
_LEARNED = {"entropy": "entropy", "kl": "kl_approx", "clip_fraction": "clip_fraction"}
"""Column of `metrics.csv` -> TorchRL's term, a mean over the decisions of a minibatch."""


@dataclass(frozen=True)
class Batch:
    """Measurements of one batch, a line of `metrics.csv`.

    Entropy, KL divergence and clip fraction are means over all decisions of all epochs.

    Attributes:
        batch: The number of the batch, from 1.
        env_steps: Environment steps so far.
        seconds: Wall time so far, including evaluations.
        env_steps_per_second: Environment steps per second of this batch, including learning.
        mean_return: Sum of the rewards of an episode, mean over runs and agents.
        log_loss: Mean of ln(final validation loss / chance loss) over the batch's runs, at most ln 2.
        diverged: Share of the batch's runs that diverged.
        entropy: Entropy of the agents' decisions, nats.
        explained_variance: Share of the variance of the batch's returns that the critic explained before it learned
            from them, at most 1; NaN if all returns were equal.
        kl: KL divergence from the policy that collected the batch to the learned one, nats.
        clip_fraction: Share of decisions whose probability ratio was clipped.
        validation: Mean of ln(final validation loss / chance loss) on the validation tasks, greedy; NaN if the batch
            was not followed by an evaluation.
    """

    batch: int
    env_steps: int
    seconds: float
    env_steps_per_second: float
    mean_return: float
    log_loss: float
    diverged: float
    entropy: float
    explained_variance: float
    kl: float
    clip_fraction: float
    validation: float


class Trainer:
    """Trains one policy.

    Attributes:
        config: The training configuration.
        out: The folder with `config.json`, `metrics.csv`, `checkpoint.pt`, and the best policy so far in `policy/`.
        policy: The present policy.
        batches: The measurements of all batches so far.
        envs: The environments of the training tasks.
        validation_envs: The environments of the validation tasks, which choose the best policy.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Path,
        out: Path,
        *,
        resume: bool = False,
        data_dirs: Sequence[Path] = (),
        device: str = "cpu",
    ) -> None:
        """Prepare the tasks and the networks.

        Args:
            config: The training configuration.
            source: The file of the configuration, for messages and relative paths.
            out: The folder for all output.
            resume: Whether to resume from the checkpoint in that folder.
            data_dirs: Folders to search for datasets by name.
            device: A PyTorch device.

        Raises:
            ResumeError: `resume` is False, but `out` has a checkpoint; or `resume` is True, but `out` has nothing to
                resume from, or another configuration.
            UserError: The tasks cannot be made.
        """
        self.config = config
        self.out = out
        self._checkpoint = out / "checkpoint.pt"
        self._check_out(resume)
        learner = config.learner
        torch.manual_seed(stream_seed("policy-weights", config.seed))
        actor = Actor(config.actor, len(config.observation), config.action.n_outputs)
        self.policy = Policy(self._card(TrainingCard(seed=config.seed)), actor)
        critic = Critic(len(config.observation), learner.critic_width, centralised=learner.critic == "centralised")
        data = load_task_data(config.tasks, source, data_dirs)
        tasks = draw_tasks(config.tasks, data, "training", config.tasks.n_tasks, source)
        validation = draw_tasks(config.tasks, data, "validation", config.tasks.n_validation, source)
        self._fingerprints = {
            task.workload.spec.dataset: task.workload.dataset.fingerprint for task in [*tasks, *validation]
        }
        self._max_layers = max(len(task.workload.layers) for task in tasks)
        self.envs = [
            self._env(task, learner.n_runs, stream_seed("policy-training", config.seed, index), device)
            for index, task in enumerate(tasks)
        ]
        # Validation runs start from 0.1, 1 and 10 times the default base learning rate, whatever the training's seed.
        self.validation_envs = [self._env(task, _VALIDATION_RUNS, 0, device) for task in validation]
        module = actor_module(actor, config.action).to(device)
        self._module = module
        kind = MAPPOLoss if learner.critic == "centralised" else IPPOLoss
        self.loss = kind(
            module,
            critic_module(critic).to(device),
            value_norm=RunningScale(device=torch.device(device)),
            clip_epsilon=learner.clip,
            entropy_coeff=learner.entropy,
            normalize_advantage=False,  # `_learn` normalises over all tasks of a batch
            log_explained_variance=False,  # TorchRL would measure it on a minibatch
        )
        own = ("agents", "reward") if self.envs[0].per_agent else "reward"
        self.loss.set_keys(
            action=("agents", "action"),
            sample_log_prob=("agents", "action_log_prob"),
            value=("agents", "state_value"),
            advantage=("agents", "advantage"),
            value_target=("agents", "value_target"),
            reward=own,
            done="done",
            terminated="terminated",
        )
        self.loss.make_value_estimator(
            ValueEstimators.MAGAE, gamma=learner.discount, lmbda=learner.gae_lambda, average_gae=False
        )
        self._optimizer = torch.optim.Adam(self.loss.parameters(), lr=learner.lr, eps=1e-5)
        self._collectors: dict[int, Any] = {}
        self.batches: list[Batch] = []
        self._best = math.inf
        self._best_files: dict[str, bytes] = {}
        self._seconds = 0.0
        if resume and self._checkpoint.is_file():
            self._load()
        elif config.demonstrations is not None:
            curves = load_curves(config.demonstrations, source)
            imitate(actor, self.envs, curves, config.demonstrations, stream_seed("demonstrations", config.seed))

    @property
    def env_steps(self) -> int:
        """Environment steps so far."""
        return self.batches[-1].env_steps if self.batches else 0

    def train(
        self,
        *,
        env_steps: int | None = None,
        minutes: float | None = None,
        on_batch: Callable[[Batch], None] = lambda batch: None,
    ) -> None:
        """Train until the number of environment steps or the time is reached.

        Args:
            env_steps: Environment steps of the whole training; by default the number of the configuration. Learning
                rate and entropy bonus fall towards this end.
            minutes: Stop after the batch in which this wall time is reached. None: no limit.
            on_batch: Called after each batch.

        Raises:
            PluginError: A reward or observation of a plugin is invalid. The batch is discarded.
        """
        target = env_steps or self.config.learner.env_steps
        began = time.perf_counter() - self._seconds
        if not self.batches:
            self._evaluate()  # writes the policy as it is before any reinforcement learning
            self._save()  # a checkpoint to resume from if the first batch fails
        finished = self.env_steps >= target
        while not finished:
            number = len(self.batches) + 1
            self._anneal(min(1.0, self.env_steps / target))
            start = time.perf_counter()
            measured = self._learn(number)
            steps = self.env_steps + int(measured.pop("env_steps"))
            rate = (steps - self.env_steps) / (time.perf_counter() - start)
            finished = steps >= target or (minutes is not None and time.perf_counter() - began >= 60 * minutes)
            evaluate = finished or number % self.config.learner.evaluate_every == 0
            validation = self._evaluate(steps) if evaluate else math.nan
            self._seconds = time.perf_counter() - began
            batch = Batch(number, steps, self._seconds, rate, validation=validation, **measured)
            self.batches.append(batch)
            if evaluate:
                self._save()
            on_batch(batch)
        best = load_policy(self.out / "policy")
        best.card = best.card.model_copy(update={"behaviour": measure_behaviour(best, self.validation_envs)})
        best.save(self.out / "policy")

    def _learn(self, number: int) -> dict[str, float]:
        """Collect a batch and learn from it."""
        learner = self.config.learner
        torch.manual_seed(stream_seed("batch", self.config.seed, number))
        chosen = torch.randperm(len(self.envs))[: learner.tasks_per_batch].tolist()
        episodes = [self._collect(index, number) for index in chosen]
        parts, statistics = [], []
        for index, episode in zip(chosen, episodes, strict=True):
            statistics.append(self._statistics(self.envs[index], episode))
            # For the advantage, a run ends where it diverged.
            ended = episode["next", "diverged"] | episode["next", "done"]
            episode["next", "terminated"] = ended
            episode["next", "done"] = ended
            with torch.no_grad():
                self.loss.value_estimator(episode)
            alive = ~episode["diverged"]
            # All runs of a task share its difficulty, so the critic's error about it cancels out.
            episode["agents", "advantage"] -= mean_over_runs(episode["agents", "advantage"], alive)
            parts += whole_episodes(episode) if self.config.actor.memory else [episode[alive.squeeze(-1)]]
        advantages = torch.cat([part["agents", "advantage"].flatten() for part in parts])
        mean, deviation = advantages.mean(), advantages.std(correction=min(1, len(advantages) - 1)).clamp(min=1e-6)
        for part in parts:
            part["agents", "advantage"] = (part["agents", "advantage"] - mean) / deviation
        learned: dict[str, float] = {}
        for _ in range(learner.epochs):
            orders = [torch.randperm(len(part)).chunk(learner.minibatches) for part in parts]
            for step in range(learner.minibatches):
                pieces = [part[order[step]] for part, order in zip(parts, orders, strict=True) if step < len(order)]
                for name, total in self._descend(pieces).items():
                    learned[name] = learned.get(name, 0.0) + total
        means = {name: total / (learner.epochs * len(advantages)) for name, total in learned.items()}
        count = sum(len(episode) for episode in episodes)
        totals = {
            name: sum(part[name] * len(episode) for part, episode in zip(statistics, episodes, strict=True)) / count
            for name in statistics[0]
        }
        return {
            "env_steps": float(sum(episode.numel() for episode in episodes)),
            "explained_variance": explained_variance(parts),
            **totals,
            **means,
        }

    def _descend(self, pieces: Sequence[TensorDictBase]) -> dict[str, float]:
        """Make one gradient step on parts of several tasks' episodes; return sums over the agents' decisions."""
        sizes = [piece["agents", "advantage"].numel() for piece in pieces]
        self._optimizer.zero_grad()
        sums = dict.fromkeys(_LEARNED, 0.0)
        for piece, size in zip(pieces, sizes, strict=True):
            terms = self.loss(piece)
            loss = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
            (loss * (size / sum(sizes))).backward()
            for name, key in _LEARNED.items():
                sums[name] += size * float(terms[key])
        torch.nn.utils.clip_grad_norm_(self.loss.parameters(), self.config.learner.max_grad_norm)
        self._optimizer.step()
        return sums

    def _collect(self, index: int, number: int) -> TensorDictBase:
        """Return one episode of a training task, shape (P, T)."""
        env = self.envs[index]
        if index not in self._collectors:
            frames = env.batch_size[0] * env.n_decisions
            collector = Collector(
                env,
                self._module,
                frames_per_batch=frames,
                total_frames=-1,
                reset_at_each_iter=True,
                auto_register_policy_transforms=False,
            )
            self._collectors[index] = (collector, iter(collector))
        env.episode = number
        return next(self._collectors[index][1]).clone()

    @staticmethod
    def _statistics(env: LayerwiseLREnv, episode: TensorDictBase) -> dict[str, float]:
        reward = episode["next", "agents", "reward"].mean(-2) if env.per_agent else episode["next", "reward"]
        chance = env.engine.workload.dataset.chance_loss
        return {
            "mean_return": float(reward.sum(1).mean()),
            "log_loss": float((episode["next", "loss"][:, -1] / chance).log().mean()),
            "diverged": float(episode["next", "diverged"][:, -1].float().mean()),
        }

    def _anneal(self, progress: float) -> None:
        """Let learning rate and entropy bonus fall to a tenth."""
        factor = 1.0 - 0.9 * progress
        for group in self._optimizer.param_groups:
            group["lr"] = self.config.learner.lr * factor
        self.loss.entropy_coeff.fill_(self.config.learner.entropy * factor)

    def _evaluate(self, env_steps: int = 0) -> float:
        """Return the greedy policy's mean log loss on the validation tasks, and write it if it is the best so far."""
        policy = Policy(self.policy.card, self.policy.actor)  # it will copy the present weights
        losses = torch.cat([evaluate_greedily(policy, env) for env in self.validation_envs])
        result = float(losses.mean())
        if result < self._best:
            self._best = result
            plugins = self.config.plugins()
            packages = {origin.package for origin in plugins.values() if origin.package}
            policy.card = self._card(
                TrainingCard(
                    config=self.config.model_dump(mode="json", exclude_none=True),  # TOML has no null
                    env_steps=env_steps,
                    seconds=round(self._seconds, 1),
                    seed=self.config.seed,
                    datasets=self._fingerprints,
                    max_layers=self._max_layers,
                    versions={name: version(name) for name in (*_VERSIONED, *sorted(packages))},
                    plugins={key: str(origin) for key, origin in plugins.items()},
                    evaluation={"validation_log_loss": round(result, 6)},
                )
            )
            self._best_files = policy.files()
            write_policy(self.out / "policy", self._best_files)
        return result

    def _card(self, training: TrainingCard) -> PolicyCard:
        spec = {name: getattr(self.config, name) for name in PolicySpec.model_fields}
        return PolicyCard(**spec, training=training)

    def _env(self, task: Task, n_runs: int, seed: int, device: str) -> LayerwiseLREnv:
        return LayerwiseLREnv(
            Engine(task.workload, device=device),
            n_runs=n_runs,
            interval=task.interval,
            observation=self.config.observation,
            action=self.config.action,
            layerwise_observation=self.config.layerwise_observation,
            n_hidden=self.config.actor.memory,
            reward=self.config.reward,
            base_lr=self.config.tasks.base_lr,
            seed=seed,
        )

    def _check_out(self, resume: bool) -> None:
        pinned = self.out / "config.json"
        if resume:
            if not self._checkpoint.is_file() and not pinned.is_file():
                raise ResumeError(f"{self.out}: there is no checkpoint to resume from; start without --resume")
            try:
                begun_with = json.loads(pinned.read_text("utf-8"))["hash"]
            except (OSError, ValueError, LookupError, TypeError) as error:
                raise ResumeError(
                    f"{pinned}: cannot be read, or has no key 'hash': {one_line(error)}; {WHAT_TO_DO}"
                ) from None
            if begun_with != content_hash(self.config):
                raise ResumeError(
                    f"{self.out}: was begun with another configuration; resume with that one, or start again with "
                    "another --out"
                )
            return
        if self._checkpoint.exists():
            raise ResumeError(f"{self.out}: has a checkpoint; give --resume to resume from it, or another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"hash": content_hash(self.config), "config": self.config.model_dump(mode="json")}, indent=1)
        replace_file(pinned, text + "\n")

    def _save(self) -> None:
        """Write a checkpoint, and `metrics.csv` up to it."""
        state = {
            **self._training,
            "loss": {key: value for key, value in self.loss.state_dict().items() if isinstance(value, Tensor)},
            "optimizer": self._optimizer.state_dict(),
            "batches": [asdict(batch) for batch in self.batches],
            "best": self._best,
            "policy": self._best_files,
            "seconds": self._seconds,
        }
        save_checkpoint(self._checkpoint, state)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([field.name for field in fields(Batch)])
        writer.writerows([f"{value:.6g}" for value in asdict(batch).values()] for batch in self.batches)
        replace_file(self.out / "metrics.csv", text.getvalue())

    def _load(self) -> None:
        """Restore the checkpoint and its best policy."""
        state = load_checkpoint(self._checkpoint, self._training)
        try:
            self.loss.load_state_dict(state["loss"], strict=False)
            self._optimizer.load_state_dict(state["optimizer"])
            self.batches = [Batch(**batch) for batch in state["batches"]]
            self._best, self._seconds = state["best"], state["seconds"]
        except (LookupError, TypeError, ValueError, RuntimeError) as error:  # without a checksum it may hold anything
            raise ResumeError(
                f"{self._checkpoint}: cannot be resumed from: {one_line(error)[:200]}; start again with another --out"
            ) from None
        if "policy" in state:  # checkpoints of format 1 may lack it
            self._best_files = state["policy"]
            write_policy(self.out / "policy", self._best_files)

    @property
    def _training(self) -> dict[str, Any]:
        """The configuration and data that identify this training."""
        return {"config": content_hash(self.config), "datasets": self._fingerprints}
