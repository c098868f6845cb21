"""Trained policies outside of the benchmark."""
