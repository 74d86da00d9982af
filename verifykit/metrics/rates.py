"""Error rates at a threshold: FMR, FNMR, EER and the DET curve, exact on ties.

Terms after ISO/IEC 19795-1; a score matches when ``score >= threshold``. FMR(t) is the share of
non-mated scores that match at t, FNMR(t) the share of mated scores that do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError
from verifykit.metrics.inputs import allowed_matches, checked_scores, checked_threshold


@dataclass(frozen=True)
class EqualErrorRate:
    """Where FMR and FNMR meet; with finitely many scores they may cross without being equal.

    Attributes:
        eer: Midpoint of ``low`` and ``high``, in [0, 1].
        low: The lesser of FMR and FNMR at the threshold, in [0, 1].
        high: The greater of them, in [0, 1].
        threshold: Where they are closest together.
    """

    eer: float
    low: float
    high: float
    threshold: float


@dataclass(frozen=True, eq=False)
class DetCurve:
    """Both error rates at every threshold where one of them changes.

    Attributes:
        thresholds: (T,) float64, ascending: every distinct score, then infinity.
        fmr: (T,) float64, not increasing, the last 0.
        fnmr: (T,) float64, not decreasing, the last 1.
    """

    thresholds: NDArray[np.float64]
    fmr: NDArray[np.float64]
    fnmr: NDArray[np.float64]

    def crossing(self) -> EqualErrorRate:
        """Return where the two rates cross; the curve may be the part of one around that place."""
        after = int(np.argmax(self.fnmr >= self.fmr))
        # Below every score FMR is 1 and FNMR 0, so that a threshold before `after` exists unless
        # the rates are equal at the first score already.
        before = int(np.flatnonzero(self.fnmr <= self.fmr)[-1])
        sums = self.fmr + self.fnmr
        at = before if sums[before] <= sums[after] else after
        low, high = sorted((float(self.fmr[at]), float(self.fnmr[at])))
        return EqualErrorRate((low + high) / 2.0, low, high, float(self.thresholds[at]))


def fmr_at(non_mated: ArrayLike, threshold: float) -> float:
    """Return the share of non-mated scores at or above a threshold.

    Args:
        non_mated: (N,) scores.
        threshold: Match is ``score >= threshold``.

    Raises:
        InputError: There are no scores, one is NaN or +inf, or the threshold is NaN.
    """
    return float((checked_scores("non_mated", non_mated) >= checked_threshold(threshold)).mean())


def fnmr_at(mated: ArrayLike, threshold: float) -> float:
    """Return the share of mated scores below a threshold.

    Args:
        mated: (M,) scores.
        threshold: Match is ``score >= threshold``.

    Raises:
        InputError: There are no scores, one is NaN or +inf, or the threshold is NaN.
    """
    return float((checked_scores("mated", mated) < checked_threshold(threshold)).mean())


def threshold_at_fmr(non_mated: ArrayLike, fmr: float) -> float:
    """Return the smallest threshold whose false match rate is not above ``fmr``.

    Args:
        non_mated: (N,) scores.
        fmr: The requested rate, in [0, 1].

    Returns:
        The float64 next above the largest score that may not match; -inf if all of them may. Equal
        scores match together or not at all, so the rate reached can be below the requested one.

    Raises:
        InputError: There are no scores, one is NaN or +inf, or ``fmr`` is outside [0, 1].
    """
    scores = checked_scores("non_mated", non_mated)
    if not 0.0 <= fmr <= 1.0:
        raise InputError(f"fmr must be in [0, 1], got {fmr}")
    allowed = allowed_matches(scores.size, fmr)
    if allowed >= scores.size:
        return -math.inf
    refused = scores.size - 1 - allowed
    return float(np.nextafter(np.partition(scores, refused)[refused], math.inf))


def fnmr_at_fmr(mated: ArrayLike, non_mated: ArrayLike, fmr: float) -> tuple[float, float]:
    """Return the false non-match rate at the threshold of a false match rate.

    Args:
        mated: (M,) scores.
        non_mated: (N,) scores.
        fmr: The requested rate, in [0, 1].

    Returns:
        FNMR in [0, 1], and the threshold of :func:`threshold_at_fmr`.

    Raises:
        InputError: There are no scores, one is NaN or +inf, or ``fmr`` is outside [0, 1].
    """
    threshold = threshold_at_fmr(non_mated, fmr)
    return fnmr_at(mated, threshold), threshold


def det_curve(mated: ArrayLike, non_mated: ArrayLike) -> DetCurve:
    """Return both error rates at every distinct score, and above all of them.

    Args:
        mated: (M,) scores.
        non_mated: (N,) scores.

    Raises:
        InputError: There are no scores, or one is NaN or +inf.
    """
    mates = np.sort(checked_scores("mated", mated))
    others = np.sort(checked_scores("non_mated", non_mated))
    thresholds = np.append(np.unique(np.concatenate([mates, others])), math.inf)
    return DetCurve(
        thresholds,
        # Counted before dividing: 1 - 9/10 is not 1/10, and equal rates would not be seen as equal.
        (others.size - np.searchsorted(others, thresholds, side="left")) / others.size,
        np.searchsorted(mates, thresholds, side="left") / mates.size,
    )


def equal_error_rate(mated: ArrayLike, non_mated: ArrayLike) -> EqualErrorRate:
    """Return the equal error rate as the midpoint of the interval in which the two rates cross.

    Maio et al., "FVC2000: Fingerprint Verification Competition", IEEE TPAMI 24(3), 2002, section 5:
    of the last threshold with FNMR <= FMR and the first with FNMR >= FMR, the one where they are less
    far apart in sum gives the interval.

    Args:
        mated: (M,) scores.
        non_mated: (N,) scores.

    Raises:
        InputError: There are no scores, or one is NaN or +inf.
    """
    return det_curve(mated, non_mated).crossing()
