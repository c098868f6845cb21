"""Schedules of transformers and timm: each learning rate equals the one of the library's own loop."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from ganno_bench.core.errors import ConfigError, MissingPackageError, PluginError, UnknownNameError, UserError
from ganno_bench.schedulers import library_schedule
from ganno_bench.schedulers.library_schedule import new_optimizer
from ganno_bench.schedulers.registry import load_scheduler
from ganno_bench.schedulers.timm_schedule import timm_schedule
from ganno_bench.schedulers.transformers_schedule import transformers_schedule
from ganno_bench.testing.playing import ContractError
from ganno_bench.testing.scheduler_contract import check_scheduler
from ganno_bench.testing.synthetic import synthetic_runs
from tests.helpers.extras import library
from tests.helpers.scheduler_cases import learning_rates, torch_curve

TOTAL = 700  # more than a block

# Reference -> name, warmup, and further arguments of `get_scheduler` for a base learning rate.
TRANSFORMERS: dict[str, tuple[str, int, Callable[[float], dict[str, Any]]]] = {
    "transformers:linear(num_warmup_steps=70)": ("linear", 70, lambda b: {}),
    "transformers:cosine": ("cosine", 0, lambda b: {}),
    "transformers:cosine_with_restarts(num_cycles=2)": ("cosine_with_restarts", 0, lambda b: {"num_cycles": 2}),
    "transformers:polynomial(power=2, lr_end=0.01)": (
        "polynomial",
        0,
        lambda b: {"power": 2.0, "lr_end": 0.01 * b},
    ),
    "transformers:constant": ("constant", 0, lambda b: {}),
    "transformers:constant_with_warmup(num_warmup_steps=30)": ("constant_with_warmup", 30, lambda b: {}),
    "transformers:inverse_sqrt(num_warmup_steps=40)": ("inverse_sqrt", 40, lambda b: {}),
    "transformers:inverse_sqrt(num_warmup_steps=40, timescale=90)": ("inverse_sqrt", 40, lambda b: {"timescale": 90}),
    "transformers:cosine_with_min_lr(min_lr=0.1, num_warmup_steps=9)": (
        "cosine_with_min_lr",
        9,
        lambda b: {"min_lr": 0.1 * b},
    ),
    "transformers:cosine_with_min_lr(min_lr_rate=0.2)": ("cosine_with_min_lr", 0, lambda b: {"min_lr_rate": 0.2}),
    "transformers:cosine_warmup_with_min_lr(num_warmup_steps=50, min_lr_rate=0.1, warmup_lr_rate=0.3)": (
        "cosine_warmup_with_min_lr",
        50,
        lambda b: {"min_lr_rate": 0.1, "warmup_lr_rate": 0.3},
    ),
    "transformers:warmup_stable_decay(num_decay_steps=200, num_warmup_steps=50)": (
        "warmup_stable_decay",
        50,
        lambda b: {"num_decay_steps": 200},
    ),
}
# Reference -> class, and its arguments for a base learning rate.
TIMM: dict[str, tuple[str, Callable[[float], dict[str, Any]]]] = {
    "timm:CosineLRScheduler": ("CosineLRScheduler", lambda b: {"t_initial": TOTAL}),
    "timm:CosineLRScheduler(warmup_t=60, warmup_lr_init=0.01, lr_min=0.001)": (
        "CosineLRScheduler",
        lambda b: {"t_initial": TOTAL, "warmup_t": 60, "warmup_lr_init": 0.01 * b, "lr_min": 0.001 * b},
    ),
    "timm:CosineLRScheduler(t_initial=100, cycle_limit=7, cycle_decay=0.5, warmup_t=20, warmup_prefix=True)": (
        "CosineLRScheduler",
        lambda b: {"t_initial": 100, "cycle_limit": 7, "cycle_decay": 0.5, "warmup_t": 20, "warmup_prefix": True},
    ),
    "timm:TanhLRScheduler(warmup_t=50)": ("TanhLRScheduler", lambda b: {"t_initial": TOTAL, "warmup_t": 50}),
    "timm:PolyLRScheduler(power=2)": ("PolyLRScheduler", lambda b: {"t_initial": TOTAL, "power": 2.0}),
    "timm:StepLRScheduler(decay_t=90, decay_rate=0.5)": (
        "StepLRScheduler",
        lambda b: {"decay_t": 90.0, "decay_rate": 0.5},
    ),
    "timm:MultiStepLRScheduler(decay_t=[10, 600], decay_rate=0.1)": (
        "MultiStepLRScheduler",
        lambda b: {"decay_t": [10, 600], "decay_rate": 0.1},
    ),
    "timm:StepLRScheduler(decay_t=90, decay_rate=0.5, noise_range_t=300)": (
        "StepLRScheduler",
        lambda b: {"decay_t": 90.0, "decay_rate": 0.5, "noise_range_t": 300},
    ),
    "timm:WSDLRScheduler(decay_t=150, warmup_t=20)": (
        "WSDLRScheduler",
        lambda b: {"t_initial": TOTAL - 20, "decay_t": 150, "warmup_t": 20},
    ),
}


def equal_at_every_update(ref: str, theirs: Callable[[float], list[float]]) -> bool:
    ours = learning_rates(ref, TOTAL)
    expected = [torch.tensor(theirs(base), dtype=torch.float64) for base in synthetic_runs(1).base_lr.tolist()]
    return all(
        ours[:, run].equal(curve.clamp(min=0.0)[:, None].expand(-1, ours.shape[2]))
        for run, curve in enumerate(expected)
    )


@pytest.mark.parametrize("ref", TRANSFORMERS)
def test_equals_the_schedule_of_transformers(ref: str) -> None:
    optimization = library("transformers.optimization")
    name, warmup, arguments = TRANSFORMERS[ref]

    def theirs(base: float) -> list[float]:
        return torch_curve(
            lambda optimizer: optimization.get_scheduler(name, optimizer, warmup, TOTAL, arguments(base) or None),
            base,
            TOTAL,
        )

    assert equal_at_every_update(ref, theirs)
    assert name in ("constant",) or len(set(theirs(1.0))) > 2  # equality means something


@pytest.mark.parametrize("ref", TIMM)
def test_equals_the_scheduler_of_timm(ref: str) -> None:
    scheduler = library("timm.scheduler")
    name, arguments = TIMM[ref]

    def theirs(base: float) -> list[float]:
        optimizer = new_optimizer(base)
        schedule = getattr(scheduler, name)(optimizer, t_in_epochs=False, **arguments(base))
        curve = [optimizer.param_groups[0]["lr"]]
        for update in range(1, TOTAL):
            schedule.step_update(num_updates=update)
            curve.append(optimizer.param_groups[0]["lr"])
        return curve

    assert equal_at_every_update(ref, theirs)
    assert len(set(theirs(1.0))) > 2


# `sched` of timm's factory, its arguments, and an equal reference.
FACTORY: list[tuple[str, dict[str, Any], str]] = [
    ("cosine", {}, "CosineLRScheduler"),
    ("cosine", {"cycle_limit": 3, "cycle_decay": 0.5}, "CosineLRScheduler(cycle_limit=3, cycle_decay=0.5)"),
    (
        "cosine",
        {"cycle_limit": 3, "cycle_decay": 0.5, "cycle_mul": 2.0},
        "CosineLRScheduler(cycle_limit=3, cycle_decay=0.5, cycle_mul=2)",
    ),
    ("cosine", {"cycle_decay": 1.0, "k_decay": 2.0}, "CosineLRScheduler(k_decay=2)"),
    ("tanh", {}, "TanhLRScheduler"),
    ("tanh", {"cycle_limit": 2, "cycle_decay": 0.5}, "TanhLRScheduler(cycle_limit=2, cycle_decay=0.5)"),
    ("poly", {"decay_rate": 0.9}, "PolyLRScheduler(power=0.9)"),
    ("poly", {"decay_rate": 2.0, "cycle_limit": 2}, "PolyLRScheduler(power=2, cycle_limit=2, cycle_decay=0.1)"),
    ("wsd", {"decay_epochs": 100}, "WSDLRScheduler(decay_t=100)"),
    ("wsd", {"decay_epochs": 100, "decay_fn": "linear"}, "WSDLRScheduler(decay_t=100, decay_fn='linear')"),
    (
        "rsqrt",
        {"decay_epochs": 100, "stable_timescale": 50.0},
        "WSDLRScheduler(decay_t=100, stable_fn='rsqrt', decay_fn='linear', stable_timescale=50)",
    ),
    ("step", {"decay_epochs": 90}, "StepLRScheduler(decay_t=90, decay_rate=0.1)"),
    ("multistep", {"decay_milestones": [90, 500]}, "MultiStepLRScheduler(decay_t=[90, 500], decay_rate=0.1)"),
]


@pytest.mark.parametrize("warmup", [0, 70])
@pytest.mark.parametrize("prefix", [False, True])
@pytest.mark.parametrize(("sched", "arguments", "ref"), FACTORY, ids=[ref for *_, ref in FACTORY])
def test_a_schedule_ends_with_the_run_as_timms_own_factory_has_it(
    sched: str, arguments: dict[str, Any], ref: str, prefix: bool, warmup: int
) -> None:
    scheduler = library("timm.scheduler")
    base, optimizer = 0.3, new_optimizer(0.3)
    cycles = range(arguments.get("cycle_limit", 1))
    cyclic = sum(arguments.get("cycle_mul", 1.0) ** cycle for cycle in cycles)
    schedule, length = scheduler.create_scheduler_v2(
        optimizer,
        sched,
        num_epochs=int((TOTAL - prefix * warmup) / cyclic),  # epochs of one update
        warmup_epochs=warmup,
        warmup_prefix=prefix,
        warmup_lr=0.01 * base,
        min_lr=0.001 * base,
        **arguments,
    )
    assert TOTAL - cyclic < length <= TOTAL  # the length that the factory reports
    theirs = [optimizer.param_groups[0]["lr"]]
    for update in range(1, TOTAL):
        schedule.step(update)
        theirs.append(optimizer.param_groups[0]["lr"])
    more = [f"warmup_t={warmup}", "warmup_lr_init=0.01"]
    if sched not in ("step", "multistep"):
        more.append("lr_min=0.001")
    if sched not in ("wsd", "rsqrt"):  # their warmup always comes before
        more.append(f"warmup_prefix={prefix}")
    name, _, own = ref.removesuffix(")").partition("(")
    run = synthetic_runs(TOTAL)
    ours = load_scheduler(f"timm:{name}({', '.join([*filter(None, [own]), *more])})").build({})
    info = replace(run.info(), base_lr=torch.full_like(run.base_lr, base))
    assert ours.init(info)[:, 0].tolist() == theirs


def test_what_is_given_as_the_length_is_the_length() -> None:
    library("timm")
    given = learning_rates("timm:CosineLRScheduler(t_initial=100, warmup_t=20, warmup_prefix=True)", TOTAL)
    assert given[119].max() > 0.0
    assert not given[120:].any()


def test_a_run_may_be_shorter_than_the_warmup() -> None:
    library("timm")
    lrs = learning_rates("timm:CosineLRScheduler(warmup_t=50, warmup_prefix=True)", 40)[:, 0, 0]
    assert (lrs / synthetic_runs(1).base_lr[0]).tolist() == pytest.approx([update / 50 for update in range(40)])


def test_lengths_may_be_those_of_long_runs() -> None:
    library("timm")
    assert load_scheduler("timm:WSDLRScheduler(warmup_t=2000, decay_t=3000)").pinned["decay_t"] == 3000


@pytest.mark.parametrize(
    "ref",
    [
        "linear",
        "cosine",
        "cosine_with_restarts(num_cycles=2)",
        "polynomial(lr_end=0.0)",
        "cosine_with_min_lr(min_lr=0.0)",
        "cosine_warmup_with_min_lr(min_lr=0.0)",
        "warmup_stable_decay(num_decay_steps=100)",
    ],
)
@pytest.mark.parametrize("warmup", [0, 70])
def test_a_decay_of_transformers_ends_with_the_run(ref: str, warmup: int) -> None:
    library("transformers.optimization")
    name, _, own = ref.removesuffix(")").partition("(")
    arguments = ", ".join(filter(None, [own, f"num_warmup_steps={warmup}"]))
    lrs = learning_rates(f"transformers:{name}({arguments})", TOTAL)[:, 0, 0] / synthetic_runs(1).base_lr[0]
    assert lrs[warmup : warmup + 2].max() > 0.99
    assert lrs[-100] > 0.01
    assert lrs[-1] < 0.005
    assert (lrs[-50:].diff() < 0).all()


def test_a_plateau_of_given_length_ends_where_it_says() -> None:
    library("transformers")
    ref = "transformers:warmup_stable_decay(num_decay_steps=100, num_stable_steps=300, num_warmup_steps=50)"
    lrs = learning_rates(ref, TOTAL)[:, 0, 0] / synthetic_runs(1).base_lr[0]
    assert lrs[50:350].tolist() == pytest.approx([1.0] * 300)
    assert lrs[351] < 1.0
    assert lrs[450:].tolist() == [0.0] * 250


def test_every_schedule_is_covered_or_refused() -> None:
    optimization = library("transformers.optimization")
    scheduler = library("timm.scheduler")
    names = {f"transformers:{kind.value}" for kind in optimization.TYPE_TO_SCHEDULER_FUNCTION}
    names |= {f"timm:{name}" for name, value in vars(scheduler).items() if isinstance(value, type)}
    for name in names - {ref.partition("(")[0] for ref in (*TRANSFORMERS, *TIMM)}:
        with pytest.raises(PluginError, match="needs a metric at every step; use the scheduler 'plateau'"):
            load_scheduler(name)


@pytest.mark.parametrize(
    "ref", ["transformers:cosine_with_restarts(num_cycles=2)", "timm:TanhLRScheduler(warmup_t=5, warmup_lr_init=0.1)"]
)
def test_the_contract_holds(ref: str) -> None:
    library(ref.partition(":")[0])
    assert [result.message for result in check_scheduler(ref) if not result.ok] == []


def test_arguments_are_pinned_and_another_release_is_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    library("timm")
    entry = load_scheduler("timm:PolyLRScheduler(power=2)")
    assert (entry.name, entry.search_space, entry.zero_shot) == ("timm:PolyLRScheduler(power=2.0)", {}, False)
    assert entry.packages == ("timm",)
    assert entry.open_optimizer("sgd") is None
    monkeypatch.setattr(library_schedule, "version", lambda package: "9.9")
    assert load_scheduler("timm:PolyLRScheduler(power=2)").code != entry.code


@pytest.mark.parametrize(
    ("ref", "error", "message"),
    [
        (
            "transformers:cosine_with_restart",
            UnknownNameError,
            "no schedule '.*'; did you mean 'cosine_with_restarts'?",
        ),
        ("timm:TanLRScheduler", UnknownNameError, "timm has no schedule '.*'; did you mean 'TanhLRScheduler'?"),
        ("timm:StepLRScheduler", ConfigError, r"needs a value for decay_t: timm:StepLRScheduler\(decay_t=...\)"),
        ("timm:TanhLRScheduler(warmup=5)", UnknownNameError, "no hyperparameter 'warmup'; did you mean 'warmup_t'?"),
        ("timm:TanhLRScheduler(t_in_epochs=True)", UnknownNameError, "no hyperparameter 't_in_epochs'"),
        ("timm:TanhLRScheduler(lr_min=-1.0)", ConfigError, "timm refuses its arguments: AssertionError"),
        (
            "transformers:cosine_with_min_lr",
            ConfigError,
            "transformers refuses its arguments: ValueError: One of min_lr",
        ),
        ("transformers:polynomial(lr_end=2.0)", ConfigError, "transformers refuses its arguments: ValueError: lr_end"),
        ("transformers:cosine(warmup_ratio=0.1)", UnknownNameError, "'warmup_ratio'; valid: .*num_warmup_steps"),
        ("transformers:greedy", PluginError, "needs a metric at every step; use the scheduler 'plateau'"),
    ],
)
def test_errors_say_what_to_do(ref: str, error: type[UserError], message: str) -> None:
    library(ref.partition(":")[0])
    with pytest.raises(error, match=message):
        load_scheduler(ref)


def test_negative_learning_rates_are_refused() -> None:
    library("timm")
    with pytest.raises(ContractError, match=r"timm:StepLRScheduler gives the learning rate -0\.005"):
        learning_rates("timm:StepLRScheduler(decay_t=1, decay_rate=-0.5)", 5)


@pytest.mark.parametrize(
    ("ref", "package", "module"),
    [
        ("transformers:cosine", "transformers", "transformers.optimization"),
        ("timm:TanhLRScheduler", "timm", "timm.scheduler"),
        ("pytorch-optimizer:Lion", "pytorch-optimizer", "pytorch_optimizer"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    ref: str, package: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ganno_bench.schedulers.optimizer_library import library_optimizer

    for made in (transformers_schedule, timm_schedule, library_optimizer):
        made.cache_clear()
    for name in list(sys.modules):
        if name.partition(".")[0] == module.partition(".")[0]:
            monkeypatch.delitem(sys.modules, name)
    top = module.partition(".")[0]

    class Missing:
        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name.partition(".")[0] == top:
                raise ModuleNotFoundError(f"No module named {top!r}", name=top)

    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    with pytest.raises(MissingPackageError) as caught:
        load_scheduler(ref)
    assert str(caught.value) == (
        f"scheduler {ref!r} needs the package {package!r}, which is not installed: pip install 'ganno-bench[ecosystem]'"
    )


@pytest.mark.parametrize(
    ("ref", "key"),
    [
        ("transformers:linear(num_training_steps=0)", "num_training_steps must be a whole number of at least 1"),
        ("transformers:linear(num_warmup_steps=-5)", "num_warmup_steps must be a whole number of at least 0"),
        ("transformers:warmup_stable_decay(num_decay_steps=-4)", "num_decay_steps must be"),
        ("timm:CosineLRScheduler(cycle_limit=0)", "cycle_limit must be a whole number of at least 1"),
        ("timm:StepLRScheduler(decay_t=0)", "decay_t must be"),
        ("timm:StepLRScheduler(decay_t=0.5)", "decay_t must be"),
        ("timm:MultiStepLRScheduler(decay_t=[-4])", "decay_t must be"),
        ("torch:MultiStepLR(milestones=[2.5])", "milestones must be"),
        ("torch:MultiStepLR(milestones=[-3,5])", "milestones must be"),
    ],
)
def test_a_length_that_cannot_be_is_refused(ref: str, key: str) -> None:
    """Without the check, each of them would give unexpected learning rates."""
    library(ref.partition(":")[0])
    with pytest.raises(ConfigError, match=key):
        load_scheduler(ref)
