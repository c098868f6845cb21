"""Scoring by the rules of the protocol; numpy and scipy only."""
