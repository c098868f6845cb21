"""Open optimizers equal a plain loop, and obey the rules of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from prodigyopt import Prodigy as ReleasedProdigy
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch.nn import functional as F

from ganno_bench.core.errors import ConfigError, PluginError
from ganno_bench.core.seeding import stream_seed
from ganno_bench.schedulers.drive import Contestant, Trajectory, drive
from ganno_bench.schedulers.optimizer_entry import OptimizerEntry, Prodigy, ScheduleFree
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.training.signals import Controls
from ganno_bench.tuning.space import contestant, default_config
from ganno_bench.workloads.suite import OptimizerSpec
from ganno_bench.workloads.workload import Workload
from tests.helpers.torch_loop import evaluate_plainly, parameters
from tests.helpers.workload_cases import ADAM, ADAMW, PLAIN_SGD, SGD, make_engine, make_workload

SEEDS = [3, 5]
UPDATES = 60
DECAY = 0.02

Make = Callable[[Any], torch.optim.Optimizer]

SGD_FREE: Make = lambda p: SGDScheduleFree(p, 1.0, 0.9, weight_decay=DECAY, warmup_steps=3)  # noqa: E731
ADAMW_FREE: Make = lambda p: AdamWScheduleFree(p, 0.0025, weight_decay=DECAY, warmup_steps=3)  # noqa: E731
SAFE = {"use_bias_correction": True, "safeguard_warmup": True}
PRODIGY: Make = lambda p: ReleasedProdigy(p, 1.0, weight_decay=DECAY, **SAFE)  # noqa: E731
CASES: dict[str, tuple[OptimizerEntry, OptimizerSpec, Make]] = {
    "schedule-free-sgd": (ScheduleFree(), SGD, SGD_FREE),
    "schedule-free-plain-sgd": (ScheduleFree(), PLAIN_SGD, SGD_FREE),
    "schedule-free-adam": (ScheduleFree(), ADAM, ADAMW_FREE),
    "schedule-free-adamw": (ScheduleFree(), ADAMW, ADAMW_FREE),
    "schedule-free-without-warmup": (
        ScheduleFree(warmup=0.0),
        OptimizerSpec(name="adamw", betas=(0.8, 0.99), eps=1e-6),
        lambda p: AdamWScheduleFree(p, 0.0025, (0.8, 0.99), 1e-6, weight_decay=DECAY),
    ),
    "prodigy-sgd": (Prodigy(), SGD, PRODIGY),
    "prodigy-adam": (Prodigy(), ADAM, PRODIGY),
    "prodigy-plain": (
        Prodigy(safeguard_warmup=False, bias_correction=False),
        OptimizerSpec(name="adamw", betas=(0.8, 0.99), eps=1e-6),
        lambda p: ReleasedProdigy(p, 1.0, (0.8, 0.99), eps=1e-6, weight_decay=DECAY),
    ),
    "prodigy-annealed": (Prodigy(anneal=True), ADAMW, PRODIGY),
    "prodigy-from-a-larger-estimate": (
        Prodigy(d0=1e-3),
        ADAMW,
        lambda p: ReleasedProdigy(p, 1.0, weight_decay=DECAY, d0=1e-3, **SAFE),
    ),
}
every_case = pytest.mark.parametrize(("entry", "spec", "make"), CASES.values(), ids=CASES)
BACKENDS = pytest.mark.parametrize("backend", ["vmap", "loop", "compiled"])


def train(
    entry: OptimizerEntry,
    spec: OptimizerSpec,
    backend: str = "loop",
    model: str = "mlp",
    seeds: list[int] = SEEDS,
    n_evaluations: int = 4,
    n_updates: int = UPDATES,
    dtype: torch.dtype = torch.float32,
) -> Trajectory:
    engine = make_engine(make_workload(model, spec, n_updates, 45, n_evaluations), backend, dtype)
    return drive(engine, [Contestant(entry, entry.released(spec.name).base_lr, DECAY)], seeds)


@dataclass(frozen=True)
class Plain:
    """Results of a plain loop: the loss of each update; validation loss and test results at the evaluation point."""

    losses: list[float]
    val_losses: list[float]
    test: tuple[float, float]
    test_loss_at_the_training_point: float


def plain_loop(workload: Workload, make: Make, seed: int, *, annealed: bool) -> Plain:
    """Train as the optimizers document: train() and eval() around evaluations, and a torch scheduler."""
    total, data = workload.spec.n_updates, workload.dataset
    model = workload.build(seed).double()
    optimizer: Any = make(model.parameters())
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total) if annealed else None
    train, validation, test = (part.to("cpu", torch.float64) for part in (data.train, data.validation, data.test))
    order = train.order(torch.Generator().manual_seed(stream_seed(seed, "data-order")), total, workload.spec.batch_size)
    two_points = hasattr(optimizer, "eval")
    losses, val_losses = [], []
    for update, batch in enumerate(order):
        if two_points:
            optimizer.train()
        inputs, targets = train.gather(batch)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs).movedim(-1, 1), targets)
        loss.backward()
        optimizer.step()
        if schedule is not None:
            schedule.step()
        losses.append(loss.item())
        if (update + 1) % (total // 4) == 0:
            at_training_point, _ = evaluate_plainly(model, test)
            if two_points:
                optimizer.eval()
            val_losses.append(evaluate_plainly(model, validation)[0])
            end = evaluate_plainly(model, test)
    return Plain(losses, val_losses, end, at_training_point)


# Training


@BACKENDS
@every_case
def test_a_run_equals_a_plain_loop_of_the_released_optimizer(
    entry: OptimizerEntry, spec: OptimizerSpec, make: Make, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = train(entry, spec, backend, dtype=torch.float64)
    assert capsys.readouterr().out == ""
    workload = result.population.engine.workload
    test = result.population.evaluate(workload.dataset.test.to("cpu", torch.float64))
    for run, seed in enumerate(SEEDS):
        expected = plain_loop(workload, make, seed, annealed=getattr(entry, "anneal", False))
        means = torch.tensor(expected.losses).view(4, -1).mean(1).tolist()
        assert result.train_loss[:, run].tolist() == pytest.approx(means, rel=1e-6)
        assert result.val_loss[:, run].tolist() == pytest.approx(expected.val_losses, rel=1e-9)
        assert (test.loss[run].item(), test.error[run].item()) == pytest.approx(expected.test, rel=1e-9)
        assert abs(means[-1] / means[0] - 1) > 1e-3  # it moves: equality means something


@pytest.mark.slow(group="engine")
def test_networks_of_other_families_too() -> None:
    for model, spec, make in (("decoder", ADAMW, ADAMW_FREE), ("cnn", SGD, PRODIGY)):
        entry: OptimizerEntry = ScheduleFree() if make is ADAMW_FREE else Prodigy()
        result = train(entry, spec, model=model, dtype=torch.float64)
        expected = plain_loop(result.population.engine.workload, make, SEEDS[1], annealed=False)
        assert result.val_loss[:, 1].tolist() == pytest.approx(expected.val_losses, rel=1e-9)


# Evaluation


@pytest.mark.parametrize(("spec", "make"), [(SGD, SGD_FREE), (ADAMW, ADAMW_FREE)], ids=["sgd", "adamw"])
def test_schedule_free_is_evaluated_at_the_average(spec: OptimizerSpec, make: Make) -> None:
    population = train(ScheduleFree(), spec, dtype=torch.float64).population
    test = population.engine.workload.dataset.test.to("cpu", torch.float64)
    plain = plain_loop(population.engine.workload, make, SEEDS[0], annealed=False)
    assert abs(plain.test[0] / plain.test_loss_at_the_training_point - 1) > 1e-3  # the two points differ
    assert population.evaluate(test).loss[0].item() == pytest.approx(plain.test[0], rel=1e-9)


@BACKENDS
def test_evaluating_leaves_no_trace(backend: str) -> None:
    often, once = (train(ScheduleFree(), SGD, backend, n_evaluations=n) for n in (UPDATES, 1))
    assert torch.equal(parameters(often.population), parameters(once.population))
    assert torch.equal(often.val_loss[-1], once.val_loss[-1])
    test = once.population.engine.workload.dataset.test.to("cpu", torch.float32)
    assert torch.equal(once.population.evaluate(test).loss, once.population.evaluate(test).loss)


# Recorded learning rates


def test_the_trace_of_schedule_free_has_its_warmup() -> None:
    trace = train(ScheduleFree(warmup=0.25), SGD).lr_trace
    updates = train(ScheduleFree(warmup=0.25), SGD).trace_updates
    assert trace.shape == (len(updates), 2, 4)
    assert trace[:, 0, 0].tolist() == pytest.approx([min(1.0, (update + 1) / 15) for update in updates])
    assert torch.equal(trace, trace[:, :1, :1].expand_as(trace))


@pytest.mark.parametrize("entry", [Prodigy(), Prodigy(anneal=True), Prodigy(bias_correction=False)], ids=str)
def test_the_trace_of_prodigy_is_the_step_that_it_makes(entry: Prodigy) -> None:
    """Without memory, an update of Adam is the learning rate times the sign of the gradient, so it shows the rate."""
    spec = OptimizerSpec(name="adam", betas=(1e-12, 0.0))
    engine = make_engine(make_workload("mlp", spec, UPDATES), "loop", torch.float64)
    population = engine.population(
        [1], 0.0, optimizers=[lambda own, decay: entry.optimizer(own, decay, engine.workload.spec)]
    )
    rates = []
    for update in range(UPDATES):
        before = parameters(population).clone()
        lr = torch.full((1, engine.layout.n_layers), entry.factor(update, UPDATES), dtype=torch.float64)
        population.advance(Controls(lr), 1)
        moved = (parameters(population) - before).abs().max().item()
        rates.append(moved)
        assert population.applied_lr[0, 0].tolist() == pytest.approx([moved] * engine.layout.n_layers, rel=1e-3)
    assert max(rates) > 1.5 * rates[0]  # the estimate grows


# Runs and their neighbours


@BACKENDS
@pytest.mark.parametrize("model", ["mlp", pytest.param("decoder", marks=pytest.mark.slow(group="engine"))])
@pytest.mark.parametrize("entry", [ScheduleFree(), Prodigy()], ids=["schedule-free", "prodigy"])
def test_a_run_is_the_same_in_a_population_of_any_size(entry: OptimizerEntry, model: str, backend: str) -> None:
    spec, n_updates = (ADAMW, 8) if model == "decoder" else (SGD, UPDATES)
    alone = train(entry, spec, backend, model, [7], 2, n_updates)
    for seeds in ([7, 1], [1, 2, 7], [*range(10, 15), 7, 7]):
        among = train(entry, spec, backend, model, seeds, 2, n_updates)
        for run in (index for index, seed in enumerate(seeds) if seed == 7):
            assert torch.equal(parameters(among.population)[run], parameters(alone.population)[0])
            for name in ("train_loss", "val_loss", "lr_trace"):
                assert torch.equal(getattr(among, name)[:, run], getattr(alone, name)[:, 0]), (name, seeds)


def test_a_run_is_the_same_in_whichever_chunk() -> None:
    engine = make_engine(make_workload("mlp", SGD, UPDATES), "loop")
    whole = drive(engine, [Contestant(Prodigy(), 1.0, DECAY)], [1, 2, 3, 4, 5])
    engine.chunk = 2
    cut = drive(engine, [Contestant(Prodigy(), 1.0, DECAY)], [1, 2, 3, 4, 5])
    assert torch.equal(cut.val_loss, whole.val_loss)
    assert torch.equal(cut.lr_trace, whole.lr_trace)


def test_it_starts_like_everyone_and_sees_the_same_data() -> None:
    engine = make_engine(make_workload("mlp", SGD, UPDATES, n_evaluations=UPDATES), "loop")
    entry, cosine = load_scheduler("prodigy"), load_scheduler("default:cosine")
    free = drive(engine, [contestant(entry, default_config(entry, "sgd"))], SEEDS)
    usual = drive(engine, [contestant(cosine, default_config(cosine, "sgd"))], SEEDS)
    assert torch.equal(free.train_loss[0], usual.train_loss[0])  # measured before anything is updated
    # Prodigy's first steps are of 1e-6: the second batch's loss shows the batch, not the step.
    assert free.train_loss[1].tolist() != usual.train_loss[1].tolist()
    assert free.train_loss[1].tolist() == pytest.approx(usual.train_loss[1].tolist(), rel=0.2)


# Divergence


@BACKENDS
@pytest.mark.parametrize("spec", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_divergence_is_an_outcome_and_nobody_elses(spec: OptimizerSpec, backend: str) -> None:
    entry = ScheduleFree(warmup=0.0)
    engine = make_engine(make_workload("mlp", spec, UPDATES), backend)
    good = Contestant(entry, entry.released(spec.name).base_lr, DECAY)
    together = drive(engine, [Contestant(entry, 1e30, DECAY), good], SEEDS)
    alone = drive(engine, [good], SEEDS)
    diverged = together.population.diverged
    assert diverged.tolist() == [True, True, False, False]
    at = together.population.diverged_at[:2]
    assert ((at > 0) & (at < 5)).all()
    assert together.val_loss[:, :2].isnan().all()
    assert together.lr_trace[-1, :2].isnan().all()
    assert (together.lr_trace[0, :2] == 1e30).all()
    assert torch.equal(together.val_loss[:, 2:], alone.val_loss)
    assert torch.equal(together.lr_trace[:, 2:], alone.lr_trace)
    assert not parameters(together.population)[:2].any()


# Properties of the entry


@pytest.mark.parametrize("name", ["schedule-free", "prodigy"])
@pytest.mark.parametrize(("optimizer", "decay"), [("sgd", 1e-4), ("adam", 1e-4), ("adamw", 1e-2)])
def test_its_learning_rate_is_of_the_literature_and_its_decay_the_benchmarks(
    name: str, optimizer: str, decay: float
) -> None:
    expected = {"schedule-free": {"sgd": 1.0, "adam": 0.0025, "adamw": 0.0025}}.get(name, {}).get(optimizer, 1.0)
    entry = load_scheduler(name)
    assert default_config(entry, optimizer) == {"base_lr": expected, "weight_decay": decay}
    assert (entry.zero_shot, entry.search_space) == (True, {})


def test_another_release_is_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: load_scheduler(name).code for name in ("schedule-free", "prodigy", "cosine")}
    monkeypatch.setattr("ganno_bench.schedulers.optimizer_entry.version", lambda package: "9.9")
    changed = {name: load_scheduler(name).code != code for name, code in before.items()}
    assert changed == {"schedule-free": True, "prodigy": True, "cosine": False}


def test_an_optimizer_that_it_does_not_replace_is_named() -> None:
    class Narrow(ScheduleFree):
        replaces = {"sgd": ScheduleFree.replaces["sgd"]}  # noqa: RUF012

    with pytest.raises(PluginError, match=r"^scheduler 'Narrow' replaces sgd, not 'adamw'$"):
        Narrow.released("adamw")


def test_a_warmup_that_is_no_share_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^scheduler 'schedule-free\(warmup=5\)': warmup must be in \[0, 1\) \(value: 5.0\)$"
    ):
        load_scheduler("schedule-free(warmup=5)")


def test_prodigys_first_estimate_can_be_pinned_and_is_the_packages_otherwise() -> None:
    entry = load_scheduler("prodigy(d0=1e-3)")
    assert (entry.name, entry.code) == ("prodigy(d0=0.001)", load_scheduler("prodigy").code)
    assert train(Prodigy(), SGD, n_updates=4).lr_trace[0, 0, 0] == pytest.approx(1e-6)
    assert train(Prodigy(d0=1e-3), SGD, n_updates=4).lr_trace[0, 0, 0] == pytest.approx(1e-3)
    with pytest.raises(ConfigError, match=r"^scheduler 'prodigy\(d0=0\)': d0 must be above 0 \(value: 0.0\)$"):
        load_scheduler("prodigy(d0=0)")


@pytest.mark.parametrize("entry", [Prodigy(), Prodigy(d0=1e-3)], ids=str)
def test_prodigy_rests_where_its_rate_becomes_0(entry: Prodigy) -> None:
    """With several groups, a group would continue along its momentum; a run has one group."""
    spec = make_workload("mlp", ADAMW, UPDATES).spec
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = entry.optimizer([weight], 0.0, spec)
    points = []
    for rate in [1.0] * 20 + [0.0] * 20:
        weight.grad = 3.0 * weight.detach()
        optimizer.step(rate)
        points.append(weight.detach().clone())
    assert not torch.equal(points[0], points[19])
    assert torch.equal(points[19], points[-1])


def test_signals_of_layers_are_refused() -> None:
    engine = make_engine(make_workload("mlp", SGD, UPDATES), "loop")
    maker = [lambda own, decay: Prodigy().optimizer(own, decay, engine.workload.spec)]
    with pytest.raises(ConfigError, match="signal 'grad_norm' cannot be measured with an open optimizer"):
        engine.population([1], 0.0, ["val_loss", "grad_norm"], maker)
    with pytest.raises(ConfigError, match="a population with open optimizers cannot be saved"):
        engine.population([1], 0.0, ["val_loss"], maker).state_dict()
