"""Intervals of measured rates: over comparisons, and over the subjects they come from."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.errors import InputError
from verifykit.metrics.draws import draw_subjects, eer_draws
from verifykit.metrics.inputs import checked_confidence, checked_count, checked_part


def wilson_interval(errors: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a rate, as if every comparison were independent of the others.

    Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22(158), 1927.

    Args:
        errors: How many went wrong, in [0, ``trials``].
        trials: Of how many, at least 1.
        confidence: In (0, 1), of both sides together.

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        InputError: The counts are not such integers, or ``confidence`` is outside (0, 1).
    """
    errors, trials = checked_part("errors", errors, "trials", trials)
    # From the lower tail: 1 - tail is 1 for the highest confidences, and has no quantile.
    z = -NormalDist().inv_cdf((1.0 - checked_confidence(confidence)) / 2.0)
    rate, spread = errors / trials, z * z / trials
    centre = (rate + spread / 2.0) / (1.0 + spread)
    half = math.sqrt(spread * (rate * (1.0 - rate) + spread / 4.0)) / (1.0 + spread)
    return max(0.0, centre - half), 1.0 if errors == trials else min(1.0, centre + half)


def rule_of_three(trials: int) -> float:
    """Return the 95 % upper bound of a rate when no error was seen: ``min(1, 3 / trials)``.

    ISO/IEC 19795-1, the rule of 3: with a rate above 3 / n, n independent comparisons would have shown
    an error with 95 % (``exp(-3)`` is 0.0498).

    Args:
        trials: Comparisons, at least 1.

    Raises:
        InputError: ``trials`` is not such an integer.
    """
    return min(1.0, 3.0 / checked_count("trials", trials, 1))


