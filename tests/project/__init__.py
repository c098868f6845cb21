"""Tests of the repository itself: its version, workflows, changelog and messages."""
