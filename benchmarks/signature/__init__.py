"""Error rates of signature models: ``python -m benchmarks.signature``."""
