"""A sequential test of live scores against a calibration, with a bound on its false alarms.

The levels of a calibration are its rates ``p_1 > p_2 > ...`` with their thresholds. A probe is compared with
some subjects who are not its own, and ``x_k`` is the share of these scores that reach the threshold of
``p_k``. The calibration holds while no more than ``q_k`` of the scores do: ``p_k``, and what is tolerated.

A bet is ``E = 1 + sum_k b_k (x_k - q_k)`` with ``b_k >= 0`` and ``sum_k b_k q_k <= 1``. It is never negative,
and while the calibration holds its mean is at most 1: it is an e-value, however dependent the scores of one
probe are, since it is a mean over them (Vovk and Wang, "E-values: calibration, combination and
applications", Annals of Statistics 49, 2021). The e-detector of a bet is ``R = E (R_before + 1)``, from 0.
While the calibration holds, ``R`` less the number of probes does not rise on average, so that an alarm at
``R >= A`` comes after ``A`` probes or more on average (Shin, Ramdas and Rinaldo, "E-detectors: a
nonparametric framework for sequential change detection", arXiv 2203.03532; the statistic is that of
Shiryaev and Roberts). The mean over several bets has the same bound, and is what is used here.

``R + 1`` follows from its value before a run of probes by one product and one sum. These are what is kept
and stored, so that the evidence of several processes can be joined.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from verifykit.errors import CalibrationError, shown
from verifykit.spec import ModelSpec, OperatingPoint

Values = NDArray[np.float64]

TOLERANCE = 1.5
"""A rate that rose less than this is not looked for: another crowd of the same kind varies as much."""

FALSE_ALARM_PROBES = 365_000
"""Mean number of probes to a false alarm, at least: a year of 1,000 a day."""

ALLOWANCE = 0.05
"""Subjects of the gallery, for each probe, that may be the probe's own: missed, or enrolled twice."""

_LOWEST_LEVEL = 1e-5
_HIGHEST_STATED = 0.1
# A level takes part if three standard deviations of what the subjects happen to have among themselves, were
# their pairs independent, are tolerated: fewer subjects say nothing about a population.
_DEVIATIONS = 3.0
_LEAST_COUNT = 25
_RATIOS = (2.5, 4.0, 8.0, 30.0)
_BOLDEST = 0.8
_RECENT_PROBES = 2000
_NORMAL = NormalDist()


def _z(rate: float) -> float:
    """Return the score of a standard normal distribution that a share ``rate`` exceeds."""
    return -_NORMAL.inv_cdf(min(max(rate, 1e-15), 1 - 1e-15))


def shifted(rates: Sequence[float], at: float, ratio: float) -> Values:
    """Return the rates after normal scores moved up so that ``at`` is multiplied by ``ratio``."""
    shift = _z(at) - _z(min(at * ratio, 0.5))
    return np.array([_NORMAL.cdf(shift - _z(rate)) for rate in rates])


def spread(rates: Sequence[float], at: float, ratio: float) -> Values:
    """Return the rates after normal scores spread from their median so that ``at`` is multiplied."""
    factor = _z(min(at * ratio, 0.4)) / _z(at)
    return np.array([_NORMAL.cdf(-factor * _z(rate)) for rate in rates])


def raised_tail(rates: Sequence[float], at: float, ratio: float) -> Values:
    """Return the rates after those below 0.1 rose by a power, so that ``at`` is multiplied."""
    top = 2 * _HIGHEST_STATED
    power = math.log(min(at * ratio, 0.9 * top) / top) / math.log(at / top)
    return np.array([rate if rate >= top else top * (rate / top) ** power for rate in rates])


_SHAPES = (shifted, spread, raised_tail)
BET_COUNT = len(_SHAPES) * len(_RATIOS) * 3


@dataclass(frozen=True)
class Bets:
    """The bets for one number of subjects.

    Attributes:
        slopes: (M, L) ``b_k`` of each bet, 0 for levels that take no part.
        expected: (L,) ``q_k``.
    """

    slopes: Values
    expected: Values

    def values(self, shares: Values) -> Values:
        """Return ``E`` of each bet (M,) for the shares of one probe's scores that reach each level (L,)."""
        return 1.0 + self.slopes @ (shares - self.expected)


