"""Error rates of a finished file on subjects that it was not trained on, and what they support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data import Record
from training.embedding import Scores
from training.evaluate import Verification
from verifykit.metrics import fnmr_at
from verifykit.spec import Attack, OperatingPoint
from verifykit.types import Embeddings

__all__ = ["RateAtThreshold", "default_point", "rates_with_intervals"]

_RESAMPLES = 1000
_USUAL_RANDOM_FMR = 1e-3
_HIGHEST_RANDOM_FMR = 1e-2
_SKILLED_FMR = 5e-2


@dataclass(frozen=True)
class RateAtThreshold:
    """FMR and FNMR at one threshold, with 95 % intervals.

    Attributes:
        asked_fmr: The rate that the threshold was chosen for.
        threshold: Match is ``score >= threshold``.
        fmr: In [0, 1].
        fmr_interval: Lower and upper bound.
        fnmr: In [0, 1].
        fnmr_interval: Lower and upper bound.
    """

    asked_fmr: float
    threshold: float
    fmr: float
    fmr_interval: tuple[float, float]
    fnmr: float
    fnmr_interval: tuple[float, float]


def default_point(points: Sequence[OperatingPoint]) -> tuple[float | None, Attack]:
    """What a model decides by when nothing is asked for.

    Against skilled forgeries if they were measured, then at 5e-2. Random forgeries happen all the time
    and to everybody, so their rate must be low; a skilled forger is an attacker, who has to exist first
    and has studied this one subject, and a rate as low as for random ones would be paid for by far more
    genuine samples that are turned away. Against random forgeries at the rate nearest to 1e-3 from above.

    Args:
        points: Its operating points; those of the fewest references count, since `compare` and
            `identify` have one.

    Returns:
        The rate and its attack. None where no point is as low as 5e-2 for skilled, or 1e-2 for random
        forgeries, so that nobody gets a lenient threshold unasked.
    """
    skilled = any(point.attack == "skilled_forgery" for point in points)
    attack: Attack = "skilled_forgery" if skilled else "random_forgery"
    mine = [point for point in points if point.attack == attack]
    fewest = min((point.reference_count for point in mine), default=1)
    fmrs = [point.fmr for point in mine if point.reference_count == fewest]
    highest = (_SKILLED_FMR if skilled else _HIGHEST_RANDOM_FMR) * (1 + 1e-9)
    if skilled:
        return max((fmr for fmr in fmrs if fmr <= highest), default=None), attack
    usual = [fmr for fmr in fmrs if _USUAL_RANDOM_FMR * (1 - 1e-9) <= fmr <= highest]
    return min(usual, default=None), attack


def rates_with_intervals(
    embeddings: Embeddings, records: Sequence[Record], rates: Verification, scores: Scores
) -> tuple[RateAtThreshold, ...]:
    """FMR and FNMR at the thresholds of ``rates.fnmr``, with intervals over subjects.

    Pairs that share a subject are not independent, so subjects are drawn again and not pairs (Bolle,
    Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", Computer
    Vision and Image Understanding 93, 2004): percentiles 2.5 and 97.5 of 1000 draws. With no error seen
    the upper bound is 0 too: the counts of pairs say how little that means.

    Args:
        embeddings: (N, D) unit rows.
        records: Whose they are; imitations are left out.
        rates: The thresholds.
        scores: The scores that they were chosen on.
    """
    genuine = [i for i, record in enumerate(records) if not record.is_forgery]
    names = sorted({records[i].subject for i in genuine})
    owner = np.array([names.index(records[i].subject) for i in genuine])
    rows = embeddings[genuine]
    similarity = (rows @ rows.T).astype(np.float64)
    draws = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES
    )
    table = []
    for fmr, fnmr, threshold in rates.fnmr:
        pairs = _tally(owner, np.ones_like(similarity))
        matches = _tally(owner, (similarity >= threshold).astype(np.float64))
        fmr_draws, fnmr_draws = _resampled(pairs, matches, draws.astype(np.float64))
        found = 1.0 - fnmr_at(scores.non_mated, threshold)
        table.append(
            RateAtThreshold(
                fmr, threshold, found, _interval(fmr_draws), fnmr, _interval(fnmr_draws)
            )
        )
    return tuple(table)


def _tally(owner: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, S) sums over the pairs of two subjects' images, none with itself."""
    member = np.eye(int(owner.max()) + 1)[owner]
    bare = values.copy()
    np.fill_diagonal(bare, 0.0)
    return np.asarray(member.T @ bare @ member)


def _resampled(
    pairs: NDArray[np.float64], matches: NDArray[np.float64], draws: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    mated, hits = np.diag(pairs), np.diag(matches)
    others, false = pairs - np.diag(mated), matches - np.diag(hits)
    with np.errstate(invalid="ignore"):
        fmr = ((draws @ false) * draws).sum(axis=1) / ((draws @ others) * draws).sum(axis=1)
        fnmr = 1.0 - (draws @ hits) / (draws @ mated)
    return fmr, fnmr


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)
