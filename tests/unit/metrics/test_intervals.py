"""Intervals of counts against scipy, and the hull that is reported."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from verifykit.errors import InputError
from verifykit.metrics import eer_interval, rate_interval, rule_of_three, wilson_interval


@given(st.integers(1, 10**7), st.floats(0, 1), st.floats(0.01, 0.9999))
def test_wilson_is_scipys(trials: int, share: float, confidence: float) -> None:
    errors = round(share * trials)
    found = wilson_interval(errors, trials, confidence)
    expected = stats.binomtest(errors, trials).proportion_ci(confidence, method="wilson")
    assert found == pytest.approx(tuple(expected), rel=1e-9, abs=1e-12)
    assert 0.0 <= found[0] <= errors / trials <= found[1] <= 1.0


def test_the_ends_of_wilson_are_exact() -> None:
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    assert wilson_interval(3, 7, math.nextafter(1, 0))[1] < 1.0


@pytest.mark.parametrize("trials", [30, 300, 30_000])
def test_the_rule_of_three_is_the_exact_bound_rounded(trials: int) -> None:
    # Clopper and Pearson's one-sided bound without an error: 1 - 0.05^(1/n).
    exact = stats.binomtest(0, trials, alternative="less").proportion_ci(0.95).high
    assert rule_of_three(trials) == pytest.approx(exact, rel=0.06)
    assert rule_of_three(trials) >= exact


def test_three_in_fewer_than_three_is_one() -> None:
    assert [rule_of_three(trials) for trials in (1, 2, 3)] == [1.0, 1.0, 1.0]


def test_without_errors_the_rule_of_three_counts() -> None:
    draws = np.zeros(10)
    assert rate_interval(0, 600, draws) == (0.0, 0.005)
    assert rate_interval(600, 600, draws + 1) == (0.995, 1.0)
    assert rate_interval(1, 1) == (0.0, 1.0)


def test_the_reported_interval_is_the_wider_of_both() -> None:
    low, high = wilson_interval(10, 100)
    assert rate_interval(10, 100) == (low, high)
    # Draws that hardly vary do not make it narrower; NaN says nothing.
    assert rate_interval(10, 100, [0.1, math.nan, 0.1]) == (low, high)
    wide = np.linspace(0.0, 0.5, 1001)
    assert rate_interval(10, 100, wide) == pytest.approx((0.0125, 0.4875))
    # At 50 % the draws reach from 0.125, Wilson from 0.08.
    assert rate_interval(10, 100, wide, 0.5) == pytest.approx(
        (wilson_interval(10, 100, 0.5)[0], 0.375)
    )
    one_sided = np.linspace(0.1, 0.5, 1001)
    assert rate_interval(10, 100, one_sided) == pytest.approx((low, 0.49))


@pytest.mark.parametrize(
    ("errors", "trials", "confidence", "what"),
    [
        (0, 0, 0.95, "trials must be an integer of at least 1, got 0"),
        (5, 4, 0.95, "errors must be at most trials, got 5 of 4"),
        (-1, 4, 0.95, "errors must be an integer of at least 0, got -1"),
        (1, 4, 1.0, r"confidence must be in \(0, 1\), such as 0.95, got 1.0"),
        (0, 4, 95, r"confidence must be in \(0, 1\), such as 0.95, got 95"),
    ],
)
def test_impossible_counts_are_refused(
    errors: int, trials: int, confidence: float, what: str
) -> None:
    with pytest.raises(InputError, match=what):
        wilson_interval(errors, trials, confidence)
    with pytest.raises(InputError, match=what):
        rate_interval(errors, trials, None, confidence)


def test_nothing_to_draw_from_is_refused() -> None:
    with pytest.raises(InputError, match="trials must be an integer of at least 1, got 0"):
        rule_of_three(0)
    with pytest.raises(InputError, match="none of 2 draws holds a comparison"):
        rate_interval(1, 2, [math.nan, math.nan])


def crossing(fmr: list[float], fnmr: list[float]) -> float:
    """Where two polygons meet, segment by segment."""
    for k in range(len(fmr)):
        if fmr[k] == fnmr[k]:
            return fmr[k]
        if fmr[k] < fnmr[k]:
            gap = fmr[k - 1] - fnmr[k - 1]
            share = gap / (gap + fnmr[k] - fmr[k])
            return fnmr[k - 1] + share * (fnmr[k] - fnmr[k - 1])
    raise AssertionError("they do not cross")


RATE = st.integers(0, 8).map(lambda value: value / 8)


@given(st.integers(0, 6).flatmap(
    lambda inner: st.lists(
        st.tuples(*[st.lists(RATE, min_size=inner, max_size=inner)] * 2), min_size=1, max_size=8
    )
))  # fmt: skip
def test_each_draw_has_its_own_crossing(draws: list[tuple[list[float], list[float]]]) -> None:
    fmr = [[1.0, *sorted(first, reverse=True), 0.0] for first, _ in draws]
    fnmr = [[0.0, *sorted(second), 1.0] for _, second in draws]
    expected = [crossing(*pair) for pair in zip(fmr, fnmr, strict=True)]
    # The interval of almost everything is the range, that of almost nothing the median.
    low, high = eer_interval(np.transpose(fmr), np.transpose(fnmr), 1 - 1e-12)
    assert (low, high) == pytest.approx((min(expected), max(expected)), abs=1e-9)
    low, high = eer_interval(np.transpose(fmr), np.transpose(fnmr), 1e-12)
    assert (low, high) == pytest.approx([np.median(expected)] * 2, abs=1e-9)


def test_rates_may_meet_at_the_last_threshold_or_the_first() -> None:
    assert eer_interval([[1.0], [0.3]], [[0.0], [0.3]]) == (0.3, 0.3)
    assert eer_interval([[0.3], [0.0]], [[0.3], [1.0]]) == (0.3, 0.3)


def test_draws_with_nan_are_left_out() -> None:
    fmr = [[1.0, math.nan, 1.0], [0.2, 0.1, 0.5], [0.0, 0.0, 0.0]]
    fnmr = [[0.0, 0.0, math.nan], [0.2, 0.3, 0.5], [1.0, 1.0, 1.0]]
    assert eer_interval(fmr, fnmr) == (0.2, 0.2)


@pytest.mark.parametrize(
    ("fmr", "fnmr", "what"),
    [
        ([1.0, 0.0], [0.0, 1.0], r"one shape \(T, B\), got \(2,\) and \(2,\)"),
        ([[1.0], [0.0]], [[0.0, 1.0]], r"got \(2, 1\) and \(1, 2\)"),
        (np.empty((0, 3)), np.empty((0, 3)), r"got \(0, 3\)"),
        ([[0.0], [1.0]], [[0.0], [1.0]], "sort these ascending"),
        ([[1.0], [0.0]], [[1.0], [0.0]], "sort these ascending"),
        ([[1.0, 1.0], [0.5, 0.1]], [[0.0, 0.0], [0.2, 0.2]], "1 of 2 draws .* do not cross"),
        ([[0.1], [0.0]], [[0.5], [1.0]], "1 of 1 draws .* do not cross within the 2"),
        ([[math.nan], [0.0]], [[0.0], [1.0]], "none of 0 draws"),
    ],
)
def test_rates_that_do_not_cross_are_refused(
    fmr: list[list[float]], fnmr: list[list[float]], what: str
) -> None:
    with pytest.raises(InputError, match=what):
        eer_interval(fmr, fnmr)
