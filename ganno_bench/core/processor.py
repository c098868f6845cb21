"""The processor of this machine."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch

__all__ = ["processor", "processor_features"]


@cache
def processor() -> str:
    """Return the processor's model and the instruction set that PyTorch uses."""
    models = _lines("model name")
    model = models[0] if models else platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


@cache
def processor_features() -> str:
    """Return all that a compiler for this very processor may depend on: its model, instruction sets and caches."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in PyTorch 2.9
    known = [f"{name}={value}" for name, value in sorted(capabilities.items()) if not name.startswith("num_")]
    return "; ".join([platform.machine(), processor(), *_lines("flags")[:1], *known])


def _lines(key: str) -> list[str]:
    """Return the values of a key in Linux's description of the processors."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return []
    return [line.partition(":")[2].strip() for line in lines if line.startswith(key)]
