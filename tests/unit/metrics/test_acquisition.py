"""Failure rates are counts of counts, and impossible counts are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifykit.errors import InputError
from verifykit.metrics import failure_to_acquire_rate, failure_to_enrol_rate

BOTH = pytest.mark.parametrize("rate", [failure_to_acquire_rate, failure_to_enrol_rate])


@BOTH
@given(outcomes=st.lists(st.booleans(), min_size=1, max_size=50))
def test_the_rate_is_the_mean_of_the_outcomes(
    rate: Callable[[int, int], float], outcomes: list[bool]
) -> None:
    assert rate(sum(outcomes), len(outcomes)) == pytest.approx(float(np.mean(outcomes)))


@BOTH
def test_counts_of_numpy_are_counts(rate: Callable[..., float]) -> None:
    assert rate(np.int64(1), np.uint8(4)) == 0.25


@BOTH
@pytest.mark.parametrize(
    ("failed", "whole", "what"),
    [
        (0, 0, "must be an integer of at least 1, got 0"),
        (-1, 5, "failed must be an integer of at least 0, got -1"),
        (6, 5, "failed must be at most .*, got 6 of 5"),
        (0.5, 5, "failed must be an integer of at least 0, got 0.5"),
        (True, 5, "failed must be an integer of at least 0, got True"),
    ],
)
def test_counts_that_are_none_are_refused(
    rate: Callable[..., float], failed: Any, whole: int, what: str
) -> None:
    with pytest.raises(InputError, match=what):
        rate(failed, whole)


def test_the_error_names_what_was_counted() -> None:
    with pytest.raises(InputError, match="at most attempted"):
        failure_to_acquire_rate(2, 1)
    with pytest.raises(InputError, match="at most subjects"):
        failure_to_enrol_rate(2, 1)
