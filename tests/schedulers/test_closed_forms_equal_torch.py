from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from ganno_bench.testing.synthetic import synthetic_runs
from tests.helpers.scheduler_cases import learning_rates, torch_curve

Make = Callable[..., LRScheduler]
HORIZONS = (1, 2, 3, 7, 60, 1200)


def restarts(optimizer: Optimizer, base: float, first: int, multiplier: int, final: float) -> LRScheduler:
    return CosineAnnealingWarmRestarts(optimizer, T_0=first, T_mult=multiplier, eta_min=final * base)


def warmup_cosine(optimizer: Optimizer, base: float, total: int, warmup: int, final: float) -> LRScheduler:
    cosine = partial(CosineAnnealingLR, T_max=total - warmup, eta_min=final * base)
    if warmup == 0:
        return cosine(optimizer)
    rise = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return SequentialLR(optimizer, [rise, cosine(optimizer)], milestones=[warmup])


def wsd(optimizer: Optimizer, base: float, total: int, warmup: int, cooldown: int) -> LRScheduler:
    return SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup),
            ConstantLR(optimizer, factor=1.0),
            LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=cooldown),
        ],
        milestones=[warmup, total - cooldown],
    )


def multi_step(optimizer: Optimizer, total: int, n_drops: int, gamma: float) -> LRScheduler:
    milestones = [-(-total * (drop + 1) // (n_drops + 1)) for drop in range(n_drops)]
    return MultiStepLR(optimizer, milestones, gamma)


# Reference, and the torch scheduler for (optimizer, base learning rate, horizon).
ANY_HORIZON: list[tuple[str, Make]] = [
    ("constant", lambda o, base, total: ConstantLR(o, factor=1.0)),
    *[
        (f"step(n_drops={n}, gamma={g})", lambda o, base, total, n=n, g=g: multi_step(o, total, n, g))
        for n, g in ((1, 0.5), (2, 0.1), (6, 0.8))
    ],
    *[
        (f"cosine(final_factor={f})", lambda o, base, total, f=f: CosineAnnealingLR(o, total, eta_min=f * base))
        for f in (0.0, 0.1, 0.2)
    ],
    *[
        (f"linear(final_factor={f})", lambda o, base, total, f=f: LinearLR(o, 1.0, f, total_iters=total))
        for f in (0.0, 0.1, 0.2)
    ],
    *[
        (f"polynomial(power={p})", lambda o, base, total, p=p: PolynomialLR(o, total_iters=total, power=p))
        for p in (0.5, 0.9, 2.0, 4.0)
    ],
    *[
        (f"exponential(final_factor={f})", lambda o, base, total, f=f: ExponentialLR(o, gamma=f ** (1 / total)))
        for f in (1e-4, 0.01, 0.5)
    ],
    *[
        (
            f"warmup-cosine(warmup={w}, final_factor={f})",
            lambda o, base, total, w=w, f=f: warmup_cosine(o, base, total, round(w * total), f),
        )
        for w, f in ((0.0, 0.0), (0.05, 0.0), (0.2, 0.1))
    ],
    (
        "cosine-restarts(n_cycles=1, multiplier=1, final_factor=0.1)",
        lambda o, base, total: restarts(o, base, total, 1, 0.1),
    ),
    *[
        (
            f"one-cycle(peak={p}, start_factor={s}, final_factor={f})",
            lambda o, base, total, p=p, s=s, f=f: OneCycleLR(
                o, base, total, pct_start=p, div_factor=1 / s, final_div_factor=s / f, cycle_momentum=False
            ),
        )
        for p, s, f in ((0.3, 0.04, 4e-6), (0.45, 0.01, 1e-3), (0.1, 0.5, 0.1))
    ],
]
LONG_HORIZON: list[tuple[str, Make]] = [
    *[
        (
            f"step(n_drops={n}, gamma=0.3)",
            lambda o, base, total, n=n: StepLR(o, step_size=total // (n + 1), gamma=0.3),
        )
        for n in (1, 2, 3, 5)
    ],
    *[
        (
            f"cosine-restarts(n_cycles={n}, multiplier={m})",
            lambda o, base, total, n=n, m=m: restarts(o, base, total // sum(m**i for i in range(n)), m, 0.0),
        )
        for n, m in ((2, 1), (3, 1), (5, 1), (2, 2), (4, 2), (2, 3))
    ],
    *[
        (
            f"wsd(shape='linear', warmup={w}, cooldown={c})",
            lambda o, base, total, w=w, c=c: wsd(o, base, total, round(w * total), round(c * total)),
        )
        for w, c in ((0.05, 0.2), (0.2, 0.5))
    ],
]


def assert_equal_to_torch(ref: str, make: Make, total: int) -> None:
    ours = learning_rates(ref, total)
    for run, base in enumerate(synthetic_runs(1).base_lr.tolist()):
        theirs = torch.tensor(torch_curve(partial(make, base=base, total=total), base, total), dtype=torch.float64)
        for layer in range(ours.shape[2]):
            # The absolute tolerance is for 1 + cos(x) near x = pi, which loses most digits.
            torch.testing.assert_close(ours[:, run, layer], theirs, rtol=1e-12, atol=1e-15 * base)


def case_id(value: Any) -> str | None:
    return value if isinstance(value, str) else "" if callable(value) else None


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # SequentialLR steps its parts by itself
@pytest.mark.parametrize("total", HORIZONS)
@pytest.mark.parametrize(("ref", "make"), ANY_HORIZON, ids=case_id)
def test_equals_torch_at_every_update(ref: str, make: Make, total: int) -> None:
    assert_equal_to_torch(ref, make, total)


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize("total", [60, 420, 1260])
@pytest.mark.parametrize(("ref", "make"), LONG_HORIZON, ids=case_id)
def test_equals_torch_where_the_phases_are_whole_numbers(ref: str, make: Make, total: int) -> None:
    assert_equal_to_torch(ref, make, total)
