"""Error rates with one threshold for all writers, with intervals by bootstrap over writers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.signature.protocol import TrialScores
from verifykit.metrics import equal_error_rate, fnmr_at_fmr

Scores = NDArray[np.float32]

RESAMPLES = 1000
_LARGEST_GRID = 4096


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] and its 95 % interval; None without an interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Errors:
    """Error rates of genuine signatures against one kind of forgery.

    Attributes:
        writers: Number of writers with both.
        mated: Distinct mated probes: those of one draw.
        forged: Distinct forged probes: those of one draw.
        eer: EER with one threshold for all writers; None without scores.
        fnmr: FNMR at the requested FMR; None with fewer than 3 / FMR forged probes.
        writer_eer: Mean of the EERs of single writers and draws, with a threshold for each.
    """

    writers: int
    mated: int
    forged: int
    eer: Share | None
    fnmr: float | None
    writer_eer: float | None


def by_writer(trials: Sequence[TrialScores], kind: str) -> tuple[list[Scores], list[Scores]]:
    """Return mated and forged scores by writer, omitting writers without either.

    ``kind`` is ``"skilled"`` or ``"random"``; the draws of a writer are concatenated.
    """
    mated: dict[str, list[Scores]] = {}
    forged: dict[str, list[Scores]] = {}
    for trial in trials:
        if trial.mated.size and getattr(trial, kind).size:
            mated.setdefault(trial.writer, []).append(trial.mated)
            forged.setdefault(trial.writer, []).append(getattr(trial, kind))
    return [np.concatenate(mated[w]) for w in mated], [np.concatenate(forged[w]) for w in mated]


def errors(trials: Sequence[TrialScores], kind: str, fmr: float) -> Errors:
    """Compute the rates of one kind of forgery, ``"skilled"`` or ``"random"``; the FNMR is at ``fmr``."""
    mated, forged = by_writer(trials, kind)
    if not mated:
        return Errors(0, 0, 0, None, None, None)
    single = [
        equal_error_rate(trial.mated, getattr(trial, kind)).eer
        for trial in trials
        if trial.mated.size and getattr(trial, kind).size
    ]
    # Draws repeat the same probes with other references: for the rule of three they count once.
    draws = max(1, round(len(single) / len(mated)))
    forged_count = sum(map(len, forged)) // draws
    supported = forged_count * fmr >= 3 * (1 - 1e-9)
    pooled = np.concatenate(mated), np.concatenate(forged)
    return Errors(
        writers=len(mated),
        mated=sum(map(len, mated)) // draws,
        forged=forged_count,
        eer=eer_with_interval(mated, forged),
        fnmr=fnmr_at_fmr(*pooled, fmr)[0] if supported else None,
        writer_eer=float(np.mean(single)),
    )


def eer_with_interval(
    mated: Sequence[Scores], forged: Sequence[Scores], *, resamples: int = RESAMPLES, seed: int = 0
) -> Share:
    """Compute the EER over the scores of all writers, with one threshold, and its 95 % interval.

    The bootstrap draws writers, each with all of its scores, because comparisons are not independent (Bolle,
    Ratha and Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap", Computer
    Vision and Image Understanding 93, 2004): percentiles 2.5 and 97.5. The writer of a score is the claimed
    one, also for random forgeries.
    """
    eer = equal_error_rate(np.concatenate(mated), np.concatenate(forged)).eer
    if len(mated) < 2:
        return Share(eer)
    resampled = resampled_eer(mated, forged, _weights(len(mated), resamples, seed))
    low, high = np.percentile(resampled, (2.5, 97.5))
    return Share(eer, float(low), float(high))


def resampled_eer(
    mated: Sequence[Scores], forged: Sequence[Scores], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute the EER with weighted writers, for many sets of weights at once.

    Equal to :func:`~verifykit.metrics.equal_error_rate` of the repeated scores with up to 4096 distinct
    scores; with more, 4096 of their quantiles are the thresholds.

    Args:
        mated: Scores of each of W writers.
        forged: Forged scores of the same writers.
        weights: (R, W) number of repetitions of each writer's scores.

    Returns:
        (R,) in [0, 1].
    """
    grid = np.append(_grid(np.concatenate(mated), np.concatenate(forged)), np.inf)
    fnmr = _shares_below(mated, grid, weights)
    fmr = 1.0 - _shares_below(forged, grid, weights)
    after = np.argmax(fnmr >= fmr, axis=1)
    before = len(grid) - 1 - np.argmax((fnmr <= fmr)[:, ::-1], axis=1)
    row = np.arange(len(weights))
    sums = fmr + fnmr
    at = np.where(sums[row, before] <= sums[row, after], before, after)
    return np.asarray(sums[row, at] / 2.0)


def share_with_interval(
    hits: Sequence[int], counts: Sequence[int], *, resamples: int = RESAMPLES, seed: int = 0
) -> Share | None:
    """Compute a share over the comparisons of all writers, and its 95 % interval by bootstrap over writers.

    Args:
        hits: Number of hits of each writer.
        counts: Number of comparisons of each writer.
        resamples: Number of bootstrap samples.
        seed: Seed of the bootstrap.

    Returns:
        None without comparisons. Without any hit the upper bound is 0 too, however few comparisons there are.
    """
    hit, count = np.asarray(hits, np.float64), np.asarray(counts, np.float64)
    if count.sum() == 0:
        return None
    value = float(hit.sum() / count.sum())
    if len(hit) < 2:
        return Share(value)
    weights = _weights(len(hit), resamples, seed)
    with np.errstate(invalid="ignore"):
        low, high = np.nanpercentile((weights @ hit) / (weights @ count), (2.5, 97.5))
    return Share(value, float(low), float(high))


def _weights(writers: int, resamples: int, seed: int) -> NDArray[np.float64]:
    even = np.full(writers, 1 / writers)
    drawn = np.random.default_rng(seed).multinomial(writers, even, size=resamples)
    return drawn.astype(np.float64)


def _grid(mated: Scores, forged: Scores) -> Scores:
    """Return every distinct score; if there are too many, quantiles of both kinds, with both ends."""
    distinct = np.unique(np.concatenate([mated, forged]))
    if len(distinct) <= _LARGEST_GRID:
        return distinct
    parts = []
    for scores in (mated, forged):
        ordered = np.sort(scores)
        at = np.linspace(0, len(ordered) - 1, _LARGEST_GRID // 2).round().astype(np.int64)
        parts.append(ordered[at])
    return np.unique(np.concatenate(parts))


def _shares_below(
    scores: Sequence[Scores], grid: Scores, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    below = [np.searchsorted(np.sort(each), grid, side="left") for each in scores]
    sizes = np.array([len(each) for each in scores], np.float64)
    return np.asarray((weights @ np.array(below, np.float64)) / (weights @ sizes)[:, None])
