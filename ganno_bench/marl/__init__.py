"""Training of policies: a TorchRL environment over the engine, tasks, rewards and the MAPPO trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganno_bench.marl.env import LayerwiseLREnv, make_env

__all__ = ["LayerwiseLREnv", "make_env"]


def __getattr__(name: str) -> Any:
    # TorchRL takes seconds to import.
    if name in __all__:
        from ganno_bench.marl import env

        return getattr(env, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
