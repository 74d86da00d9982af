"""Interleaved timings, and the memory of this process."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Name = TypeVar("Name")


@dataclass(frozen=True)
class Timing:
    """Medians over the rounds of one job."""

    wall_s: float
    cpu_s: float

    @property
    def wall_ms(self) -> float:
        """Return the wall time in milliseconds."""
        return 1e3 * self.wall_s


def time_interleaved(
    jobs: Mapping[Name, Callable[[], object]], rounds: int, *, warm_up: bool = True
) -> dict[Name, Timing]:
    """Time every job once per round, so that load on the machine affects all jobs alike."""
    if warm_up:
        for job in jobs.values():
            job()
    taken: dict[Name, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start, cpu_start = time.perf_counter(), time.process_time()
            job()
            taken[name].append((time.perf_counter() - start, time.process_time() - cpu_start))
    return {
        name: Timing(*map(statistics.median, zip(*times, strict=True)))
        for name, times in taken.items()
    }


def resident_bytes() -> int:
    """Return the resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
