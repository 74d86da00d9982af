"""What every room of the metrics refuses: scores that order nothing, counts that count nothing."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError


def checked_scores(name: str, values: ArrayLike, *, finite: bool = False) -> NDArray[np.float64]:
    """Scores as a flat float64 array.

    Args:
        name: What to call them in an error.
        values: Any shape. -inf is a score below every threshold, as of a search without a candidate;
            +inf is refused, since no threshold lies above it.
        finite: Refuse -inf too.

    Raises:
        InputError: There are none, one is NaN, or one is infinite where it must not be.
    """
    scores = np.asarray(values, np.float64).ravel()
    if scores.size == 0:
        raise InputError(f"{name}: there are no scores, so there is no rate")
    nans = int(np.isnan(scores).sum())
    if nans:
        raise InputError(
            f"{name}: {nans} of {scores.size} scores are NaN: leave out comparisons that failed, and "
            "count them as failures to acquire"
        )
    refused = int((np.isinf(scores) if finite else scores == math.inf).sum())
    if refused:
        raise InputError(
            f"{name}: {refused} of {scores.size} scores are {'infinite' if finite else '+inf'}: "
            "give finite ones"
        )
    return scores


def checked_threshold(threshold: float) -> float:
    """A threshold that scores can be compared with; both infinities are.

    Args:
        threshold: Match is ``score >= threshold``.

    Raises:
        InputError: It is NaN, which every score would pass and fail.
    """
    if math.isnan(threshold):
        raise InputError(f"threshold must be a number, got {threshold}")
    return threshold


def checked_count(name: str, value: int, least: int = 0) -> int:
    """A number of things.

    Args:
        name: What to call it in an error.
        value: Python's or NumPy's integer.
        least: The smallest that makes sense.

    Raises:
        InputError: It is no integer, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {value!r}")
    return int(value)


def checked_part(name: str, part: int, whole_name: str, whole: int) -> tuple[int, int]:
    """How many of how many, so that ``part / whole`` is a rate.

    Args:
        name: What to call the part in an error.
        part: In [0, ``whole``].
        whole_name: What to call the whole.
        whole: At least 1.

    Raises:
        InputError: One of them is no such integer.
    """
    total = checked_count(whole_name, whole, 1)
    count = checked_count(name, part)
    if count > total:
        raise InputError(f"{name} must be at most {whole_name}, got {count} of {total}")
    return count, total


def checked_confidence(confidence: float) -> float:
    """The probability with which an interval should cover.

    Args:
        confidence: In (0, 1), usually 0.95.

    Raises:
        InputError: It is not.
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must be in (0, 1), such as 0.95, got {confidence}")
    return confidence
