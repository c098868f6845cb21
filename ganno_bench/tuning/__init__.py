"""Tuning: search spaces and the batched ask/tell loop over Optuna."""
