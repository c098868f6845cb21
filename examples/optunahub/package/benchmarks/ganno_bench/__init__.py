"""Tuning learning-rate schedules on real training runs, as a benchmark problem for samplers."""

from ganno_bench.integrations.optunahub import SchedulerProblem as Problem

__all__ = ["Problem"]
