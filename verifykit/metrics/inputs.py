"""Validate what every module of the metrics takes: scores, counts, thresholds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError, shown


def checked_scores(name: str, values: ArrayLike, *, finite: bool = False) -> NDArray[np.float64]:
    """Return scores as a flat float64 array.

    -inf is a score below every threshold, as of a search without a candidate, refused with `finite`; +inf is
    always refused, since no threshold is above it.
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


def checked_counts(name: str, values: ArrayLike | None, size: int) -> NDArray[np.float64] | None:
    """Return how often each of some scores occurs, finite and above 0; None for once."""
    if values is None:
        return None
    counts = np.asarray(values, np.float64)
    if counts.shape != (size,) or not (np.isfinite(counts) & (counts > 0)).all():
        raise InputError(f"{name} are {size} finite numbers above 0, one for each score")
    return counts


def checked_threshold(threshold: float) -> float:
    """Return a threshold, which may be infinite but not NaN."""
    if math.isnan(threshold):
        raise InputError(f"threshold must be a number, got {threshold}")
    return threshold


def checked_count(name: str, value: int, least: int = 0) -> int:
    """Return Python's or NumPy's integer of at least `least` as an int."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, got {shown(value)}")
    return int(value)


def checked_part(name: str, part: int, whole_name: str, whole: int) -> tuple[int, int]:
    """Return two integers of which the first is a part of the second."""
    total = checked_count(whole_name, whole, 1)
    count = checked_count(name, part)
    if count > total:
        raise InputError(f"{name} must be at most {whole_name}, got {count} of {total}")
    return count, total


def checked_confidence(confidence: float) -> float:
    """Return the probability with which an interval covers, in (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence must be in (0, 1), such as 0.95, got {confidence}")
    return confidence


def allowed_matches(count: int, fmr: float) -> int:
    """Return how many of `count` non-mated scores may match at a false match rate."""
    # floor(fmr * N) by the comparison that counts, since the product is rounded: 0.29 * 100 < 29.
    allowed = math.floor(fmr * count)
    allowed += (allowed + 1) / count <= fmr
    allowed -= allowed / count > fmr
    return allowed
