"""Error rates over writers: one threshold for all of them, with intervals from drawing writers again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.signature_protocol import TrialScores
from verifykit.metrics import equal_error_rate, fnmr_at_fmr

__all__ = [
    "Errors",
    "Share",
    "by_writer",
    "eer_with_interval",
    "errors",
    "resampled_eer",
    "share_with_interval",
]

Scores = NDArray[np.float32]

RESAMPLES = 1000
_LARGEST_GRID = 4096


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] and its 95 % interval; None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Errors:
    """What genuine signatures and one kind of forgery give.

    Attributes:
        writers: Writers who have both.
        mated: Distinct mated probes: those of one draw.
        others: Distinct forged probes likewise.
        eer: With one threshold for all writers; None without scores.
        fnmr: FNMR at the FMR that was asked for; None with fewer than 3 / FMR forged probes.
        writer_eer: Mean of the EERs of single writers and draws, a threshold for each.
    """

    writers: int
    mated: int
    others: int
    eer: Share | None
    fnmr: float | None
    writer_eer: float | None


def by_writer(trials: Sequence[TrialScores], kind: str) -> tuple[list[Scores], list[Scores]]:
    """Mated and forged scores, the draws of a writer together; writers without either are left out.

    Args:
        trials: Of any number of writers.
        kind: ``"skilled"`` or ``"random"``.
    """
    mated: dict[str, list[Scores]] = {}
    others: dict[str, list[Scores]] = {}
    for trial in trials:
        if trial.mated.size and getattr(trial, kind).size:
            mated.setdefault(trial.writer, []).append(trial.mated)
            others.setdefault(trial.writer, []).append(getattr(trial, kind))
    return [np.concatenate(mated[w]) for w in mated], [np.concatenate(others[w]) for w in mated]


def errors(trials: Sequence[TrialScores], kind: str, fmr: float) -> Errors:
    """All rates of one kind of forgery.

    Args:
        trials: Of any number of writers, the draws of each.
        kind: ``"skilled"`` or ``"random"``.
        fmr: At which the FNMR is wanted.
    """
    mated, others = by_writer(trials, kind)
    if not mated:
        return Errors(0, 0, 0, None, None, None)
    single = [
        equal_error_rate(trial.mated, getattr(trial, kind)).eer
        for trial in trials
        if trial.mated.size and getattr(trial, kind).size
    ]
    # Draws repeat the same probes against other references: for the rule of three they count once.
    draws = max(1, round(len(single) / len(mated)))
    forged = sum(map(len, others)) // draws
    supported = forged * fmr >= 3 * (1 - 1e-9)
    pooled = np.concatenate(mated), np.concatenate(others)
    return Errors(
        writers=len(mated),
        mated=sum(map(len, mated)) // draws,
        others=forged,
        eer=eer_with_interval(mated, others),
        fnmr=fnmr_at_fmr(*pooled, fmr)[0] if supported else None,
        writer_eer=float(np.mean(single)),
    )


def eer_with_interval(
    mated: Sequence[Scores], others: Sequence[Scores], *, resamples: int = RESAMPLES, seed: int = 0
) -> Share:
    """The EER over all writers' scores, with one threshold, and its 95 % interval.

    Writers are drawn again with replacement, each with all of its scores, and not comparisons, which are
    not independent (Bolle, Ratha and Pankanti, "Error analysis of pattern recognition systems: the
    subsets bootstrap", Computer Vision and Image Understanding 93, 2004): percentiles 2.5 and 97.5. A
    writer here is the one who is claimed; whose a random probe is does not count.

    Args:
        mated: Scores of each writer.
        others: Forged scores of the same writers.
        resamples: How often writers are drawn.
        seed: Of the draws.
    """
    eer = equal_error_rate(np.concatenate(mated), np.concatenate(others)).eer
    if len(mated) < 2:
        return Share(eer)
    found = resampled_eer(mated, others, _weights(len(mated), resamples, seed))
    low, high = np.percentile(found, (2.5, 97.5))
    return Share(eer, float(low), float(high))


def resampled_eer(
    mated: Sequence[Scores], others: Sequence[Scores], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The EER with each writer's scores repeated, for many repetitions at once.

    The same as :func:`~verifykit.metrics.equal_error_rate` of the repeated scores as long as there are no
    more than 4096 distinct ones; with more, thresholds are so many of their quantiles.

    Args:
        mated: Scores of each of W writers.
        others: Likewise.
        weights: (R, W) how often each writer's scores count.

    Returns:
        (R,) in [0, 1].
    """
    grid = np.append(_grid(np.concatenate(mated), np.concatenate(others)), np.inf)
    fnmr = _shares_below(mated, grid, weights)
    fmr = 1.0 - _shares_below(others, grid, weights)
    after = np.argmax(fnmr >= fmr, axis=1)
    before = len(grid) - 1 - np.argmax((fnmr <= fmr)[:, ::-1], axis=1)
    row = np.arange(len(weights))
    sums = fmr + fnmr
    at = np.where(sums[row, before] <= sums[row, after], before, after)
    return np.asarray(sums[row, at] / 2.0)


def share_with_interval(
    hits: Sequence[int], counts: Sequence[int], *, resamples: int = RESAMPLES, seed: int = 0
) -> Share | None:
    """A share over all writers' comparisons, and its 95 % interval from drawing writers again.

    Args:
        hits: Of each writer, how many.
        counts: Of how many.
        resamples: How often writers are drawn.
        seed: Of the draws.

    Returns:
        None without a comparison. With no hit at all the upper bound is 0 too: the count of comparisons
        says how little that means.
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


def _grid(mated: Scores, others: Scores) -> Scores:
    """Every distinct score; of too many, quantiles of both kinds, the ends among them."""
    distinct = np.unique(np.concatenate([mated, others]))
    if len(distinct) <= _LARGEST_GRID:
        return distinct
    parts = []
    for scores in (mated, others):
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
