"""Named, independent random streams derived from one root seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["run_seeds", "stream_seed", "study_seed"]


def stream_seed(*path: str | int) -> int:
    """Return the seed of the stream that `path` names.

    Two different paths give independent seeds, and the same path gives the same seed on every machine and Python
    version, so nothing that draws numbers has to know what else does.

    Args:
        path: What the stream is for, from the general to the particular, such as `("report", 3, "data-order")`.

    Returns:
        An integer in [0, 2^63), which every generator in use accepts.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in path)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def run_seeds(role: str, study: int, n: int) -> Sequence[int]:
    """Return the seeds of the runs of one role, the same for every scheduler and workload.

    Tuning and report never share a seed; another study has other tuning seeds, and the same report seeds. What is
    varied of a report has its seeds.
    """
    path = ("tuning", study) if role == "tuning" else ("report",)
    return [stream_seed(*path, index) for index in range(n)]


def study_seed(study: int, suite_hash: str, workload: str, scheduler: str) -> int:
    """Return the seed of the sampler of a tuning study."""
    return stream_seed("study", study, suite_hash, workload, scheduler)
