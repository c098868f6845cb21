"""Time what a policy adds to training, with a decision every 10 updates, in one process.

    python benchmarks/policy.py [--quick] [--only loops] [POLICY]

POLICY is a folder or the name of a shipped policy. By default the script times `ganno-anchored`, with an agent for each
layer, and `ganno-light`, with one agent that reads no layer. Both have random weights, which cost as much as trained
ones, and leave the learning rates as they are. Run nothing else meanwhile. The script measures the CPU time of one
thread. Contenders take turns, and numbers are medians over rounds, of times and of ratios within a round. So a drift of
the machine's speed affects all of them alike.

In a plain PyTorch loop: `GannoScheduler` and `CosineAnnealingLR` against no scheduler, with the same network, data and
optimizer.

- Parameter groups: one group, as under the cosine and under a policy that reads no layer, or a group for each layer,
  without a scheduler and under any other policy. The cost of groups depends on the implementation of the optimizer:
  `for-loop`, PyTorch's default on a CPU, `foreach` or `fused`. The perceptrons are trained with all three.
- Calls: with the default implementation the calls of the cosine and of the policies are also timed alone, and next to
  them the floor of a call. The tables have their share of an update without a scheduler, and the update of which they
  would be 3 %. These are wall times, because a call is too short for the clock of the CPU.
- Turns: ten updates, on the perceptrons 50 and 20. Within a turn a contender finds its code and data in the processor's
  caches, as in a training loop, where it is alone.

In the harness: 10 runs of a workload under a policy, under a cosine, under a cosine that decides every ten updates for
each layer, and under the same cosine while the engine measures the policy's signals. A round is 100 updates.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.policies.policy import Policy, load_policy
from ganno_bench.schedulers.base import Scheduler, State
from ganno_bench.schedulers.closed_form import Cosine
from ganno_bench.schedulers.drive import Contestant, drive
from ganno_bench.schedulers.policy import find_policy, policy_scheduler
from ganno_bench.training.layout import Blocks
from ganno_bench.training.population import Engine
from ganno_bench.training.signals import Controls, RunInfo, Signals
from ganno_bench.workloads.datasets import load_dataset
from ganno_bench.workloads.suite import load_suite
from ganno_bench.workloads.workload import Workload

INTERVAL = 10
HORIZON = 100_000  # far beyond every timed run
BAR = 0.03
Timed = Callable[[], float]
Call = Callable[[Tensor], object]
Make = Callable[[nn.Module, torch.optim.Optimizer], Call]


def taking_turns(contenders: Mapping[str, Timed], n_rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each contender in each round, after a first one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    turns, order = random.Random(0), list(contenders)
    for _ in range(1 + n_rounds):
        turns.shuffle(order)  # the order affects the caches
        for name in order:
            taken[name].append(contenders[name]())
    return {name: several[1:] for name, several in taken.items()}


# A plain PyTorch loop


@dataclass(frozen=True)
class Case:
    """A network and a batch for it.

    Attributes:
        name: Its name in tables.
        build: Makes the network.
        inputs: A batch.
        targets: Its classes.
        adam: Whether the optimizer is AdamW rather than SGD with momentum.
        implementation: PyTorch's implementation of the optimizer.
        n_updates: Updates of a turn, a multiple of `INTERVAL`.
        n_rounds: Number of measured turns.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Tensor
    targets: Tensor
    adam: bool = False
    implementation: str = "for-loop"
    n_updates: int = INTERVAL
    n_rounds: int = 25

    def optimizer(self, groups: Any) -> torch.optim.Optimizer:
        """Return the optimizer of some groups."""
        how = {name: self.implementation == name for name in ("foreach", "fused")}
        if self.adam:
            return torch.optim.AdamW(groups, lr=1e-3, **how)
        return torch.optim.SGD(groups, lr=0.01, momentum=0.9, **how)


