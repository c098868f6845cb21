"""A benchmark for learning-rate schedulers, each tuned by Optuna with the same budget."""

__version__ = "0.1.0"
