"""The face model against OpenCV's pipeline: ``python -m benchmarks.face``."""
