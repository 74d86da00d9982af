"""Rate limiting: requests of a caller, and failed verifications of a subject.

Both limiters count in the memory of one process: N services on one gallery together admit up to N times as
many, and a restart resets them. Both keep a bounded number of entries, and drop the one that was idle for
longest.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from verifykit.errors import InputError, shown

Clock = Callable[[], float]

_MINUTE_S = 60.0


class RateLimiter:
    """A token bucket of ``per_minute`` tokens for each key; at most ``most`` keys are kept."""

    def __init__(
        self, per_minute: int, *, clock: Clock = time.monotonic, most: int = 10_000
    ) -> None:
        self._per_minute = _checked("per_minute", per_minute)
        self._most = _checked("most", most)
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str) -> float:
        """Count one request and return 0.0, or return after how many seconds one will be allowed."""
        with self._lock:
            now = self._clock()
            tokens, since = self._buckets.pop(key, (float(self._per_minute), now))
            rate = self._per_minute / _MINUTE_S
            tokens = min(float(self._per_minute), tokens + (now - since) * rate)
            # After exactly the time that was returned, rounding must not refuse again.
            allowed = tokens > 1 - 1e-9
            self._buckets[key] = (max(tokens - 1, 0.0) if allowed else tokens, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
            return 0.0 if allowed else (1 - tokens) / rate

    @property
    def remembered(self) -> int:
        """Number of keys that are kept."""
        return len(self._buckets)


class FailureLimiter:
    """A pause for a subject after ``limit`` failures within ``window_s``; a match resets the count.

    A claimed identity that fails repeatedly may be an attacker who tries faces until one passes, which an FMR
    for one attempt says nothing about. Attempts that are compared at the same moment may exceed the limit, up
    to the number of workers: call :meth:`wait_s` right before the comparison.
    """

    def __init__(
        self, limit: int, window_s: float, *, clock: Clock = time.monotonic, most: int = 50_000
    ) -> None:
        if not 0 < window_s < math.inf:
            raise InputError(f"window_s must be more than 0 seconds, got {shown(window_s)}")
        self._limit, self._window_s = _checked("limit", limit), window_s
        self._most = _checked("most", most)
        self._clock = clock
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, subject: str) -> float:
        """Return after how many seconds this subject may try again; 0.0 for now."""
        with self._lock:
            recent = self._recent(subject)
            if len(recent) < self._limit:
                return 0.0
            return recent[-self._limit] + self._window_s - self._clock()

    def record(self, subject: str, *, matched: bool) -> None:
        """Count an attempt: a failure adds one, a match resets."""
        with self._lock:
            recent = self._recent(subject)
            self._failures.pop(subject, None)
            if matched:
                return
            # Simultaneous failures may exceed the limit; only the last ones count.
            self._failures[subject] = [*recent, self._clock()][-self._limit :]
            if len(self._failures) > self._most:
                self._failures.popitem(last=False)

    @property
    def remembered(self) -> int:
        """Number of subjects that are kept."""
        return len(self._failures)

    def _recent(self, subject: str) -> list[float]:
        begin = self._clock() - self._window_s
        return [moment for moment in self._failures.get(subject, ()) if moment > begin]


def _checked(name: str, value: int) -> int:
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be 1 or more, got {shown(value)}")
    return value
