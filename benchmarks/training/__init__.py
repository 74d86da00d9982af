"""Cost of a training step: ``python -m benchmarks.training``."""
