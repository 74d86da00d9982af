"""1:1 error rates with their intervals, against one kind of non-mated comparisons."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from verifykit.evaluation.pairs import Comparisons
from verifykit.evaluation.results import AttackResult, Det, Histogram, Interval, Rate, RateAtFmr
from verifykit.metrics import (
    DetCurve,
    EqualErrorRate,
    ScoreHistogram,
    SubjectBootstrap,
    d_prime,
    det_curve,
    eer_interval,
    rate_interval,
    rule_of_three,
    score_histogram,
    threshold_at_fmr,
)
from verifykit.spec import Attack, OperatingPoint

REPORTED_FMRS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)

DET_POINTS = 60
HISTOGRAM_BINS = 80

_EER_POINTS = 40


def supported(fmr: float, non_mated_count: int) -> bool:
    """Return whether a rate has enough non-mated comparisons: three over the rate."""
    return non_mated_count >= 3.0 / fmr * (1 - 1e-9)


class AttackScores(Protocol):
    """Mated and non-mated scores, of which there may be too many to hold."""

    @property
    def mated_count(self) -> int:
        """Return the number of mated scores."""

    @property
    def non_mated_count(self) -> int:
        """Return the number of non-mated scores."""

    def crossing(self) -> EqualErrorRate:
        """Return the equal error rate."""

    def d_prime(self) -> float:
        """Return the distance of the two distributions."""

    def histogram(self) -> ScoreHistogram:
        """Return counts in equal bins."""

    def thresholds_at(self, fmrs: Sequence[float]) -> list[float]:
        """Return the smallest threshold whose FMR is not above each rate."""

    def quantiles(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return thresholds at which FMR, and at which FNMR, is about each rate."""

    def det_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds of the exact curve, and FMRs: these are evenly spaced in their logarithm."""

    def false_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count non-mated scores at or above ascending thresholds."""

    def false_non_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count mated scores below ascending thresholds."""


@dataclass(frozen=True, eq=False)
class Counted:
    """Errors at T thresholds.

    Attributes:
        errors: (T,) int64.
        trials: Of how many comparisons.
        draws: (T, B) rates in draws of subjects; NaN where a draw holds no comparison.
    """

    errors: NDArray[np.int64]
    trials: int
    draws: NDArray[np.float64]

    def rate(self, place: int) -> Rate:
        """Return the rate at a threshold, with its interval."""
        return _rate(int(self.errors[place]), self.trials, self.draws[place])


def rate_of(events: NDArray[np.bool_], bootstrap: SubjectBootstrap | None) -> Rate:
    """Return the rate of (P,) events with its interval; without a bootstrap they are independent."""
    errors, trials = int(events.sum()), int(events.size)
    is_mixed = bootstrap is not None and 0 < errors < trials
    return _rate(errors, trials, bootstrap.rates(events) if bootstrap and is_mixed else None)


def _rate(errors: int, trials: int, draws: NDArray[np.float64] | None) -> Rate:
    # Without an error, or with nothing else, the bootstrap has nothing to say.
    low, high = rate_interval(errors, trials, draws if 0 < errors < trials else None)
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
    scores = ListedScores(mated, non_mated, labels, seed=seed)
    return measure_scores(attack, scores, fmrs=fmrs, own=own)


def measure_scores(
    attack: Attack,
    scores: AttackScores,
    *,
    fmrs: Sequence[float] = REPORTED_FMRS,
    own: Sequence[OperatingPoint] = (),
) -> AttackResult:
    """Measure as :func:`measure_attack`, whatever holds the scores."""
    possible = [fmr for fmr in fmrs if supported(fmr, scores.non_mated_count)]
    found = dict(zip(possible, scores.thresholds_at(possible), strict=True))
    at = [(fmr, found[fmr]) for fmr in possible if math.isfinite(found[fmr])]
    mine = [p for p in own if (p.attack, p.reference_count) == (attack, 1)]
    every = at + [(point.fmr, point.threshold) for point in mine]
    crossing = scores.crossing()
    around = _around(crossing.eer, scores)
    det_thresholds, det_fmr = scores.det_points()
    # One question for all thresholds: where not all scores are held, each is a pass over all pairs.
    thresholds = np.unique(np.concatenate([[t for _, t in every], around]))
    false = scores.false_matches(thresholds.tolist())
    thresholds_of_mated = np.unique(np.concatenate([thresholds, det_thresholds]))
    missed = scores.false_non_matches(thresholds_of_mated.tolist())

    def places(values: NDArray[np.float64]) -> NDArray[np.int64]:
        return np.searchsorted(thresholds_of_mated, values)

    rows = [
        RateAtFmr(
            fmr,
            threshold,
            false.rate(int(np.searchsorted(thresholds, threshold))),
            missed.rate(int(np.searchsorted(thresholds_of_mated, threshold))),
        )
        for fmr, threshold in every
    ]
    low, high = eer_interval(
        false.draws[np.searchsorted(thresholds, around)], missed.draws[places(around)]
    )
    if crossing.eer == 0.0:  # nor did any draw see an error
        high = max(high, rule_of_three(min(scores.mated_count, scores.non_mated_count)))
    histogram = scores.histogram()
    return AttackResult(
        attack=attack,
        mated_count=scores.mated_count,
        non_mated_count=scores.non_mated_count,
        eer=Interval(crossing.eer, min(low, crossing.eer), max(high, crossing.eer)),
        eer_threshold=crossing.threshold,
        d_prime=scores.d_prime(),
        rates=tuple(rows[: len(at)]),
        unsupported=tuple(fmr for fmr in fmrs if fmr not in dict(at)),
        det=_det(det_thresholds, det_fmr, [missed.rate(int(n)) for n in places(det_thresholds)]),
        histogram=Histogram(
            tuple(histogram.edges.tolist()),
            tuple(histogram.mated.tolist()),
            tuple(histogram.non_mated.tolist()),
        ),
        own=tuple(rows[len(at) :]),
    )


def _around(eer: float, scores: AttackScores) -> NDArray[np.float64]:
    """Return thresholds closely around the crossing, and below and above all scores."""
    rates = np.geomspace(max(eer / 8, 1e-9), min(1.0, max(eer * 8, 1e-3)), _EER_POINTS)
    return np.concatenate([[-math.inf], np.unique(scores.quantiles(rates)), [math.inf]])


def _det(thresholds: NDArray[np.float64], fmr: NDArray[np.float64], fnmr: Sequence[Rate]) -> Det:
    return Det(
        thresholds=tuple(thresholds.tolist()),
        fmr=tuple(fmr.tolist()),
        fnmr=tuple(rate.value for rate in fnmr),
        fnmr_low=tuple(rate.low for rate in fnmr),
        fnmr_high=tuple(rate.high for rate in fnmr),
    )


class ListedScores:
    """The scores of listed comparisons: see :class:`AttackScores`."""

    def __init__(
        self,
        mated: Comparisons,
        non_mated: Comparisons,
        labels: NDArray[np.int64],
        *,
        seed: int = 0,
    ) -> None:
        """Take comparisons; `labels` are the images' subjects, `seed` is of the draws."""
        # A threshold is one step of float64 above a score: in float32 it would be that score.
        self._mates = mated.scores.astype(np.float64)
        self._others = non_mated.scores.astype(np.float64)
        self._ours, self._theirs = (
            SubjectBootstrap(
                labels[each.probe],
                labels[each.reference],
                subjects=int(labels.max()) + 1,
                seed=seed,
            )
            for each in (mated, non_mated)
        )

    @property
    def mated_count(self) -> int:
        """Return the number of mated scores."""
        return int(self._mates.size)

    @property
    def non_mated_count(self) -> int:
        """Return the number of non-mated scores."""
        return int(self._others.size)

    @cached_property
    def _curve(self) -> DetCurve:
        return det_curve(self._mates, self._others)

    def crossing(self) -> EqualErrorRate:
        """Return the equal error rate."""
        return self._curve.crossing()

    def d_prime(self) -> float:
        """Return the distance of the two distributions."""
        return d_prime(self._mates, self._others)

    def histogram(self) -> ScoreHistogram:
        """Return counts in equal bins."""
        return score_histogram(self._mates, self._others, HISTOGRAM_BINS)

    def thresholds_at(self, fmrs: Sequence[float]) -> list[float]:
        """Return the smallest threshold whose FMR is not above each rate."""
        return [threshold_at_fmr(self._others, fmr) for fmr in fmrs]

    def quantiles(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return thresholds at which FMR, and at which FNMR, is about each rate."""
        return np.concatenate(
            [np.quantile(self._others, 1 - rates), np.quantile(self._mates, rates)]
        )

    def det_points(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds of the exact curve, and FMRs: these are evenly spaced in their logarithm."""
        curve = self._curve
        there = np.flatnonzero(curve.fmr > 0)
        targets = np.geomspace(1.0, curve.fmr[there[-1]], DET_POINTS) * (1 + 1e-12)
        # FMR falls along the curve: the first point that is not above each rate.
        at = there[np.unique(np.searchsorted(-curve.fmr[there], -targets, side="left"))]
        return curve.thresholds[at], curve.fmr[at]

    def false_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count non-mated scores at or above ascending thresholds."""
        return _counted((self._others >= t for t in thresholds), self._theirs)

    def false_non_matches(self, thresholds: Sequence[float]) -> Counted:
        """Count mated scores below ascending thresholds."""
        return _counted((self._mates < t for t in thresholds), self._ours)


def _counted(events: Iterable[NDArray[np.bool_]], bootstrap: SubjectBootstrap) -> Counted:
    errors, draws, trials = [], [], 0
    for each in events:
        errors.append(int(each.sum()))
        draws.append(bootstrap.rates(each))
        trials = int(each.size)
    return Counted(np.array(errors, np.int64), trials, np.array(draws))
