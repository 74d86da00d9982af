"""Error rates of a finished file on subjects that it was not trained on, and what they support."""

from __future__ import annotations

import math
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

__all__ = ["RateAtThreshold", "default_point", "operating_points", "rates_with_intervals"]

_RESAMPLES = 1000
_USUAL_FMR = 1e-3
_HIGHEST_DEFAULT_FMR = 1e-2


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


def operating_points(rates: Verification, scores: Scores) -> tuple[OperatingPoint, ...]:
    """A point for each rate that at least 3 / FMR non-mated comparisons stand behind.

    Args:
        rates: The thresholds.
        scores: What they were measured on.

    Returns:
        May be empty. The rate of a point is the one asked for; equal scores match together, so fewer
        may have matched than it allows.
    """
    points = []
    kinds: tuple[
        tuple[Attack, tuple[tuple[float, float, float], ...], NDArray[np.float32]], ...
    ] = (
        ("random_forgery", rates.fnmr, scores.non_mated),
        ("skilled_forgery", rates.skilled_fnmr, scores.skilled),
    )
    for attack, table, others in kinds:
        values = others.astype(np.float64)
        for fmr, _, threshold in table:
            if math.isfinite(threshold):
                matches = int((values >= threshold).sum())
                points.append(OperatingPoint(fmr, threshold, len(values), matches, attack))
    return tuple(points)


def default_point(points: Sequence[OperatingPoint]) -> tuple[float | None, Attack]:
    """What a model decides by when nothing is asked for.

    Args:
        points: Its operating points.

    Returns:
        The rate nearest to 1e-3 from above, against skilled forgeries if they were measured; None where
        no point is as low as 1e-2, so that nobody gets a lenient threshold unasked.
    """
    attack: Attack = (
        "skilled_forgery"
        if any(p.attack == "skilled_forgery" for p in points)
        else "random_forgery"
    )
    fmrs = [p.fmr for p in points if p.attack == attack]
    usual = [f for f in fmrs if _USUAL_FMR * (1 - 1e-9) <= f <= _HIGHEST_DEFAULT_FMR * (1 + 1e-9)]
    return (min(usual) if usual else None), attack


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