@dataclass(frozen=True)
class Levels:
    """The rates at which live scores are held against a calibration.

    Attributes:
        rates: ``p_k``, falling.
        tolerated: The share of scores at each that still agrees with the calibration: the upper end of its
            interval, or the rates of scores that moved up until the stated rate is 1.5 times as high.
        stated: The false match rate that decisions state.
    """

    rates: tuple[float, ...]
    tolerated: tuple[float, ...]
    stated: float

    @classmethod
    def of(cls, spec: ModelSpec, fmr: float) -> Levels:
        """Return the levels of a model's calibration for a stated rate of random forgeries.

        Raises:
            CalibrationError: The model is not calibrated for random forgeries.
        """
        points = _random_points(spec)
        median = _median(spec, points[0].reference_count)
        rates = [point.fmr for point in points]
        highs = [max(point.fmr, *(point.fmr_interval or (0.0,))) for point in points]
        stated = min(max(fmr, rates[-1]), _HIGHEST_STATED)
        if median is not None and median < min(point.threshold for point in points):
            # Its interval was not measured: that of the next level, moved.
            rates, highs = [0.5, *rates], [_NORMAL.cdf(_z(rates[0]) - _z(highs[0])), *highs]
        moved = shifted(rates, stated, TOLERANCE).tolist()
        tolerated = tuple(min(1.0, max(each)) for each in zip(moved, highs, strict=True))
        return cls(tuple(rates), tolerated, stated)

    def is_same(self, other: Levels) -> bool:
        """Return whether both are of one calibration; another machine's may differ in the last bits."""
        mine, theirs = ((*each.rates, *each.tolerated, each.stated) for each in (self, other))
        return len(mine) == len(theirs) and all(map(math.isclose, mine, theirs))

    def used(self, subject_count: float) -> int:
        """Return how many levels, the highest first, can be judged in a gallery of so many subjects."""
        pairs = subject_count * (subject_count - 1) / 2
        for n, (rate, tolerated) in enumerate(zip(self.rates, self.tolerated, strict=True)):
            deviation = math.sqrt(rate * (1 - rate) / pairs) if pairs > 0 else math.inf
            if _DEVIATIONS * deviation > tolerated - rate:
                return n
        return len(self.rates)

    @property
    def least_subjects(self) -> int:
        """Return the least number of subjects in which anything can be judged."""
        return next(count for count in itertools.count(2) if self.used(count))

    def bets(self, subject_count: float) -> Bets | None:
        """Return the bets in a gallery of so many subjects; None where they are too few for any level."""
        return _bets(self, subject_count)

    def thresholds(self, spec: ModelSpec, reference_count: int) -> Values:
        """Return the threshold of each level for calibrated references (L,); infinite where there is none."""
        scale = spec.scale_of("random_forgery", reference_count)
        known: dict[float, float] = {point.fmr: point.threshold for point in scale.points}
        if scale.evidence is not None and scale.evidence.non_mated_median is not None:
            known[0.5] = scale.evidence.non_mated_median
        return np.array([known.get(rate, np.inf) for rate in self.rates])


def _random_points(spec: ModelSpec) -> list[OperatingPoint]:
    """Return the points of the fewest references, the highest rate first."""
    points = [point for point in spec.operating_points if point.attack == "random_forgery"]
    if not points:
        raise CalibrationError(
            f"model {shown(spec.name)} is not calibrated for random forgeries, so that live scores cannot be "
            "held against anything: calibrate it on your own images (verifykit calibrate)"
        )
    fewest = min(point.reference_count for point in points)
    mine = [point for point in points if point.reference_count == fewest]
    highest = max(mine, key=lambda point: point.fmr)
    kept = [point for point in mine if point.fmr >= _LOWEST_LEVEL] or [highest]
    return sorted(kept, key=lambda point: -point.fmr)


def _median(spec: ModelSpec, reference_count: int) -> float | None:
    evidence = spec.scale_of("random_forgery", reference_count).evidence
    return None if evidence is None else evidence.non_mated_median


@lru_cache(maxsize=64)
def _bets(levels: Levels, subject_count: float) -> Bets | None:
    own = ALLOWANCE / max(subject_count, 1.0)
    expected = np.minimum(np.array(levels.tolerated) + own, 1.0)
    used = levels.used(subject_count)
    if not used:
        return None
    slopes = np.zeros((BET_COUNT, len(expected)))
    alternatives = [
        np.minimum(shape(levels.rates, levels.stated, ratio) + own, 1.0)[:used]
        for shape in _SHAPES
        for ratio in _RATIOS
    ]
    slopes[:, :used] = np.concatenate([_slopes(tail, expected[:used]) for tail in alternatives])
    return Bets(slopes, expected)


