"""Errors of 1:N search in a gallery that may not hold the subject: FPIR, FNIR and hit rates.

Terms after ISO/IEC 19795-1 and NISTIR 8271 (Grother, Ngan, Hanaoka, "Face Recognition Vendor Test part 2:
Identification", 2019). A mated search is one whose subject is enrolled; its mate is that subject's
candidate. A candidate is reported when ``score >= threshold``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError
from verifykit.metrics.inputs import checked_count, checked_scores


@dataclass(frozen=True, eq=False)
class OpenSetCurve:
    """Both identification error rates at every threshold where one of them can change.

    Attributes:
        thresholds: (T,) float64, ascending: every distinct score, then infinity.
        fpir: (T,) float64, not increasing, the last 0.
        fnir: (T,) float64, not decreasing, the last 1; the first is the share of mates beyond the rank.
    """

    thresholds: NDArray[np.float64]
    fpir: NDArray[np.float64]
    fnir: NDArray[np.float64]


def hit_rate(mate_ranks: ArrayLike, rank: int) -> float:
    """Return the share of mated searches whose mate is among the best ``rank`` candidates, at any score.

    NISTIR 8271: the cumulative match characteristic at one rank, 1 - FNIR(N, R, -inf).

    Args:
        mate_ranks: (M,) integers, the mate's place among the candidates, 1 is best.
        rank: At least 1.

    Raises:
        InputError: There are no searches, or a rank is not an integer of at least 1.
    """
    return float((_ranks(mate_ranks) <= checked_count("rank", rank, 1)).mean())


def open_set_curve(
    best_scores: ArrayLike, mate_scores: ArrayLike, mate_ranks: ArrayLike, rank: int = 1
) -> OpenSetCurve:
    """Return FPIR and FNIR at every distinct score, and above all of them.

    NISTIR 8271: FPIR(N, T) is the share of non-mated searches that report a candidate, FNIR(N, R, T) the
    share of mated searches whose mate is beyond rank R or below the threshold.

    Args:
        best_scores: (P,) the highest candidate score of each non-mated search; -inf for a search
            without candidates.
        mate_scores: (M,) the mate's score in each mated search; -inf for a mate that is not a candidate.
        mate_ranks: (M,) integers, the mate's place among the candidates, 1 is best.
        rank: R, at least 1: the mate must be among the best R.

    Raises:
        InputError: There are no searches, a score is NaN or +inf, a rank is not an integer of at least 1, or
            there are not as many ranks as scores.
    """
    best = np.sort(checked_scores("best_scores", best_scores))
    scores, places = _mates(mate_scores, mate_ranks)
    reachable = np.sort(scores[places <= checked_count("rank", rank, 1)])
    thresholds = np.append(np.unique(np.concatenate([best, scores])), math.inf)
    found = reachable.size - np.searchsorted(reachable, thresholds, side="left")
    return OpenSetCurve(
        thresholds,
        (best.size - np.searchsorted(best, thresholds, side="left")) / best.size,
        (scores.size - found) / scores.size,
    )


def fpir_of_fmr(fmr: float, gallery_size: int) -> float:
    """Return the FPIR to expect when every subject in a gallery is compared: ``1 - (1 - fmr)^N``.

    Exact for N independent comparisons with the same FMR. Those of one search share a probe, and some
    subjects match more people than others, so that a measured FPIR differs (ISO/IEC 19795-1, estimating
    identification performance from comparison scores).

    Args:
        fmr: False match rate of one comparison, in (0, 1).
        gallery_size: N, enrolled subjects, at least 1.

    Returns:
        In (0, 1], 1 where the rest is below float64; to full relative precision for the smallest rates.

    Raises:
        InputError: ``fmr`` is outside (0, 1), or ``gallery_size`` is less than 1.
    """
    size = checked_count("gallery_size", gallery_size, 1)
    return -math.expm1(size * math.log1p(-_open_rate("fmr", fmr)))


def fmr_of_fpir(fpir: float, gallery_size: int) -> float:
    """Return the FMR that one comparison may have for a requested FPIR: ``1 - (1 - fpir)^(1 / N)``.

    The inverse of :func:`fpir_of_fmr`, with its assumption.

    Args:
        fpir: False positive identification rate, in (0, 1).
        gallery_size: N, enrolled subjects, at least 1.

    Returns:
        In (0, 1), to full relative precision for the smallest rates.

    Raises:
        InputError: ``fpir`` is outside (0, 1), or ``gallery_size`` is less than 1.
    """
    size = checked_count("gallery_size", gallery_size, 1)
    return -math.expm1(math.log1p(-_open_rate("fpir", fpir)) / size)


def _open_rate(name: str, rate: float) -> float:
    if not 0.0 < rate < 1.0:
        raise InputError(f"{name} is a rate in (0, 1), got {rate}")
    return rate


def _ranks(values: ArrayLike) -> NDArray[np.integer]:
    ranks = np.asarray(values).ravel()
    if ranks.size == 0:
        raise InputError("mate_ranks: there are no mated searches, so there is no rate")
    if ranks.dtype.kind not in "iu" or ranks.min() < 1:
        raise InputError(
            f"mate_ranks are integers from 1, the best, got {ranks.dtype} from {ranks.min()}"
        )
    return ranks


def _mates(scores: ArrayLike, ranks: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.integer]]:
    checked, places = checked_scores("mate_scores", scores), _ranks(ranks)
    if checked.size != places.size:
        raise InputError(
            f"each mated search has a score and a rank, got {checked.size} mate_scores and "
            f"{places.size} mate_ranks"
        )
    return checked, places
