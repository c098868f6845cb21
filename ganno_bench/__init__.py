"""A benchmark for learning-rate schedulers, each tuned by Optuna with the same budget."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganno_bench.api import Report, evaluate, load_records, run, tune
    from ganno_bench.integrations.layer_groups import layer_groups
    from ganno_bench.integrations.torch_loop import GannoScheduler

__all__ = ["GannoScheduler", "Report", "__version__", "evaluate", "layer_groups", "load_records", "run", "tune"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported on first use: torch and optuna would slow down `import ganno_bench`.
    if name in ("Report", "evaluate", "load_records", "run", "tune"):
        from ganno_bench import api

        return getattr(api, name)
    if name == "GannoScheduler":
        from ganno_bench.integrations.torch_loop import GannoScheduler

        return GannoScheduler
    if name == "layer_groups":
        from ganno_bench.integrations.layer_groups import layer_groups

        return layer_groups
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
