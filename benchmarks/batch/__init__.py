"""Batch identification: ``python -m benchmarks.batch``."""