def mlp(n_inputs: int, width: int, depth: int) -> nn.Module:
    """Return a multilayer perceptron, whose children are its layers."""
    sizes = [n_inputs, *[width] * depth]
    hidden = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, 10))


def cnn() -> nn.Module:
    """Return a small convolutional network for images of 28 x 28 pixels."""
    convolutions = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1)]
    return nn.Sequential(*convolutions, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 7 * 7, 10))


class Positions(nn.Module):
    """Embedding of tokens and their positions."""

    def __init__(self, n_tokens: int, length: int, width: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(n_tokens, width), nn.Parameter(torch.zeros(length, width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the embeddings, shape (batch, length, width)."""
        embedded: Tensor = self.tokens(inputs) + self.places
        return embedded


def transformer() -> nn.Module:
    """Return four transformer blocks of width 128 between an embedding and a linear map."""
    options: dict[str, Any] = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
    blocks = [nn.TransformerEncoderLayer(128, 4, 512, **options) for _ in range(4)]
    return nn.Sequential(Positions(100, 64, 128), *blocks, nn.Linear(128, 100))


def cases() -> list[Case]:
    """Return the rows of the first table."""
    classes = torch.randint(0, 10, (64,))
    tokens = torch.randint(0, 100, (16, 64))
    small, large = torch.randn(64, 1, 8, 8), torch.randn(64, 1, 28, 28)
    perceptrons = [
        Case("MLP, 4 x 32, 8 x 8 images", lambda: mlp(64, 32, 4), small, classes, n_updates=50, n_rounds=100),
        Case("MLP, 3 x 512, 28 x 28 images", lambda: mlp(784, 512, 3), large, classes, n_updates=20, n_rounds=60),
    ]
    ways = ("for-loop", "foreach", "fused")
    return [
        *(replace(case, implementation=way) for case in perceptrons for way in ways),
        Case("CNN, 32 and 64 channels, 28 x 28 images", cnn, large, classes),
        Case("transformer, 4 x 128, 16 x 64 tokens", transformer, tokens, tokens.roll(1, 1), adam=True),
    ]


def loop(case: Case, after: Make | None, calls: list[list[float]], *, groups: bool = False) -> Timed:
    """Return a function that trains for the updates of one turn and returns its seconds.

    Args:
        case: The network.
        after: Makes the function that is called after each update.
        calls: Receives the seconds of those calls, a list for each decision interval; a policy decides in the last.
        groups: Whether there is a parameter group for each layer.
    """
    torch.manual_seed(0)
    network = case.build()
    optimizer = case.optimizer(layer_groups(network) if groups else network.parameters())
    call = None if after is None else after(network, optimizer)

    def run() -> float:
        began = time.process_time()
        for update in range(case.n_updates):
            if update % INTERVAL == 0:
                calls.append([])
            optimizer.zero_grad()
            loss = F.cross_entropy(network(case.inputs).flatten(0, -2), case.targets.flatten())
            loss.backward()
            optimizer.step()
            if call is not None:
                start = time.perf_counter()
                call(loss)
                calls[-1].append(time.perf_counter() - start)
        return time.process_time() - began

    return run


def cosine(network: nn.Module, optimizer: torch.optim.Optimizer) -> Call:
    """Return PyTorch's cosine."""
    annealed = CosineAnnealingLR(optimizer, HORIZON)
    return lambda loss: annealed.step()


def ganno(policy: Path, *, groups: bool) -> Make:
    """Return a maker of `GannoScheduler`, for an optimizer with a group for each layer or with a single group."""

    def make(network: nn.Module, optimizer: torch.optim.Optimizer) -> Call:
        n_layers = None if groups else len(layer_groups(network))
        return GannoScheduler(optimizer, HORIZON, policy, n_layers=n_layers).step

    return make


def least(*, sampled: bool) -> Make:
    """Return a maker of the floor of a call: it reads the loss and, if `sampled`, copies the sample of the gradients.

    Everything else can be postponed. The gradients no longer exist after the call, and are copied in one operation.
    """

    def make(network: nn.Module, optimizer: torch.optim.Optimizer) -> Call:
        parameters = list(network.parameters())
        samples = [Blocks.of(parameter.numel()) for parameter in parameters]
        partial = [(index, blocks) for index, blocks in enumerate(samples) if not blocks.is_whole]
        kept = [torch.zeros_like(parameter) for parameter in parameters]
        for index, blocks in partial:
            kept[index] = blocks.take(kept[index]).clone()

        def call(loss: Tensor) -> None:
            loss.item()
            if sampled:
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                for index, blocks in partial:
                    gradients[index] = blocks.take(gradients[index])
                torch._foreach_copy_(kept, gradients)

        return call

    return make


def own_loops(policies: Mapping[str, Path], *, quick: bool) -> None:
    """Print the first two tables.

    Args:
        policies: Name -> folder.
        quick: Whether to run few repetitions.
    """
    controllers = {kind: load_policy(policy).controller for kind, policy in policies.items()}
    loops, of_calls = [], []
    for case in cases():
        calls: dict[str, list[list[float]]] = defaultdict(list)
        contenders = {
            "nothing": loop(case, None, []),
            "groups": loop(case, None, [], groups=True),
            "cosine": loop(case, cosine, calls["cosine"]),
        }
        for kind, policy in policies.items():
            groups, sampled = controllers[kind].needs_layers, "grad_snr" in controllers[kind].needs
            contenders[kind] = loop(case, ganno(policy, groups=groups), calls[kind], groups=groups)
            if case.implementation == "for-loop":
                contenders[f"floor: {kind}"] = loop(case, least(sampled=sampled), calls[f"floor: {kind}"])
        taken = taking_turns(contenders, 3 if quick else case.n_rounds)
        network = case.build()
        update = statistics.median(taken["nothing"]) / case.n_updates
        more = [_more(taken[kind], taken["nothing"]) for kind in ("groups", "cosine", *policies)]
        size = sum(parameter.numel() for parameter in network.parameters())
        about = [case.name, f"{len(layer_groups(network))}", f"{size:,}", case.implementation]
        loops.append([*about, f"{1e3 * update:.2f}", *more])
        if case.implementation != "for-loop":
            continue
        for kind in ("cosine", *policies):
            first = case.n_updates // INTERVAL  # skip the first turn, which is not counted
            intervals = calls[kind][first:]
            *ordinary, copying, deciding = (statistics.median(several) for several in zip(*intervals, strict=True))
            mean = statistics.median(sum(several) for several in intervals) / INTERVAL
            of_call = statistics.median(chain(*calls[f"floor: {kind}"][first:])) if kind in policies else 0.0
            times = (of_call, statistics.median(ordinary), copying, deciding, mean)
            shares = (f"{of_call / update:.1%}", f"{mean / update:.1%}", f"{1e3 * mean / BAR:.1f}")
            of_calls.append([case.name, kind, *(f"{1e6 * value:.0f}" for value in times), *shares])
    header = ["network", "layers", "parameters", "optimizer", "update ms", "a group per layer", "cosine", *policies]
    _print_table(header, loops)
    header = ["network", "scheduler", "floor of a call, us", "call, us", "copying call, us", "deciding call, us"]
    _print_table([*header, "mean, us", "floor / update", "mean / update", f"{BAR:.0%} at, ms"], of_calls)


def _more(times: list[float], reference: list[float]) -> str:
    """Return the added time relative to a reference, the median over rounds, with its 95 % confidence interval."""
    ratios = np.array(times) / np.array(reference) - 1.0
    resampled = np.random.default_rng(0).choice(ratios, (2_000, len(ratios)))
    low, high = np.percentile(np.median(resampled, axis=1), (2.5, 97.5))
    return f"{np.median(ratios):+.1%} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"\n| {' | '.join(header)} |\n|{' --- |' * len(header)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def untrained(folder: Path) -> dict[str, Path]:
    """Write policies like the shipped ones that leave the learning rates as they are, and return name -> folder."""
    policies = {}
    for name in ("ganno-anchored", "ganno-light"):
        policies[name] = folder / name
        card = load_policy(find_policy(name)).card
        still = card.action.model_copy(update={"bound": 1e-9, "reference": "constant"})
        Policy(card.model_copy(update={"action": still})).save(policies[name])
    return policies


# The harness


def watching(signals: frozenset[str]) -> Scheduler:
    """Return a cosine that decides for each layer every ten updates and makes the engine measure signals."""

    @dataclass(frozen=True)
    class Watching(Scheduler):
        needs = signals
        interval = INTERVAL

        def init(self, run: RunInfo) -> State:
            return run.base_lr[:, None].expand(-1, run.n_layers)

        def step(self, state: State, signals: Signals) -> tuple[Controls, State]:
            first, total = signals.n_updates, signals.total_updates
            updates = range(first, min(total, first + INTERVAL))
            curve = torch.tensor([(1 + math.cos(math.pi * update / total)) / 2 for update in updates])
            return Controls(curve.double()[:, None, None] * state), state

    return Watching()


def harness(policies: Mapping[str, Path], *, quick: bool) -> None:
    """Print the third table; see `own_loops` for the arguments."""
    rows = []
    suite = load_suite("quickstart")
    n_updates = 3 * INTERVAL if quick else 10 * INTERVAL
    for name in ("digits-mlp-4", "stdlib-chars-transformer-2"):
        spec = suite.find_workload(name).model_copy(update={"n_updates": n_updates, "n_evaluations": 1})
        dataset = load_dataset(spec.dataset, suite.dataset[spec.dataset])
        tiny = replace(
            dataset, validation=dataset.validation.head(64)
        )  # keep the cost of evaluations out of the updates
        engine = Engine(Workload(spec, tiny))

        def driven(scheduler: Scheduler, engine: Engine = engine) -> Timed:
            contestant = Contestant(scheduler, {"sgd": 0.02}.get(engine.workload.spec.optimizer.name, 2e-3), 1e-4)

            def run() -> float:
                start = time.process_time()
                drive(engine, [contestant], range(10))
                return time.process_time() - start

            return run

        kinds = {kind: policy_scheduler(str(policy)) for kind, policy in policies.items()}
        contenders = {"cosine": driven(Cosine()), "layers": driven(watching(frozenset()))}
        for kind, scheduler in kinds.items():
            contenders |= {f"watched: {kind}": driven(watching(scheduler.needs)), kind: driven(scheduler())}
        taken = taking_turns(contenders, 3 if quick else 25)
        update = f"{1e3 * statistics.median(taken['cosine']) / n_updates:.2f}"
        for kind in kinds:
            more = [_more(taken[contender], taken["cosine"]) for contender in ("layers", f"watched: {kind}", kind)]
            rows.append([name, kind, update, *more])
    _print_table(["workload, 10 runs", "policy", "cosine ms", "cosine per layer", "with signals", "policy"], rows)


def main() -> None:
    """Print all tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run few repetitions, to test the script")
    parser.add_argument("--only", choices=["loops", "harness"], help="print these tables alone")
    parser.add_argument("policy", nargs="?", metavar="POLICY", help="a folder, or the name of a shipped policy")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        policies = {arguments.policy: find_policy(arguments.policy)} if arguments.policy else untrained(Path(folder))
        for kind, policy in policies.items():
            if (interval := load_policy(policy).card.interval) != INTERVAL:
                parser.error(f"policy {kind!r}: must decide every {INTERVAL} updates (value: {interval})")
        print(f"PyTorch {torch.__version__}, one thread")
        if arguments.only != "harness":
            own_loops(policies, quick=arguments.quick)
        if arguments.only != "loops":
            harness(policies, quick=arguments.quick)


if __name__ == "__main__":
    main()