class SubjectBootstrap:
    """Draw subjects again, and return how a rate over their comparisons varies.

    Comparisons that share a subject are not independent, so that drawing comparisons again gives
    intervals that are too narrow. Bolle, Ratha and Pankanti, "Error analysis of pattern recognition
    systems: the subsets bootstrap", Computer Vision and Image Understanding 93, 2004. A subject that a
    draw holds w times gives each comparison of its own samples the weight w; one between subjects i and j
    weighs ``w_i * w_j``.

    Which subjects are drawn depends on nothing but ``resamples``, ``seed``, ``groups`` and how many
    subjects there are: give ``subjects`` for mated and non-mated comparisons alike, and draw b of the
    one's FMR belongs to draw b of the other's FNMR.

    Args:
        first: (P,) integers, whose sample the one side of each comparison is.
        second: (P,) integers, the other side; the same subject in mated comparisons.
        subjects: Labels are 0 to ``subjects - 1``, and all of these are drawn from, also those without a
            comparison. None: any labels, and those that occur are drawn from.
        resamples: B, how many draws, at least 1.
        seed: Of the draws, at least 0.
        groups: G, at least 2. More subjects than that are put into G random groups of about equal size,
            and groups are drawn, which bounds the memory to G x G and B x G numbers.

    Raises:
        InputError: There are no comparisons, the labels are not integers, not as many on both sides or
            not within ``subjects``, or a number is less than its least.
    """

    def __init__(
        self,
        first: ArrayLike,
        second: ArrayLike,
        *,
        subjects: int | None = None,
        resamples: int = 1000,
        seed: int = 0,
        groups: int = 2000,
    ) -> None:
        total, sides = _subject_indices(first, second, subjects)
        self._weights, group_of = draw_subjects(
            total, resamples=resamples, seed=seed, groups=groups
        )
        self._size = self._weights.shape[1]
        sides = group_of[sides]
        # Mated comparisons need no table.
        self._is_within = bool((sides[0] == sides[1]).all())
        self._cells = sides[0] if self._is_within else sides[0] * self._size + sides[1]
        self._trials = self._weighed(self._cells)

    def rates(self, events: ArrayLike) -> NDArray[np.float64]:
        """Return the rate of an event among the comparisons, in every draw.

        Args:
            events: (P,) bool, for which comparisons it happened, such as a false match.

        Returns:
            (B,) float64 in [0, 1]; NaN where a draw holds no comparison.

        Raises:
            InputError: ``events`` is not P booleans.
        """
        happened = np.asarray(events)
        if happened.dtype != np.bool_ or happened.shape != self._cells.shape:
            raise InputError(
                f"events is one bool for each of the {self._cells.size} comparisons, got "
                f"{happened.dtype} of shape {happened.shape}"
            )
        found = np.full(self._trials.size, np.nan)
        np.divide(
            self._weighed(self._cells[happened]), self._trials, out=found, where=self._trials > 0
        )
        return found

    def interval(self, events: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
        """Return the percentile interval of a rate; both ends are 0 where the event never happened.

        Args:
            events: (P,) bool, for which comparisons it happened.
            confidence: In (0, 1), of both sides together.

        Returns:
            Lower and upper bound, in [0, 1].

        Raises:
            InputError: ``events`` is not P booleans, ``confidence`` is outside (0, 1), or no draw holds
                a comparison.
        """
        return _percentiles(self.rates(events), confidence)

    def _weighed(self, cells: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B,) sums of the comparisons in these cells of the G x G table, each by its weight."""
        if self._is_within:
            return self._weights @ np.bincount(cells, minlength=self._size).astype(np.float64)
        tally = np.bincount(cells, minlength=self._size**2).reshape(self._size, self._size)
        between = tally.astype(np.float64)
        within = between.diagonal().copy()
        np.fill_diagonal(between, 0.0)
        weights = self._weights
        return np.asarray(((weights @ between) * weights).sum(axis=1) + weights @ within)


def rate_interval(
    errors: int, trials: int, bootstrap_draws: ArrayLike | None = None, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the interval to report with a rate: never narrower than independent comparisons would allow.

    The hull of :func:`wilson_interval` and of the percentiles of a bootstrap over subjects, which is too
    narrow itself where few subjects have errors. Where no comparison went wrong, or every one, the
    :func:`rule_of_three`, which is a bound at 95 % whatever ``confidence``.

    Args:
        errors: How many went wrong, in [0, ``trials``].
        trials: Of how many, at least 1.
        bootstrap_draws: (B,) rates of :meth:`SubjectBootstrap.rates`; NaN is left out.
        confidence: In (0, 1), of both sides together.

    Returns:
        Lower and upper bound, in [0, 1]; ``errors / trials`` is between them.

    Raises:
        InputError: The counts are not such integers, ``confidence`` is outside (0, 1), or the draws are
            empty or nothing but NaN.
    """
    low, high = wilson_interval(errors, trials, confidence)
    if errors == 0:
        return 0.0, rule_of_three(trials)
    if errors == trials:
        return 1.0 - rule_of_three(trials), 1.0
    if bootstrap_draws is None:
        return low, high
    drawn_low, drawn_high = _percentiles(np.asarray(bootstrap_draws, np.float64), confidence)
    return min(low, drawn_low), max(high, drawn_high)


def eer_interval(
    fmr_draws: ArrayLike, fnmr_draws: ArrayLike, confidence: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the equal error rate over draws of subjects.

    In each draw the two rates cross between two neighbouring thresholds; the EER is where the straight
    lines between their values meet.

    Args:
        fmr_draws: (T, B) rates at T ascending thresholds in B draws, not increasing along T.
        fnmr_draws: (T, B) rates in the same draws, not decreasing along T.
        confidence: In (0, 1), of both sides together.

    Returns:
        Lower and upper bound, in [0, 1]. Draws with a NaN are left out.

    Raises:
        InputError: The shapes differ or are not (T, B), no draw is without NaN, a rate runs the wrong way,
            the rates of a draw do not cross within the thresholds, or ``confidence`` is outside (0, 1).
    """
    found = eer_draws(fmr_draws, fnmr_draws)
    return _percentiles(found[~np.isnan(found)], confidence)


def _percentiles(draws: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = (1.0 - checked_confidence(confidence)) / 2.0
    known = draws[~np.isnan(draws)]
    if not known.size:
        raise InputError(
            f"none of {draws.size} draws holds a comparison: draw more, or from more subjects"
        )
    low, high = np.quantile(known, (tail, 1.0 - tail))
    return float(low), float(high)


def _subject_indices(
    first: ArrayLike, second: ArrayLike, subjects: int | None
) -> tuple[int, NDArray[np.int64]]:
    """How many subjects there are, and (2, P) which of them each side of a comparison is."""
    one, two = np.asarray(first), np.asarray(second)
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise InputError(
            f"first and second are (P,) labels of at least one comparison, got {one.shape} and {two.shape}"
        )
    labels = np.stack([one, two])
    if labels.dtype.kind not in "iu":
        raise InputError(f"subject labels are integers, got {labels.dtype}: number the subjects")
    if subjects is None:
        known = np.unique(labels)
        return known.size, np.searchsorted(known, labels).astype(np.int64)
    total = checked_count("subjects", subjects, 1)
    if labels.min() < 0 or labels.max() >= total:
        raise InputError(
            f"subject labels are 0 to {total - 1} with subjects={total}, got {labels.min()} to {labels.max()}"
        )
    return total, labels.astype(np.int64)
