"""Log-likelihood ratios fitted to scores, and their cost in bits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from verifykit.metrics.inputs import checked_counts, checked_scores

_STEPS = 100
_BLOCK = 1 << 13
_SETTLED = 1e-6  # in log-odds; the error after such a step is about its square


@dataclass(frozen=True)
class LogisticFit:
    """A score as evidence: ``llr = slope * score + intercept``, in natural logarithms.

    Attributes:
        slope: At least 0; 0 with an intercept of 0 where the scores are no evidence.
        intercept: The log-likelihood ratio of a score of 0.
    """

    slope: float
    intercept: float


def cllr(
    mated_llr: ArrayLike,
    non_mated_llr: ArrayLike,
    *,
    mated_counts: ArrayLike | None = None,
    non_mated_counts: ArrayLike | None = None,
) -> float:
    """Return the cost of log-likelihood ratios: what they leave unknown, averaged over all priors' decisions.

    ``(mean log2(1 + exp(-mated)) + mean log2(1 + exp(non_mated))) / 2``. Brümmer and du Preez,
    "Application-independent evaluation of speaker detection", Computer Speech & Language 20, 2006.

    Args:
        mated_llr: (M,) finite natural logarithms of likelihood ratios.
        non_mated_llr: (N,) the same.
        mated_counts: (M,) how often each occurs, more than 0; None for once.
        non_mated_counts: (N,) the same.

    Returns:
        Bits, at least 0: 1 for ratios that say nothing (all 0), more for ratios that mislead.

    Raises:
        InputError: There are none, one is NaN or infinite, or the counts are not such numbers.
    """
    mates = checked_scores("mated_llr", mated_llr, finite=True)
    others = checked_scores("non_mated_llr", non_mated_llr, finite=True)
    often = checked_counts("mated_counts", mated_counts, mates.size)
    others_often = checked_counts("non_mated_counts", non_mated_counts, others.size)
    nats = np.average(np.logaddexp(0.0, -mates), weights=often)
    nats += np.average(np.logaddexp(0.0, others), weights=others_often)
    return float(nats) / (2.0 * math.log(2.0))


def fit_log_likelihood_ratio(
    mated: ArrayLike,
    non_mated: ArrayLike,
    *,
    mated_counts: ArrayLike | None = None,
    non_mated_counts: ArrayLike | None = None,
) -> LogisticFit:
    """Fit log-likelihood ratios to scores by logistic regression, mated and non-mated at prior 1/2 each.

    With equal priors the posterior log-odds are the log-likelihood ratio (Brümmer and du Preez, 2006).
    The targets are Platt's, (M + 1) / (M + 2) for mated and 1 / (N + 2) for non-mated scores, so that
    scores that are separable have a finite slope: "Probabilistic outputs for support vector machines", in
    Advances in Large Margin Classifiers, 1999. Newton's method, a step halved until the loss falls.

    Args:
        mated: (M,) finite scores.
        non_mated: (N,) finite scores.
        mated_counts: (M,) how often each score occurs, more than 0; None for once. M above is their sum.
        non_mated_counts: (N,) the same.

    Returns:
        Slope and intercept for scores as they were given. Both are 0 where a higher score would speak
        against a mated comparison, or where all scores are equal: no evidence either way.

    Raises:
        InputError: There are no scores, one is NaN or infinite, or the counts are not such numbers.
    """
    mates = checked_scores("mated", mated, finite=True)
    others = checked_scores("non_mated", non_mated, finite=True)
    often = checked_counts("mated_counts", mated_counts, mates.size)
    others_often = checked_counts("non_mated_counts", non_mated_counts, others.size)
    totals = [
        float(values.size if counts is None else counts.sum())
        for values, counts in ((mates, often), (others, others_often))
    ]
    low = min(float(mates.min()), float(others.min()))
    span = max(float(mates.max()), float(others.max())) - low
    if span == 0.0:
        return LogisticFit(0.0, 0.0)
    # Newton's steps do not depend on origin and unit, but rounding does: most scores near 0, all within 1,
    # however far outliers lie.
    mates, others = (mates - low) / span, (others - low) / span
    centre = float(np.median(mates) + np.median(others)) / 2.0
    slope, intercept = _minimum(
        _Class(mates - centre, (totals[0] + 1) / (totals[0] + 2), often),
        _Class(others - centre, 1 / (totals[1] + 2), others_often),
    )
    if slope <= 0.0:
        return LogisticFit(0.0, 0.0)
    return LogisticFit(slope / span, intercept - slope * (centre + low / span))


@dataclass(frozen=True, eq=False)
class _Class:
    """Scores of one kind, in [-1, 1], the probability to predict for each, and how often each occurs."""

    scores: NDArray[np.float64]
    target: float
    counts: NDArray[np.float64] | None

    def sums(self, slope: float, intercept: float) -> NDArray[np.float64]:
        """(6,) means over the scores: loss, its gradient (2), its curvature (aa, ab, bb)."""
        sums = np.zeros(6)
        # Blocks stay in the cache, and are too short for BLAS to start threads: on a busy machine these
        # wait for each other, and a second becomes ten.
        for start in range(0, self.scores.size, _BLOCK):
            scores = self.scores[start : start + _BLOCK]
            odds = slope * scores + intercept
            decay = np.exp(-np.abs(odds))
            excess = np.where(odds >= 0.0, 1.0, decay) / (1.0 + decay) - self.target
            curve = decay / (1.0 + decay) ** 2
            loss = np.maximum(odds, 0.0) + np.log1p(decay) - self.target * odds
            if self.counts is not None:
                often = self.counts[start : start + _BLOCK]
                excess, curve, loss = excess * often, curve * often, loss * often
            weighted = curve * scores
            sums += (
                loss.sum(),
                excess @ scores,
                excess.sum(),
                weighted @ scores,
                weighted.sum(),
                curve.sum(),
            )
        return sums / (self.scores.size if self.counts is None else self.counts.sum())


def _minimum(mated: _Class, non_mated: _Class) -> tuple[float, float]:
    """Slope and intercept at the least loss, which is strictly convex."""
    point = np.zeros(2)
    here = mated.sums(*point) + non_mated.sums(*point)
    for _ in range(_STEPS):
        step = -np.linalg.solve([here[3:5], here[4:6]], here[1:3])
        # No score is beyond 1, so that this bounds how far any log-odds move. By at most 1, the
        # curvature changes by less than a factor e and the loss is sure to fall (Bach, "Self-concordant
        # analysis for logistic regression", Electronic Journal of Statistics 4, 2010): not checked then,
        # since rounding could say no.
        reach = float(np.abs(step).sum())
        if reach < _SETTLED:
            point = point + step
            break
        there = mated.sums(*(point + step)) + non_mated.sums(*(point + step))
        while reach > 1.0 and there[0] > here[0]:
            step, reach = step / 2.0, reach / 2.0
            there = mated.sums(*(point + step)) + non_mated.sums(*(point + step))
        point, here = point + step, there
    return float(point[0]), float(point[1])
