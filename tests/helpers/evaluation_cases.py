"""A suite of three tiny workloads, one without its data, and a policy that was trained on the shallow one's like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ganno_bench.bench.evaluation import Evaluation, EvaluationSettings, run_evaluation
from ganno_bench.bench.progress import Progress
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.actor import ActorSpec
from ganno_bench.policies.policy import Policy, PolicyCard, TrainingCard

TASKS: dict[str, Any] = {
    "dataset": {"pixels": {"source": "digits"}},
    "family": [{"dataset": "pixels", "model": {"family": "mlp"}, "depth": [1, 2]}],
}

SUITE = """
name = "tiny"
schedulers = ["cosine"]

[budget]
trials = 2
tuning_seeds = 1
report_seeds = 2
batch = 2
startup_trials = 2

[dataset.digits]
source = "digits"
task = "image-classification"
input = "image"
target = "label"
max_train = 64
max_validation = 64
max_test = 64

[dataset.letters]
source = "some-one/letters"
task = "image-classification"
input = "image"
target = "label"
"""

WORKLOAD = """
[[workload]]
id = "{id}"
dataset = "{dataset}"
model = {{ family = "mlp", depth = {depth}, width = 8 }}
optimizer = {{ name = "sgd" }}
batch_size = 8
n_updates = 12
n_evaluations = 3
"""


def write_suite(folder: Path, *, with_data: bool = True) -> Path:
    """Write the suite: two workloads on digits, of which the deeper is new to the policy, and one without data."""
    rungs = [("letters-mlp-1", "letters", 1)]
    if with_data:
        rungs = [("digits-mlp-1", "digits", 1), ("digits-mlp-3", "digits", 3), *rungs]
    file = folder / "tiny.toml"
    file.write_text(SUITE + "".join(WORKLOAD.format(id=name, dataset=on, depth=depth) for name, on, depth in rungs))
    return file


def write_policy(folder: Path, seed: int = 0) -> Path:
    """Write a policy with random weights whose card says `TASKS`, and return its folder."""
    card = PolicyCard(
        name="mine",
        interval=3,
        observation=("progress", "relative-depth", "log-grad-norm"),
        action=ActionSpec(multipliers=(0.5, 1.0, 2.0)),
        actor=ActorSpec(hidden=(8,)),
        training=TrainingCard(config={"tasks": TASKS}),
    )
    policy = Policy(card)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    policy.save(folder)
    return folder


def evaluate(folder: Path, progress: Progress | None = None, **settings: Any) -> Evaluation:
    """Evaluate `folder/policy` on `folder/tiny.toml` into `folder/out`."""
    common: dict[str, Any] = {
        "policy": str(folder / "policy"),
        "suite": str(folder / "tiny.toml"),
        "out": folder / "out",
    }
    return run_evaluation(EvaluationSettings(**common | settings), progress)
