"""Lengths of time as operators write them: ``365d``, ``12h``, ``90m``."""

from __future__ import annotations

import re
from datetime import timedelta

from verifykit.errors import InputError

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def parse_duration(text: str) -> timedelta:
    """A length of time from its text.

    Args:
        text: A whole number of 1 to 99999 and its unit: ``m`` for minutes, ``h`` or ``d``.

    Raises:
        InputError: It is something else.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", text, re.ASCII)
    if match is None:
        raise InputError(
            f"a length of time is a number and m, h or d, such as 365d, 12h or 90m, got {text!r}"
        )
    return int(match[1]) * _UNITS[match[2]]
