"""Durations in options: 365d, 12h, 90m."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from verifykit.cli.options import parse_duration
from verifykit.errors import InputError


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("365d", timedelta(days=365)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("99999d", timedelta(days=99999)),
    ],
)
def test_a_number_with_a_unit(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration
    now = datetime.now(timezone.utc)
    assert now - duration < now < now + duration  # within the calendar, either way


@pytest.mark.parametrize(
    "text", ["", "0d", "365", "d", "-1d", "1.5d", "1y", "1D", " 1d", "1d\n", "100000d", "٣d"]
)
def test_other_texts_are_refused_and_named(text: str) -> None:
    with pytest.raises(InputError, match="such as 365d") as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)
