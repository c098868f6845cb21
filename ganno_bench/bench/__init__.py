"""The benchmark: plan, run, resume, store."""
