"""Rates as text: what a reader sees must not say more, or less, than was measured."""

from __future__ import annotations

import math

import pytest

from verifykit.evaluation.report.formats import bounds, number, one_in, percent, plain_text, share
from verifykit.evaluation.results import Interval

THIN = "\u202f"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-6, "0.00010"),
        (0.00012, "0.012"),
        (0.0195, "1.9"),
        (0.0999, "10.0"),
        (0.5, "50.0"),
        (0.989, "98.9"),
        (0.9985, "99.85"),
        (0.999999, "99.99"),
        (1.0, "100"),
    ],
)
def test_a_measured_share_in_percent(value: float, text: str) -> None:
    assert percent(value) == f"{text}{THIN}%"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_share_is_a_dash(value: float | None) -> None:
    assert percent(value) == "\u2013"


@pytest.mark.parametrize("power", range(1, 8))
def test_asked_rates_have_no_zeros_at_the_end(power: int) -> None:
    assert float(share(10.0**-power).removesuffix(f"{THIN}%")) == pytest.approx(100 * 10.0**-power)
    assert not share(10.0**-power).removesuffix(f"{THIN}%").endswith("0") or power == 1
    assert one_in(10.0**-power) == f"1 in {10**power:,}"


def test_a_rate_that_is_no_round_count_says_about() -> None:
    assert one_in(0.0003) == "1 in about 3,333"


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (0.019, 0.012, 0.027, "[1.2, 2.7]"),
        (0.0004, 0.0001, 0.0012, "[0.010, 0.120]"),
        (0.0, 0.0, 0.0006, "[0, 0.060]"),
        (0.05, 1e-5, 0.1, "[0.0010, 10.0]"),
        (1.0, 0.99, 1.0, "[99.0, 100]"),
    ],
)
def test_an_interval_has_the_decimals_of_its_value(
    value: float, low: float, high: float, text: str
) -> None:
    assert bounds(Interval(value, low, high)) == text


def test_an_interval_that_could_not_be_had_is_left_out() -> None:
    assert bounds(None) == bounds(Interval(0.1, math.nan, math.nan)) == ""


def test_numbers_that_are_not_finite_have_a_sign_of_their_own() -> None:
    assert [number(value) for value in (math.inf, -math.inf, math.nan, None, -0.25)] == [
        "\u221e",
        "\u2212\u221e",
        "\u2013",
        "\u2013",
        "\u22120.250",
    ]


def test_names_that_no_page_can_hold_become_printable() -> None:
    assert plain_text("a\udcffb\x00c\n\u7530") == "a\ufffdb\ufffdc\ufffd\u7530"
