"""Schedulers: who decides the learning rates."""
