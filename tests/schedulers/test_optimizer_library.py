"""Optimizers of pytorch-optimizer equal a plain loop with its classes, and obey the rules of the engine."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError, PluginError, UnknownNameError, UserError
from ganno_bench.core.seeding import stream_seed
from ganno_bench.schedulers import optimizer_entry
from ganno_bench.schedulers.drive import drive
from ganno_bench.schedulers.optimizer_library import LibraryOptimizer
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.testing.scheduler_contract import check_scheduler
from ganno_bench.tuning.space import contestant, default_config
from ganno_bench.workloads.suite import OptimizerSpec
from tests.helpers.extras import library
from tests.helpers.torch_loop import parameters
from tests.helpers.workload_cases import ADAMW, SGD, make_engine, make_workload

released = library("pytorch_optimizer")

UPDATES = 40
CASES = {
    "pytorch-optimizer:Lion": ("Lion", {}),
    "pytorch-optimizer:Lion(betas=(0.95, 0.98))": ("Lion", {"betas": (0.95, 0.98)}),
    "pytorch-optimizer:AdaBelief": ("AdaBelief", {}),
    "pytorch-optimizer:Fromage": ("Fromage", {}),  # takes no weight decay
    "pytorch-optimizer:ScheduleFreeSGD": ("ScheduleFreeSGD", {}),  # has two points
}


@pytest.mark.parametrize("spec", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("ref", CASES)
def test_a_run_equals_a_plain_loop_of_the_released_optimizer(ref: str, spec: OptimizerSpec) -> None:
    entry = load_scheduler(ref)
    config = default_config(entry, spec.name)
    engine = make_engine(make_workload("mlp", spec, UPDATES, 45, 4), "loop", torch.float64)
    result = drive(engine, [contestant(entry, config)], [3, 5])
    name, arguments = CASES[ref]
    workload, seed = engine.workload, 5
    train, validation = (
        part.to("cpu", torch.float64) for part in (workload.dataset.train, workload.dataset.validation)
    )
    model = workload.build(seed).double()
    if name != "Fromage":
        arguments = arguments | {"weight_decay": config["weight_decay"]}
    optimizer = getattr(released, name)(model.parameters(), **arguments)
    two_points = hasattr(optimizer, "eval")
    losses = []
    for batch in train.order(torch.Generator().manual_seed(stream_seed(seed, "data-order")), UPDATES, 45):
        if two_points:
            optimizer.train()
        inputs, targets = train.gather(batch)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if two_points:
        optimizer.eval()
    inputs, targets = validation.gather(validation.windows())
    expected = F.cross_entropy(model(inputs), targets).item()
    means = torch.tensor(losses, dtype=torch.float64).view(4, -1).mean(1).tolist()
    assert result.train_loss[:, 1].tolist() == pytest.approx(means, rel=1e-9)
    assert result.val_loss[-1, 1].item() == pytest.approx(expected, rel=1e-9)
    assert abs(means[-1] / means[0] - 1) > 1e-3  # it moves: equality means something


def test_a_run_is_the_same_in_a_population_of_any_size() -> None:
    entry = load_scheduler("pytorch-optimizer:Lion")
    engine = make_engine(make_workload("mlp", SGD, UPDATES), "vmap")
    own = contestant(entry, default_config(entry, "sgd"))
    alone, among = drive(engine, [own], [7]), drive(engine, [own], [1, 7, 2])
    assert torch.equal(parameters(among.population)[1], parameters(alone.population)[0])


@pytest.mark.parametrize("ref", ["pytorch-optimizer:Lion", "pytorch-optimizer:ScheduleFreeSGD"])
def test_the_contract_holds(ref: str) -> None:
    assert [result.message for result in check_scheduler(ref) if not result.ok] == []


def test_it_competes_zero_shot_at_the_packages_default(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = load_scheduler("pytorch-optimizer:Lion")
    assert (entry.zero_shot, entry.search_space, entry.packages) == (True, {}, ("pytorch-optimizer",))
    assert entry.open_optimizer("sgd") == "pytorch-optimizer.Lion"
    assert {name: entry.base_lr(name) for name in ("sgd", "adam", "adamw")} == dict.fromkeys(
        ("sgd", "adam", "adamw"), 1e-4
    )
    monkeypatch.setattr(optimizer_entry, "version", lambda package: "9.9")
    assert load_scheduler("pytorch-optimizer:Lion").code != entry.code


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        ("Lyon", UnknownNameError, "pytorch-optimizer has no optimizer 'Lyon'; did you mean 'Lion'?"),
        ("Lion(beta=0.9)", UnknownNameError, "no hyperparameter 'beta'; did you mean 'betas'?"),
        (
            "Lion(betas=(2.0, 0.9))",
            ConfigError,
            "makes no update from its arguments and gradients alone: ValueError",
        ),
        ("Lion(weight_decay=0.1)", UnknownNameError, "no hyperparameter 'weight_decay'"),
        (
            "REXScheduler",
            UnknownNameError,
            "not its schedules; use a built-in one, such as 'rex', 'polynomial' or 'wsd'",
        ),
        (
            "get_wsd_schedule",
            UnknownNameError,
            "not its schedules; use a built-in one, such as 'rex', 'polynomial' or 'wsd'",
        ),
        ("LOMO", PluginError, "needs more than parameters: it has no default for 'model'"),
        ("AliG", PluginError, "has no default learning rate, from which a zero-shot entry starts"),
        ("AdaHessian", ConfigError, "makes no update from its arguments and gradients alone: RuntimeError"),
    ],
)
def test_errors_say_what_is_wrong(ref: str, error: type[UserError], message: str) -> None:
    with pytest.raises(error, match=message):
        load_scheduler(f"pytorch-optimizer:{ref}")


@pytest.mark.parametrize("arguments", ["", "(weight_decouple=True)"])
def test_lion_decays_weights_as_adamw_does(arguments: str) -> None:
    """Another release of Lion divides the decay by the learning rate, which shrinks a weight to nothing."""
    entry = load_scheduler(f"pytorch-optimizer:Lion{arguments}")
    scheduler = entry.build({})
    assert isinstance(scheduler, LibraryOptimizer)
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = scheduler.optimizer([weight], 0.1, make_workload("mlp", ADAMW, UPDATES).spec)
    weight.grad = torch.zeros_like(weight)
    for _ in range(100):
        optimizer.step(1e-3)
    assert weight.item() == pytest.approx((1.0 - 1e-3 * 0.1) ** 100)
