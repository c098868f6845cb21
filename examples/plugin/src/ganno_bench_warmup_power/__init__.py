"""The learning-rate scheduler warmup-power, for ganno-bench."""

from ganno_bench_warmup_power.scheduler import WarmupPower

__all__ = ["WarmupPower"]
