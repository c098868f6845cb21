"""Named, independent random streams derived from one root seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["run_seeds", "stream_seed", "study_seed"]


def stream_seed(*path: str | int) -> int:
    """Return the seed of the stream that `path` names.

    Different paths give independent seeds. The same path gives the same seed on every machine and Python version. So
    code that draws random numbers does not depend on other code that does.

    Args:
        path: Purpose of the stream, from the general to the particular, such as `("report", 3, "data-order")`.

    Returns:
        An integer in [0, 2^63); all random generators of the project accept it.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def run_seeds(role: str, study: int, n: int) -> Sequence[int]:
    """Return the seeds of the runs of one role, the same for every scheduler and workload.

    Tuning and report never share a seed. Every study has its own tuning seeds; all studies have the same report seeds.
    Varied runs use report seeds.
    """
    path = ("tuning", study) if role == "tuning" else ("report",)
    return [stream_seed(*path, index) for index in range(n)]


def study_seed(study: int, suite_hash: str, workload: str, scheduler: str) -> int:
    """Return the seed of a study's Optuna sampler."""
    return stream_seed("study", study, suite_hash, workload, scheduler)
