"""Rates and evidence of scores: monotone, exact at the points, never beyond the data."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.errors import ModelContractError
from verifykit.spec import Evidence, OperatingPoint, ScoreScale

SCORES = st.floats(-1.0, 1.0)


@st.composite
def scales(draw: st.DrawFn) -> ScoreScale:
    rates = draw(st.lists(st.sampled_from([0.5, 0.1, 1e-2, 1e-3, 1e-5]), min_size=1, unique=True))
    thresholds = draw(st.lists(SCORES, min_size=len(rates), max_size=len(rates)))
    pairs = zip(sorted(rates, reverse=True), sorted(thresholds), strict=True)
    return ScoreScale(tuple(OperatingPoint(fmr, t, 10**6, 1) for fmr, t in pairs))


@given(scales(), SCORES)
def test_a_match_and_a_rate_within_the_limit_are_the_same(scale: ScoreScale, score: float) -> None:
    rate = scale.fmr(score)
    assert rate is not None
    assert 0.0 < rate <= 1.0
    for point in scale.points:
        if sum(other.threshold == point.threshold for other in scale.points) == 1:
            assert (score >= point.threshold) == (rate <= point.fmr)


@given(scales(), SCORES, SCORES)
def test_a_higher_score_has_no_higher_rate(scale: ScoreScale, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert scale.fmr(high) <= scale.fmr(low)  # type: ignore[operator]


@given(scales())
def test_a_point_has_its_own_rate(scale: ScoreScale) -> None:
    for point in scale.points:
        there = [p.fmr for p in scale.points if p.threshold == point.threshold]
        assert scale.fmr(point.threshold) == min(there)


def test_log10_of_the_rate_is_linear_between_points() -> None:
    points = (OperatingPoint(1e-2, 0.2, 10**6, 1), OperatingPoint(1e-4, 0.4, 10**6, 1))
    scale = ScoreScale(points)
    assert scale.fmr(0.3) == pytest.approx(1e-3)
    assert scale.fmr(0.25) == pytest.approx(10**-2.5)
    assert scale.fmr(-1.0) == 1.0
    assert scale.fmr(-0.4) == pytest.approx(0.1)  # half way down to where everything matches
    assert scale.fmr(0.9) == 1e-4  # no lower than what was measured
    assert ScoreScale(()).fmr(0.3) is None


def test_half_of_the_non_mated_scores_have_a_rate_of_a_half() -> None:
    points = (OperatingPoint(1e-2, 0.2, 10**6, 1),)
    evidence = Evidence("random_forgery", 1, 40.0, -10.0, 0.1, 99, 9_999, non_mated_median=0.0)
    scale = ScoreScale(points, evidence)
    assert scale.fmr(0.0) == pytest.approx(0.5)
    assert scale.fmr(0.1) == pytest.approx((0.5 * 1e-2) ** 0.5)
    assert scale.fmr(-0.5) == pytest.approx(0.5**0.5)
    assert scale.fmr(0.2) == 1e-2
    # A median that contradicts the points is left out.
    for median in (0.2, 0.7):
        odd = ScoreScale(points, dataclasses.replace(evidence, non_mated_median=median))
        assert odd.fmr(0.5) == 1e-2


def test_evidence_is_bounded_by_its_counts() -> None:
    evidence = Evidence("random_forgery", 1, 40.0, -10.0, 0.1, 99, 9_999)
    assert evidence.llr(0.25) == 0.0
    assert evidence.llr(0.3) == pytest.approx(2.0)
    assert evidence.llr(1.0) == math.log(10_000)
    assert evidence.llr(-1.0) == -math.log(100)
    assert ScoreScale((), evidence).llr(0.3) == pytest.approx(2.0)
    assert ScoreScale(()).llr(0.3) is None


@pytest.mark.parametrize(
    ("slope", "intercept", "mated", "named"),
    [
        (-1.0, 0.0, 1, "slope"),
        (math.inf, 0.0, 1, "slope"),
        (1.0, math.nan, 1, "intercept"),
        (1.0, 0.0, 0, "mated"),
    ],
)
def test_invalid_evidence_is_refused(
    slope: float, intercept: float, mated: int, named: str
) -> None:
    with pytest.raises(ModelContractError, match=named):
        Evidence("random_forgery", 1, slope, intercept, 0.1, mated, 1)
