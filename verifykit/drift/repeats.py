"""The probes of the last hour: a person who stands before the camera counts once.

Scores of one person's images are alike. Without this, one person who resembles many and tries again and
again would look like a change of everyone. The embeddings are in memory alone, and leave it with the first
probe after the hour.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from verifykit.scoring import paired_scores, penalised, penalties, unit_rows
from verifykit.spec import Cohort, ModelSpec

KEPT_PROBES = 256
KEPT_S = 3600.0

# Two people among 256 count as one in a twentieth of the cases.
_RATE = 0.05 / KEPT_PROBES


class RecentProbes:
    """The last 256 probes of the last hour; safe to share between threads."""

    def __init__(self, spec: ModelSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._cohort: Cohort | None = spec.cohort
        self._threshold = _threshold(spec)
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, NDArray[np.float32], float]] = deque(maxlen=KEPT_PROBES)

    def add(self, probe: NDArray[np.float32]) -> bool:
        """Keep a probe (D,), and return whether it is like none of those that are kept."""
        unit = unit_rows(probe[None])
        own = float(penalties(self._cohort, unit)[0])
        with self._lock:
            now = self._clock()
            while self._kept and self._kept[0][0] < now - KEPT_S:
                self._kept.popleft()
            is_new = True
            if self._kept:
                rows = np.stack([row for _, row, _ in self._kept])
                theirs = np.array([penalty for _, _, penalty in self._kept])
                scores = penalised(paired_scores(unit[0], rows), own, theirs)
                is_new = bool((scores < self._threshold).all())
            self._kept.append((now, unit[0], own))
            return is_new


def _threshold(spec: ModelSpec) -> float:
    """Return the threshold of single images at the highest rate that two people rarely reach."""
    points = [p for p in spec.operating_points if p.attack == "random_forgery"]
    fewest = min(point.reference_count for point in points)
    mine = sorted((p for p in points if p.reference_count == fewest), key=lambda p: -p.fmr)
    return next((point.threshold for point in mine if point.fmr <= _RATE), mine[-1].threshold)
