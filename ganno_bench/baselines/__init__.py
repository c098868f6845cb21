"""Committed baselines: read, write, compare and verify their files."""
