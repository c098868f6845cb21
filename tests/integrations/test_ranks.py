"""Processes that train one network take the same decisions, from all of their losses."""

from __future__ import annotations

import math
import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch._dynamo  # which every rank would import by itself otherwise
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

from ganno_bench import GannoScheduler, layer_groups
from ganno_bench.core.errors import ConfigError
from ganno_bench.integrations.interval_losses import IntervalLosses
from ganno_bench.policies.actions import ActionSpec
from ganno_bench.policies.policy import Policy, PolicyCard
from tests.helpers.plain_loop import Net

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="this PyTorch has no torch.distributed")
RANKS, TOTAL = 2, 60


def train(policy: str, rank: int, **options: str) -> list[list[float]]:
    """Return the learning rates of a rank's loop, which has its own data."""
    net = Net()
    parallel = nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.SGD(layer_groups(net), lr=0.01, momentum=0.9)
    scheduler = GannoScheduler(optimizer, TOTAL, policy, **options)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(rank)
    rates = []
    for _ in range(TOTAL):
        inputs = torch.randn(16, 6, generator=generator)
        targets = (inputs[:, 0] > 0).long() + (inputs[:, 1] > (0.5 if rank else -0.5)).long()
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(parallel(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step(loss)
        rates.append(scheduler.get_last_lr())
    return rates


def save_restless(path: Path, scope: Literal["network", "layer"]) -> str:
    """Save a policy whose decisions change with the smallest change of a loss, and return its folder."""
    torch.manual_seed(0)
    card = PolicyCard(
        name=scope, observation=("log-train-loss", "loss-change"), action=ActionSpec(scope=scope), interval=4
    )
    policy = Policy(card)
    with torch.no_grad():
        for parameter in policy.actor.parameters():
            parameter *= 100.0
    policy.save(path / scope)
    return str(path / scope)


def on_ranks(path: Path, work: Callable[[int], Any]) -> list[Any]:
    """Return the results of a function on each of several forked ranks."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(RANKS)]
    ranks = [context.Process(target=_rank, args=(rank, path / "store", work, pipes[rank][1])) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    for _, end in pipes:
        end.close()  # a rank that dies is an end of its pipe
    said = [pipe.recv() for pipe, _ in pipes]
    for process in ranks:
        process.join()
    for trace, _ in said:
        assert trace is None, trace
    return [result for _, result in said]


def _rank(rank: int, file: Path, work: Callable[[int], Any], said: Connection) -> None:
    try:
        torch.set_num_threads(1)
        distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=RANKS)
        said.send((None, work(rank)))
    except BaseException:
        said.send((traceback.format_exc(), None))
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize("scope", ["network", "layer"])
def test_ranks_take_the_same_decisions(tmp_path: Path, scope: Literal["network", "layer"]) -> None:
    policy = save_restless(tmp_path, scope)
    first, second = on_ranks(tmp_path, lambda rank: train(policy, rank))
    assert first == second
    assert len({tuple(rates) for rates in first}) > 2


def test_but_not_where_each_is_to_decide_by_itself(tmp_path: Path) -> None:
    policy = save_restless(tmp_path, "network")
    first, second = on_ranks(tmp_path, lambda rank: train(policy, rank, process_group="local"))
    assert first != second


def exchange(rank: int) -> list[tuple[float, float]]:
    losses, cpu, nothing = IntervalLosses(), torch.device("cpu"), math.nan
    for loss in (1.0, math.nan) if rank else (2.0, 4.0, 5.0):
        losses.add(loss)
    means = [losses.means(7.0 if rank else nothing, cpu), losses.means(nothing, cpu)]
    alone = [distributed.new_group([member]) for member in range(RANKS)][rank]
    of_one = IntervalLosses(alone)
    of_one.add(8.0 + rank)
    return [*means, of_one.means(nothing, cpu)]


def test_a_mean_is_of_all_losses_of_the_group(tmp_path: Path) -> None:
    for rank, means in enumerate(on_ranks(tmp_path, exchange)):
        assert means[0] == (3.0, 7.0)
        assert math.isnan(means[1][0])
        assert means[2][0] == 8.0 + rank


def shard(rank: int) -> list[str]:
    """Return the messages about sharded parameters, for both versions of FSDP."""
    said, mesh = [], init_device_mesh("cpu", (RANKS,))
    second = Net()
    fully_shard(second, mesh=mesh)
    optimizer = torch.optim.SGD(layer_groups(second), lr=0.01)
    GannoScheduler(optimizer, TOTAL, "ganno-light")  # looks at none
    first = FullyShardedDataParallel(Net(), use_orig_params=True, device_id=torch.device("cpu"))
    for refused in (lambda: GannoScheduler(optimizer, TOTAL, "ganno-anchored"), lambda: layer_groups(first)):
        try:
            refused()
        except ConfigError as error:
            said.append(str(error))
    return said


@pytest.mark.filterwarnings("default")  # both FSDPs have something to say on a CPU
def test_sharded_parameters_are_refused_where_they_would_be_looked_at(tmp_path: Path) -> None:
    for of_second, of_first in on_ranks(tmp_path, shard):
        assert of_second.startswith(
            "parameters are sharded, so each process has only a part of them; use a policy that"
        )
        assert of_first.endswith("first.weight' is sharded; call layer_groups() before FSDP shards the model")
