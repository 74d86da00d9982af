"""Error rates against brute force and scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from verifykit.errors import InputError
from verifykit.metrics import (
    det_curve,
    equal_error_rate,
    fmr_at,
    fnmr_at,
    fnmr_at_fmr,
    threshold_at_fmr,
)

# Few distinct values, so that ties are the rule.
SCORES = st.lists(st.integers(-4, 4).map(lambda value: value / 4), min_size=1, max_size=30)
RATES = st.one_of(st.floats(0.0, 1.0), st.integers(0, 30).map(lambda k: k / 30))


@given(SCORES, RATES)
def test_the_threshold_is_the_smallest_that_keeps_the_rate(
    non_mated: list[float], fmr: float
) -> None:
    threshold = threshold_at_fmr(non_mated, fmr)
    assert fmr_at(non_mated, threshold) <= fmr
    if math.isfinite(threshold):
        below = np.nextafter(threshold, -math.inf)
        assert sum(score >= below for score in non_mated) / len(non_mated) > fmr


@given(st.integers(1, 400), st.data())
def test_a_rate_of_k_in_n_allows_exactly_k(count: int, data: st.DataObject) -> None:
    allowed = data.draw(st.integers(0, count - 1))
    scores = np.arange(count, dtype=np.float64)
    threshold = threshold_at_fmr(scores, allowed / count)
    assert int((scores >= threshold).sum()) == allowed


@given(SCORES, SCORES)
def test_the_curve_is_a_count_at_each_threshold(mated: list[float], non_mated: list[float]) -> None:
    curve = det_curve(mated, non_mated)
    assert list(curve.thresholds) == [*sorted({*mated, *non_mated}), math.inf]
    for threshold, fmr, fnmr in zip(curve.thresholds, curve.fmr, curve.fnmr, strict=True):
        assert fmr == sum(s >= threshold for s in non_mated) / len(non_mated)
        assert fnmr == sum(s < threshold for s in mated) / len(mated)
        assert (fmr, fnmr) == (fmr_at(non_mated, threshold), fnmr_at(mated, threshold))


@given(SCORES, SCORES)
def test_the_equal_error_rate_is_that_of_fractions(
    mated: list[float], non_mated: list[float]
) -> None:
    rates = [
        (
            Fraction(sum(s >= t for s in non_mated), len(non_mated)),
            Fraction(sum(s < t for s in mated), len(mated)),
        )
        for t in [*sorted({*mated, *non_mated}), math.inf]
    ]
    after = next(pair for pair in rates if pair[1] >= pair[0])
    before = [pair for pair in rates if pair[1] <= pair[0]][-1]
    found = equal_error_rate(mated, non_mated)
    candidates = [pair for pair in (before, after) if sum(pair) == min(sum(before), sum(after))]
    assert found.eer in [pytest.approx(float(sum(pair) / 2), abs=1e-12) for pair in candidates]
    at = (fmr_at(non_mated, found.threshold), fnmr_at(mated, found.threshold))
    assert sorted(at) == [found.low, found.high]


def test_rates_that_are_equal_are_seen_as_equal() -> None:
    # One in ten of both: 1 - 9/10 is less than 1/10 in float64.
    found = equal_error_rate([0.4] + [0.9] * 9, [0.6] + [0.1] * 9)
    assert (found.low, found.high) == (0.1, 0.1)


def test_scikit_learn_draws_the_same_curve() -> None:
    rng = np.random.default_rng(7)
    mated, non_mated = rng.normal(1, 1, 300).round(2), rng.normal(-1, 1, 500).round(2)
    labels = np.repeat([1, 0], [300, 500])
    fpr, tpr, thresholds = roc_curve(
        labels, np.concatenate([mated, non_mated]), drop_intermediate=False
    )
    curve = det_curve(mated, non_mated)
    np.testing.assert_allclose(curve.thresholds[:-1], thresholds[:0:-1])
    np.testing.assert_allclose(curve.fmr, fpr[::-1], atol=1e-12)
    np.testing.assert_allclose(curve.fnmr, 1 - tpr[::-1], atol=1e-12)
    np.testing.assert_allclose(1 - curve.fnmr, tpr[::-1], atol=1e-12)
    crossing = np.argmin(np.abs(fpr - (1 - tpr)))
    eer = (fpr[crossing] + 1 - tpr[crossing]) / 2
    assert equal_error_rate(mated, non_mated).eer == pytest.approx(eer, abs=1 / 300)


def test_worked_examples() -> None:
    assert equal_error_rate([0.9, 0.8], [0.1, 0.2]).eer == 0.0
    assert equal_error_rate([0.1], [0.9]).eer == 1.0
    assert equal_error_rate([0.5], [0.5]).eer == 0.5
    # One of four mated below, one of four non-mated above: equal at a quarter.
    assert equal_error_rate([0.2, 0.6, 0.7, 0.8], [0.1, 0.3, 0.4, 0.65]).eer == 0.25
    fnmr, threshold = fnmr_at_fmr([0.2, 0.6, 0.7, 0.8], [0.1, 0.3, 0.4, 0.65], 0.25)
    assert (fnmr, threshold) == (0.25, np.nextafter(0.4, 1))


@pytest.mark.parametrize(
    ("mated", "non_mated", "what"),
    [
        ([], [0.1], "mated: there are no scores"),
        ([0.1], [], "non_mated: there are no scores"),
        ([math.nan, 0.1, math.nan], [0.1], "mated: 2 of 3 scores are NaN"),
        ([0.1], [math.inf, 0.1], r"non_mated: 1 of 2 scores are \+inf"),
    ],
)
def test_scores_without_an_order_are_refused(
    mated: list[float], non_mated: list[float], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        equal_error_rate(mated, non_mated)


def test_a_score_of_minus_infinity_is_below_every_threshold() -> None:
    assert fnmr_at([-math.inf, 0.5], -1e300) == 0.5
    assert threshold_at_fmr([-math.inf, -math.inf], 0.0) == -np.finfo(np.float64).max


@pytest.mark.parametrize("rate", [fmr_at, fnmr_at])
def test_a_threshold_that_is_no_number_is_refused(
    rate: Callable[[list[float], float], float],
) -> None:
    with pytest.raises(InputError, match="threshold must be a number, got nan"):
        rate([0.1], math.nan)


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[0, 1\], got 2"):
        threshold_at_fmr([0.1], 2)
