"""Timings that hold against each other: every job in every round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

__all__ = ["race"]


def race(rounds: int, **jobs: Callable[[], object]) -> dict[str, float]:
    """Median milliseconds of each job, their rounds interleaved so that noise hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            taken[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in taken.items()}
