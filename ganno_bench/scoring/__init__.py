"""Scoring by the rules of the protocol, with numpy and scipy only."""
