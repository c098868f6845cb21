"""Committed baselines: their files, how they are written, compared with and verified."""