def _slopes(alternative: Values, expected: Values) -> Values:
    """Return three bets on an alternative (3, L): by its likelihood ratio, and bolder.

    The ratio is best for one score a probe. The share of many scores varies less, so more can be staked.
    """
    usual, other = (
        -np.diff(np.concatenate([[1.0], tail, [0.0]]))
        for tail in (expected, np.minimum.accumulate(alternative))
    )
    ratio = np.divide(other, usual, out=np.zeros_like(other), where=usual > 0)
    rising = np.maximum.accumulate(np.maximum(ratio, 0.0))
    slopes = np.diff(rising / max(float(rising @ usual), 1e-300))
    # The factor at which everything could be lost.
    ruin = 1.0 / max(float(slopes @ expected), 1e-9)
    factors = (min(1.0, _BOLDEST * ruin), math.sqrt(_BOLDEST * ruin), _BOLDEST * ruin)
    return np.stack([slopes * min(factor, _BOLDEST * ruin) for factor in factors])


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known after some probes: counts, and the e-detector of each bet.

    Attributes:
        probes: Number of probes.
        scores: Number of scores: of each probe against several subjects.
        counts: (L,) how many of them reached the threshold of each level.
        recent: (L + 2,) probes, scores and counts of the last 2,000 to 4,000 probes, of which older ones
            weigh less.
        log_product: (M,) logarithm of the product of all ``E``.
        log_sum: (M,) logarithm of what is added to it: ``R + 1`` is their sum.
    """

    probes: int
    scores: int
    counts: NDArray[np.int64]
    recent: Values
    log_product: Values
    log_sum: Values

    @classmethod
    def none(cls, levels: Levels) -> Evidence:
        """Return the evidence before the first probe."""
        size = len(levels.rates)
        return cls(
            0,
            0,
            np.zeros(size, np.int64),
            np.zeros(size + 2),
            np.zeros(BET_COUNT),
            np.full(BET_COUNT, -np.inf),
        )

    @classmethod
    def of_probe(cls, bets: Bets, scores: int, counts: NDArray[np.int64]) -> Evidence:
        """Return the evidence of one probe: of its scores, so many reached each level."""
        values = np.maximum(bets.values(counts / scores), 1e-12)
        recent = np.concatenate([[1.0, scores], counts])
        return cls(1, scores, counts, recent, np.log(values), np.zeros(len(values)))

    def then(self, later: Evidence) -> Evidence:
        """Return the evidence of these probes and later ones; associative."""
        recent = self.recent + later.recent
        if recent[0] >= 2 * _RECENT_PROBES:
            recent = recent / 2
        return Evidence(
            self.probes + later.probes,
            self.scores + later.scores,
            self.counts + later.counts,
            recent,
            self.log_product + later.log_product,
            np.logaddexp(later.log_product + self.log_sum, later.log_sum),
        )

    @property
    def log_evidence(self) -> float:
        """Return the natural logarithm of the mean of the e-detectors; an alarm from that of 365,000 on."""
        logs = np.logaddexp(self.log_product, self.log_sum)
        mean = float(np.logaddexp.reduce(logs)) - math.log(len(logs))
        if mean > 30.0:
            return mean
        return math.log(max(math.expm1(mean), 1e-300))

    @property
    def is_alarm(self) -> bool:
        """Return whether the calibration is refuted."""
        return self.log_evidence >= math.log(FALSE_ALARM_PROBES)


def rate_now(levels: Levels, scores: float, counts: Sequence[float]) -> float | None:
    """Return the estimate of the rate at the stated rate's threshold; None with too few scores.

    That of the lowest level that at least 25 scores reached, moved to the stated rate as if all scores had
    moved, and were normal.
    """
    reached = [n for n, count in enumerate(counts) if count >= _LEAST_COUNT]
    if not reached or not scores:
        return None
    level = levels.rates[reached[-1]]
    share = counts[reached[-1]] / scores
    return _NORMAL.cdf(_z(level) - _z(share) - _z(levels.stated))
