"""Whether the time of an enrolment is possible: machines without a battery clock begin in 1970 or 2010."""

from __future__ import annotations

import time
from datetime import datetime, timezone

TOLERANCE_S = 300
"""Clocks of two machines, and of one before and after it is set, differ by less."""

EARLIEST = int(datetime(2025, 1, 1, tzinfo=timezone.utc).timestamp())
"""No version of verifykit could enrol before."""


def time_problem(enrolled_at: int, first: int, now: int) -> str | None:
    """Return what is wrong with the time of an enrolment, None for a possible one.

    ``first`` is when the gallery was made, or the earliest enrolment that a copy brought. Unix seconds all.
    """
    said = f"it was enrolled at {iso_time(enrolled_at)}"
    if enrolled_at > now + TOLERANCE_S:
        return f"{said}, which is in the future: this machine's clock, or the one at its enrolment, was wrong"
    if enrolled_at < EARLIEST:
        return f"{said}, before there was verifykit: the clock was wrong"
    if enrolled_at < first - TOLERANCE_S:
        return f"{said}, before the gallery was made: the clock was wrong"
    return None


def iso_now() -> str:
    """Return the current time as a gallery notes when it was made."""
    return iso_time(int(time.time()))


def iso_time(moment: int) -> str:
    """Return Unix seconds as ISO 8601, UTC; the number where no calendar has it."""
    try:
        return datetime.fromtimestamp(moment, timezone.utc).isoformat()
    except (OverflowError, ValueError, OSError):
        return f"{moment} s after 1970"
