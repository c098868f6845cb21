"""Tuning: search spaces, and Optuna studies with batched ask and tell."""
