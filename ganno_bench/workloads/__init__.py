"""Workloads: data, models and suites."""
