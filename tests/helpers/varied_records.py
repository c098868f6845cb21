"""Made-up records of a suite that varies something: how far an entry comes down is a share of what cosine does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ganno_bench.core.records import RunRecord
from ganno_bench.core.seeding import stream_seed
from tests.helpers.fake_records import make_record

WORKLOADS = {"a": 0.5, "b": 1.0}
"""Workload -> test loss of tuned cosine."""
SETTINGS = (("base_lr", 0.1), ("base_lr", 10.0), ("horizon", 2.0))
_TIMES = {("base_lr", 0.1): 1.2, ("base_lr", 10.0): 2.0, ("horizon", 2.0): 0.9}
"""What each does to cosine's loss."""


def loss_of(reference: float, factor: str | None, multiple: float, share: float) -> float:
    """Return the test loss of an entry that comes down (or up) by a share of what cosine does."""
    return reference * (1.0 if factor is None else _TIMES[factor, multiple] ** share)


def varied_benchmark(
    entries: Mapping[str, float], *, luck: float = 0.1, n_seeds: int = 4, zero_shot: Sequence[str] = ()
) -> list[RunRecord]:
    """Return report and varied runs.

    Args:
        entries: Entry -> share.
        luck: Spread of a seed's luck, which is the same under every setting.
        n_seeds: Of the report and of what is varied.
        zero_shot: Entries that are not tuned.
    """
    records = []
    for name, share in entries.items():
        for workload, reference in WORKLOADS.items():
            for factor, multiple in ((None, 1.0), *SETTINGS):
                for seed in range(n_seeds):
                    drawn = np.random.default_rng(stream_seed(workload, seed)).normal(0, luck) if luck else 0.0
                    base_lr = 0.1 * (multiple if factor == "base_lr" else 1)
                    varied: dict[str, Any] = {"role": "varied", "factor": factor, "multiple": multiple}
                    records.append(
                        make_record(
                            **(varied if factor else {}),
                            trial=0 if name in zero_shot else 3,
                            ruleset="zero-shot" if name in zero_shot else "tuned",
                            scheduler=name,
                            workload=workload,
                            seed=seed,
                            config={"base_lr": base_lr, "weight_decay": 0.0},
                            test_loss=loss_of(reference, factor, multiple, share) * math.exp(drawn),
                        )
                    )
    return records
