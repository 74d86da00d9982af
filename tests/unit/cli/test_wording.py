"""Rates as text, and options in messages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.cli._run import as_options
from verifykit.cli.render import counted, interval_text, share_text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.00 %"),
        (1.0, "100.0 %"),
        (0.5, "50.0 %"),
        (0.019, "1.9 %"),
        (0.0074, "0.74 %"),
        (0.001, "0.10 %"),
        (0.00025, "0.025 %"),
        (1.3e-5, "0.0013 %"),
        (1e-6, "0.0001 %"),
        (4.4e-8, "0.0000044 %"),
    ],
)
def test_a_share_in_percent(share: float, text: str) -> None:
    assert share_text(share) == text


@given(st.floats(1e-9, 1.0))
def test_a_share_keeps_two_digits_and_is_no_power_of_ten(share: float) -> None:
    shown = share_text(share)
    assert shown.endswith(" %")
    assert "e" not in shown
    assert float(shown[:-2]) / 100 == pytest.approx(share, rel=0.051)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_higher_share_is_not_shown_lower(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert float(share_text(low)[:-2]) <= float(share_text(high)[:-2])


def test_an_interval_and_a_count() -> None:
    assert interval_text(0.005, 0.019) == "[0.50, 1.9] %"
    assert interval_text(0.0, 1.0) == "[0.00, 100.0] %"
    assert [counted(n, "pair") for n in (0, 1, 2)] == ["0 pairs", "1 pair", "2 pairs"]


@pytest.mark.parametrize(
    ("message", "written"),
    [
        ("pass overwrite=True", "pass --overwrite"),
        ("accept it with quality='warn'", "accept it with --quality warn"),
        ("pass multi_face='largest' or 'all'", "pass --multi-face largest or all"),
        ("fmr=0.001: give threshold=, or", "--fmr 0.001: give --threshold, or"),
        ("subject 'quality=warn' in a/quality=x", "subject 'quality=warn' in a/quality=x"),
        ("size=3 is no option", "size=3 is no option"),
    ],
)
def test_keywords_of_the_library_are_written_as_options(message: str, written: str) -> None:
    names = ("overwrite", "quality", "multi_face", "fmr", "threshold")
    options = {name: "--" + name.replace("_", "-") for name in names}
    assert as_options(message, options) == written
