"""Foundations that all other packages import: errors, registries, configuration, seeds, records."""
