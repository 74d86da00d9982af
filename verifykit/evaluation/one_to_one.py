"""1:1 error rates with their intervals, against one kind of non-mated comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.pairs import Comparisons
from verifykit.evaluation.results import AttackResult, Det, Histogram, Interval, Rate, RateAtFmr
from verifykit.metrics import (
    SubjectBootstrap,
    d_prime,
    det_curve,
    eer_interval,
    equal_error_rate,
    rate_interval,
    rule_of_three,
    score_histogram,
    threshold_at_fmr,
)
from verifykit.spec import Attack, OperatingPoint

REPORTED_FMRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

_DET_POINTS = 60
_EER_POINTS = 40
_BINS = 80


def supported(fmr: float, non_mated_count: int) -> bool:
    """Return whether a rate has enough non-mated comparisons: three over the rate."""
    return non_mated_count >= 3.0 / fmr * (1 - 1e-9)


def rate_of(events: NDArray[np.bool_], bootstrap: SubjectBootstrap | None) -> Rate:
    """Return the rate of (P,) events with its interval; without a bootstrap they are independent."""
    errors, trials = int(events.sum()), int(events.size)
    draws = None
    # Without an error, or with nothing else, the bootstrap has nothing to say.
    if bootstrap is not None and 0 < errors < trials:
        draws = bootstrap.rates(events)
    low, high = rate_interval(errors, trials, draws)
    return Rate(errors / trials, low, high, errors, trials)


def measure_attack(
    attack: Attack,
    mated: Comparisons,
    non_mated: Comparisons,
    labels: NDArray[np.int64],
    *,
    fmrs: Sequence[float] = REPORTED_FMRS,
    own: Sequence[OperatingPoint] = (),
    seed: int = 0,
) -> AttackResult:
    """Measure error rates, curve and histogram of single comparisons; `labels` are subjects from 0.

    Rates with too few comparisons are named in the result; of the model's `own` thresholds those for this
    attack and a single reference count.
    """
    subjects = int(labels.max()) + 1
    # A threshold is one step of float64 above a score: in float32 it would be that score.
    mates, others = mated.scores.astype(np.float64), non_mated.scores.astype(np.float64)
    ours, theirs = (
        SubjectBootstrap(labels[each.probe], labels[each.reference], subjects=subjects, seed=seed)
        for each in (mated, non_mated)
    )

    def rates_at(fmr: float, threshold: float) -> RateAtFmr:
        false, missed = others >= threshold, mates < threshold
        return RateAtFmr(fmr, threshold, rate_of(false, theirs), rate_of(missed, ours))

    rows, missing = [], []
    for fmr in fmrs:
        if not supported(fmr, others.size):
            missing.append(fmr)
            continue
        threshold = threshold_at_fmr(others, fmr)
        if not math.isfinite(threshold):
            missing.append(fmr)
            continue
        rows.append(rates_at(fmr, threshold))
    mine = [p for p in own if (p.attack, p.reference_count) == (attack, 1)]
    crossing = equal_error_rate(mates, others)
    histogram = score_histogram(mates, others, bins=_BINS)
    return AttackResult(
        attack=attack,
        mated_count=int(mates.size),
        non_mated_count=int(others.size),
        eer=_eer(crossing.eer, mates, others, ours, theirs),
        eer_threshold=crossing.threshold,
        d_prime=d_prime(mates, others),
        rates=tuple(rows),
        unsupported=tuple(missing),
        det=_det(mates, others, ours),
        histogram=Histogram(
            tuple(histogram.edges.tolist()),
            tuple(histogram.mated.tolist()),
            tuple(histogram.non_mated.tolist()),
        ),
        own=tuple(rates_at(point.fmr, point.threshold) for point in mine),
    )


def _eer(
    eer: float,
    mated: NDArray[np.float64],
    non_mated: NDArray[np.float64],
    ours: SubjectBootstrap,
    theirs: SubjectBootstrap,
) -> Interval:
    """Return percentiles over draws of subjects, at thresholds closely around the crossing."""
    around = np.geomspace(max(eer / 8, 1e-9), min(1.0, max(eer * 8, 1e-3)), _EER_POINTS)
    scores = np.concatenate([np.quantile(non_mated, 1 - around), np.quantile(mated, around)])
    thresholds = [-math.inf, *np.unique(scores).tolist(), math.inf]
    fmr = np.array([theirs.rates(non_mated >= t) for t in thresholds])
    fnmr = np.array([ours.rates(mated < t) for t in thresholds])
    low, high = eer_interval(fmr, fnmr)
    if eer == 0.0:  # nor did any draw see an error
        high = max(high, rule_of_three(min(mated.size, non_mated.size)))
    return Interval(eer, min(low, eer), max(high, eer))


def _det(mated: NDArray[np.float64], non_mated: NDArray[np.float64], ours: SubjectBootstrap) -> Det:
    """Return the exact curve, thinned to points that are evenly spaced in log FMR, none of them 0."""
    curve = det_curve(mated, non_mated)
    there = np.flatnonzero(curve.fmr > 0)
    targets = np.geomspace(1.0, curve.fmr[there[-1]], _DET_POINTS) * (1 + 1e-12)
    # FMR falls along the curve: the first point that is not above each rate.
    at = there[np.unique(np.searchsorted(-curve.fmr[there], -targets, side="left"))]
    fnmr = [rate_of(mated < t, ours) for t in curve.thresholds[at]]
    return Det(
        thresholds=tuple(curve.thresholds[at].tolist()),
        fmr=tuple(curve.fmr[at].tolist()),
        fnmr=tuple(rate.value for rate in fnmr),
        fnmr_low=tuple(rate.low for rate in fnmr),
        fnmr_high=tuple(rate.high for rate in fnmr),
    )
