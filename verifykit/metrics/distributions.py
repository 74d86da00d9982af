"""Distributions of mated and non-mated scores: a histogram over the same bins, and their distance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError
from verifykit.metrics.inputs import checked_count, checked_scores


@dataclass(frozen=True, eq=False)
class ScoreHistogram:
    """Counts of both kinds of scores in the same bins of equal width.

    Attributes:
        edges: (B + 1,) float64, ascending; a bin holds its lower edge, the last one its upper edge too.
        mated: (B,) int64 counts.
        non_mated: (B,) int64 counts.
    """

    edges: NDArray[np.float64]
    mated: NDArray[np.int64]
    non_mated: NDArray[np.int64]


def score_histogram(mated: ArrayLike, non_mated: ArrayLike, bins: int = 100) -> ScoreHistogram:
    """Count scores in equal bins from the lowest to the highest of them.

    Args:
        mated: (M,) finite scores.
        non_mated: (N,) finite scores.
        bins: B, at least 1.

    Returns:
        Counts that sum to M and to N. Scores that are all equal, or too close together for B distinct
        edges between them, are in the middle of bins that reach 0.5 further to both sides.

    Raises:
        InputError: There are no scores, one is NaN or infinite, they span more than float64 can hold,
            or ``bins`` is less than 1.
    """
    mates = checked_scores("mated", mated, finite=True)
    others = checked_scores("non_mated", non_mated, finite=True)
    count = checked_count("bins", bins, 1)
    low = min(float(mates.min()), float(others.min()))
    high = max(float(mates.max()), float(others.max()))
    if math.isinf(high - low):
        raise InputError(f"scores from {low} to {high} are too far apart for bins: rescale them")
    if not (np.diff(np.linspace(low, high, count + 1)) > 0).all():
        # Half a unit alone is lost in the rounding of large scores.
        margin = max(0.5, count * float(np.spacing(max(abs(low), abs(high)))))
        low, high = low - margin, high + margin
    in_mates, edges = np.histogram(mates, count, (low, high))
    in_others, _ = np.histogram(others, count, (low, high))
    return ScoreHistogram(edges, in_mates.astype(np.int64), in_others.astype(np.int64))


def d_prime(mated: ArrayLike, non_mated: ArrayLike) -> float:
    """Return the decidability index: how far the two means are apart, in common standard deviations.

    ``|mean_m - mean_n| / sqrt((var_m + var_n) / 2)`` with population variances: Daugman, "Biometric
    decision landscapes", University of Cambridge Computer Laboratory, technical report 482, 2000.

    Args:
        mated: (M,) finite scores.
        non_mated: (N,) finite scores.

    Returns:
        At least 0. Where neither kind varies: inf, or 0.0 if all scores are equal.

    Raises:
        InputError: There are no scores, or one is NaN or infinite.
    """
    mates = checked_scores("mated", mated, finite=True)
    others = checked_scores("non_mated", non_mated, finite=True)
    # Around one of the scores, so that those that are all equal have a variance of exactly 0.
    mates, others = mates - others[0], others - others[0]
    inner = mates - mates[0]
    distance = abs(float(mates[0] + inner.mean() - others.mean()))
    deviation = math.sqrt((float(inner.var()) + float(others.var())) / 2.0)
    if deviation == 0.0:
        return math.inf if distance > 0.0 else 0.0
    return distance / deviation
