"""Format rates, counts and scores for a reader: 1.9 %, 0.0001 %, 1 in 10,000."""

from __future__ import annotations

import math
import re

from verifykit.evaluation.results import Interval, Rate

# A thin space that does not break keeps the sign at its number.
_SIGN = "\u202f%"
_NOTHING = "\u2013"
_MINUS = "\u2212"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def percent(value: float | None) -> str:
    """Format a measured share: two significant digits below 10 %, and never rounded up to all."""
    if value is None or not math.isfinite(value):
        return _NOTHING
    return _digits(value, _decimals(value)) + _SIGN


def share(value: float) -> str:
    """Format a requested rate or one at an axis, without zeros at the end: ``0.01 %``."""
    text = f"{100 * value:.10f}".rstrip("0").rstrip(".")
    return text + _SIGN


def one_in(value: float) -> str:
    """Format a rate as a count: ``1 in 10,000``."""
    trials = 1 / value
    whole = round(trials)
    return f"1 in {whole:,}" if abs(trials - whole) < 1e-6 * trials else f"1 in about {whole:,}"


def bounds(rate: Rate | Interval | None) -> str:
    """Format the interval of a rate with the decimals of the rate, in percent: ``[1.2, 2.7]``."""
    if rate is None or not (math.isfinite(rate.low) and math.isfinite(rate.high)):
        return ""
    decimals = _decimals(rate.value or rate.high)
    return f"[{_digits(rate.low, decimals)}, {_digits(rate.high, decimals)}]"


def number(value: float | None, decimals: int = 3) -> str:
    """Format a score, a threshold or a d'."""
    if value is None or math.isnan(value):
        return _NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else _MINUS + "∞"
    return f"{value:.{decimals}f}".replace("-", _MINUS)


def count(value: int) -> str:
    """Format a number of things: ``120,000``."""
    return f"{value:,}"


def plain_text(text: str) -> str:
    """Return the text without control characters and without halves of surrogate pairs.

    The names of files hold the latter where their bytes are not UTF-8; a page cannot.
    """
    return _UNPRINTABLE.sub("\ufffd", text)


def _decimals(value: float) -> int:
    """Return the decimals that show two digits of a share in percent, or of what it lacks to all."""
    if not math.isfinite(value):
        return 1
    part = 100 * value
    rest = 100 - part
    if 0 < rest < 1:
        return 2
    if part <= 0 or part >= 1:
        return 1
    return 1 - math.floor(math.log10(part))


def _digits(value: float, decimals: int) -> str:
    part = 100 * value
    if part == 0 or abs(part - 100) < 1e-9:
        return f"{part:.0f}"
    text = f"{part:.{decimals}f}"
    if part > 0 and float(text) == 0:
        return f"{part:.{_decimals(value)}f}"
    # 99.999 is not all of them.
    return f"{100 - 10**-decimals:.{decimals}f}" if part < 100 <= float(text) else text
