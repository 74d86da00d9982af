"""Which subject ids are possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit.gallery import checked_subject_id


@pytest.mark.parametrize(
    "value",
    [
        "alice",
        "team/blue",
        "👩‍👩‍👧 family",
        "Zoë Ångström",
        "名前",
        "עברית",
        "a" * 255,
        "é" * 127,
        "'; DROP TABLE subject",
        "../x",
    ],
)
def test_ordinary_names_are_kept_as_they_are(value: str) -> None:
    assert checked_subject_id(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\u00a0\t",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a\x85b",
        "\ud800",
        "a\u2028b",
        "\u202eecila",
        "a\u2066b",
        "a" * 256,
        "é" * 128,
        None,
        7,
        b"alice",
    ],
)
def test_others_are_refused_with_the_reason(value: object) -> None:
    with pytest.raises(InputError) as caught:
        checked_subject_id(value)
    str(caught.value).encode()  # the message can be printed


@given(st.text())
def test_whatever_is_accepted_can_be_stored_and_printed_on_one_line(value: str) -> None:
    try:
        accepted = checked_subject_id(value)
    except InputError:
        return
    assert 1 <= len(accepted.encode()) <= 255
    assert len(accepted.splitlines()) == 1
