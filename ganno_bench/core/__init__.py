"""Foundations that every other package stands on: errors, registries, configuration, seeds, records."""
